"""What a search is identified by: its fingerprint, and descriptions of the values in it."""
