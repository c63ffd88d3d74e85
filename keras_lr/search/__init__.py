"""Searches that train many models: sweeps over rates, optimizers and sizes, and populations."""

from keras_lr.search.engines.ray import RayEngine
from keras_lr.search.population.results.result import PopulationResult
from keras_lr.search.population.training import PopulationBasedTraining
from keras_lr.search.results.result import SweepResult
from keras_lr.search.sweep import LRSweep

__all__ = ["LRSweep", "PopulationBasedTraining", "PopulationResult", "RayEngine", "SweepResult"]
