"""Texts told apart: embeddings, duplicates, gates."""
