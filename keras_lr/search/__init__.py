"""Searches that train many times: the sweep over rates, optimizers and sizes."""

from keras_lr.search.engines.ray import RayEngine
from keras_lr.search.results.result import SweepResult
from keras_lr.search.sweep import LRSweep

__all__ = ["LRSweep", "RayEngine", "SweepResult"]
