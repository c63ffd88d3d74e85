"""Which way the values of a fit get into its training steps.

TensorFlow and JAX compile them in. Elsewhere, on models of legacy Keras, and where Keras is not as
expected, they are set before each execution.
"""

from __future__ import annotations

from typing import Any

import keras

from keras_lr._fit.engines.base import Engine
from keras_lr._fit.engines.jax import JaxEngine
from keras_lr._fit.engines.tensorflow import TensorFlowEngine


def engine_for(session: Any) -> Engine:
    """Choose how values get into the steps of this fit."""
    if not isinstance(session.model, keras.Model):
        engine = Engine(session)
        engine.fall_back()
        return engine
    engines = {"tensorflow": TensorFlowEngine, "jax": JaxEngine}
    return engines.get(keras.backend.backend(), Engine)(session)
