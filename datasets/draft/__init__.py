"""A schema drafted from the files alone: read, counted, judged by type, values and names, and written.

``table`` reads every column of every file, ``profile`` counts, ``names`` knows words, ``roles`` finds user,
time, labels and split, ``kinds`` the features, ``vocabularies`` what they share, ``leaks`` what gives a label
away, ``document`` writes it down with the reasons, and ``draft`` calls them in this order.
"""
