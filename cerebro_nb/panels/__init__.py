"""Set, run, watch, review and export in a notebook."""
