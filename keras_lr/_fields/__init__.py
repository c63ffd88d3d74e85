"""Fields of configurable classes: what they may hold, and lengths in time."""
