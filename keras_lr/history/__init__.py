"""The record of a training run, one value per step."""

from keras_lr.history.callback import LRHistory

__all__ = ["LRHistory"]
