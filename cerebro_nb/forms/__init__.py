"""What can be filled in before a run, what of it is refused in which words, and the arguments that it means."""
