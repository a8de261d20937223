"""One run, from its spec to its record: built, trained or a reference, measured, written."""
