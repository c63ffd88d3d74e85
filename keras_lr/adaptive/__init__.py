"""Callbacks that compute the rate from the gradients, inside the training step."""

from keras_lr.adaptive.distance import DistanceOverGradients
from keras_lr.adaptive.hypergradient import HypergradientDescent
from keras_lr.adaptive.prodigy import Prodigy

__all__ = ["DistanceOverGradients", "HypergradientDescent", "Prodigy"]
