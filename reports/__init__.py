"""Run records in, tables and figures out. Never imports torch.

``sections`` selects the runs and comparisons of each dataset; ``results`` makes the rows of ``results.csv``,
``frames`` those over time and by expert; ``paper`` holds the paper's numbers as data. ``tables``, ``figures``
and ``summary`` are functions of these; ``contents`` puts them together, and ``render`` writes them as
Markdown and, with ``page``, as a web page. ``speed`` does the same for measured speeds.
"""
