"""Examples and notes made by a model, and those made elsewhere."""
