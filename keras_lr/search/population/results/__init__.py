"""What a population has found: its rows, and how they are shown."""
