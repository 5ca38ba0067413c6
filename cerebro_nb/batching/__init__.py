"""Many items through a client into the ledger."""
