"""The report as a web page that needs nothing but its own file: no network, fonts or outside scripts.

``build`` writes ``OUT/report/index.html`` and a page a run from :class:`reports.contents.Contents`;
``tables`` and ``intervals`` make what a table shows, ``figures`` puts saved SVGs into the page, ``curves``
draws those of a run. Templates escape whatever they are given; the only text they take as it is are the SVGs.
"""
