"""Rates that a rule reads off the gradients inside a training step."""
