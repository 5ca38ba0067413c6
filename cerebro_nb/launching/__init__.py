"""From what is wanted to a run: kinds of work, how they are launched, and gone on with."""
