"""What is said to a server, and how its reply is read."""
