"""Population based training: its rule, its rounds, its record and what it finds."""
