"""Callbacks that are more than a schedule of the rate: by a metric, by layer, by hyperparameter."""

from keras_lr.callbacks.layer_rates import LayerDecay, LayerRates
from keras_lr.callbacks.param_scheduler import ParamScheduler
from keras_lr.callbacks.plateau import ReduceLROnPlateau

__all__ = ["LayerDecay", "LayerRates", "ParamScheduler", "ReduceLROnPlateau"]
