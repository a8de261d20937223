"""Files that outlive a killed process: locked, written whole or not at all, and checked when they are read.

Below every other folder; imports none of them.
"""
