"""One trial of a sweep: its description, and the training that it stands for."""
