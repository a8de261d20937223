"""Searching each row's training and structure, shared by several processes."""
