"""Examples, notes, judgements and prompts made by a model."""
