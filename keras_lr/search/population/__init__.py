"""Population based training: its rule, rounds, record and results."""
