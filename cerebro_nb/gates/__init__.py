"""What is good enough: gates, and copies refused."""
