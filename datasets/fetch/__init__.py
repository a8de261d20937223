"""Downloads of public datasets."""
