"""Tables: their rows as people read them, one subject a file, and how they are written (``markup``)."""
