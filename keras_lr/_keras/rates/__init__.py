"""Hyperparameters of optimizers: found, read, set, and let into a step that is being traced."""
