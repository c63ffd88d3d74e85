"""Callbacks whose rate the gradients decide, inside the training step."""

from keras_lr.adaptive.hypergradient import HypergradientDescent

__all__ = ["HypergradientDescent"]
