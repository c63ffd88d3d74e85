"""The trials of a search: their descriptions, and how they are trained."""
