"""Chunks of documents as vectors, and the search over them."""
