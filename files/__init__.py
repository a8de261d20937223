"""Files that survive a killed process: locked, written atomically, and verified when they are read.

The lowest package: it imports no other.
"""
