"""Past one process: items that are worked on by several, on this machine or on others."""
