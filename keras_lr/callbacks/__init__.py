"""Callbacks that decide by more than the time: by a metric, or for several hyperparameters."""

from keras_lr.callbacks.layer_rates import LayerDecay, LayerRates
from keras_lr.callbacks.param_scheduler import ParamScheduler
from keras_lr.callbacks.plateau import ReduceLROnPlateau

__all__ = ["LayerDecay", "LayerRates", "ParamScheduler", "ReduceLROnPlateau"]
