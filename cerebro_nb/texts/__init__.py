"""Texts told apart: embeddings, duplicates, rules."""
