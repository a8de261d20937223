"""Run records in, tables and figures out. Never imports torch, nor anything else of this project.

``records`` reads ``OUT/runs/*/record.json``; ``results`` makes the rows of ``results.csv``, ``frames`` those
over time; ``paper`` holds the paper's numbers as data, each with its table and row; ``tables``, ``costs``,
``summary``, ``against`` and the figures are functions of those rows alone; ``contents`` puts them together,
and ``render`` writes them as ``report.md`` and, with ``page``, as a web page. A notebook may call any of
them: each figure's function takes a DataFrame and returns a figure.
"""
