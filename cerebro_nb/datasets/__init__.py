"""From the examples of a task to a data set."""
