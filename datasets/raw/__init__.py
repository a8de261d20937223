"""How the raw files of one's own tables are found, read as text or parquet, and checked."""
