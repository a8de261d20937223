"""Figures with seaborn and matplotlib: each function takes a DataFrame and returns the axes it drew into.

Besides, each takes the options that :class:`reports.figures.drawing.panels.Options` explains.

The frames are rows of ``comparisons.csv``, ``tiers.csv``, ``results.csv`` and ``profile.csv`` of one dataset,
and the curves of :mod:`reports.frames`. Models are drawn in the order in which a frame first names them, and
this order decides their colours and markers; ``looks`` gives them the same ones in several figures.
"""
