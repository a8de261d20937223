"""Tables that an engine staged, put in order and counted: the folder, its checks, and how Ray makes it."""
