"""Rates that a rule computes from the gradients inside a training step."""
