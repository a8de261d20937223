"""Run records in, tables and figures out. Never imports torch, nor anything else of this project.

``records`` reads ``OUT/runs/*/record.json`` and writes ``results.csv`` and ``results.parquet``;
``paper`` holds the paper's numbers as data, each with its table and row; ``tables``, ``figures`` and
``summary`` are functions of those rows alone; ``render`` puts them together as ``report.md``. A
notebook may call any of them: each figure's function takes a DataFrame and returns a figure.
"""
