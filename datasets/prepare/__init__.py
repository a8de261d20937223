"""From a table of raw rows to encoded shards."""
