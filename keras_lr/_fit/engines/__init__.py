"""Engines: how the values of a fit get into its training steps.

TensorFlow and JAX compile them in. On other backends, on models of legacy Keras, and where Keras is
not as expected, they are set from the host before each execution.
"""

from __future__ import annotations

from typing import Any

import keras

from keras_lr._fit.engines.base import EagerEngine, Engine, Session
from keras_lr._keras.fits.jax_state import steps_take_state


def engine_for(session: Session) -> Engine:
    """Return the engine that gets the values into the steps of this fit.

    Raises:
        RuntimeError: If a hyperparameter cannot move in this fit.
    """
    return _kind_of_engine(session.model)(session).start()


def _kind_of_engine(model: Any) -> type[Engine]:
    if not isinstance(model, keras.Model):
        return Engine
    match keras.backend.backend():
        case "tensorflow":
            from keras_lr._fit.engines.tensorflow import TensorFlowEngine

            return TensorFlowEngine
        case "jax":
            from keras_lr._fit.engines.jax import JaxEngine

            return JaxEngine
        case "torch":
            return EagerEngine
    if not steps_take_state():
        return Engine
    from keras_lr._fit.engines.stateless import StatelessEngine

    return StatelessEngine
