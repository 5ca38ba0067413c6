"""The command line: thin over all that stands above."""
