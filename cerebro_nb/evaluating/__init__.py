"""How good examples are; and whether a training helped: a model before and after it on what was held out."""
