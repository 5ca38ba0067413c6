"""Machines that work together: a ledger of PostgreSQL that workers share, and the names of the places of a run."""
