"""How work waits, runs beside other work, is tried again and held back."""
