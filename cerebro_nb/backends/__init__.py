"""Servers and the embedded engine, behind one protocol."""
