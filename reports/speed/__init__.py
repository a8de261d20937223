"""The report on measured speeds: ``profile.json`` in, its tables, figures, text and page out."""
