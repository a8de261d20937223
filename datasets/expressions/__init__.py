"""Labels as expressions of columns."""
