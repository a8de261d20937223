"""Drafts a schema from files, judging their columns by type, values and names.

``table`` reads every column of every file, ``profile`` counts, and ``names`` knows what words in names mean.
``roles`` finds user, time, labels and split; ``kinds`` the features; ``vocabularies`` what these share; and
``leaks`` what gives a label away. ``document`` writes the schema with the reasons. ``draft`` calls them all.
"""
