"""What is asked for, and what is good enough."""
