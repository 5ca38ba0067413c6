"""What one example is, how it is asked for, and what is good enough."""
