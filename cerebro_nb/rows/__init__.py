"""Rows of one's own, from files and tables."""
