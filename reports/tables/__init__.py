"""Tables: their rows as people read them (``quality``, ``speed``), and their files (``markup``)."""
