"""The ledger: tasks, items and attempts in a database."""
