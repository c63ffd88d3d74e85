"""Training that runs a whole epoch at once, with the results that ``fit`` gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_lr._keras.rates.hyperparameters import Hyperparameter
from keras_lr._keras.whole_epochs.base import EpochTrainer, check_model
from keras_lr._keras.whole_epochs.data import EpochData, NeedsFit


def make_whole_epochs(
    model: Any,
    data: EpochData,
    validation: EpochData | None,
    rate: Hyperparameter,
    moved: Sequence[Hyperparameter],
) -> EpochTrainer:
    """Return the trainer of a model by whole epochs for this backend.

    Args:
        model: A compiled model.
        data: What to train on.
        validation: What to validate on, if anything.
        rate: The learning rate.
        moved: The hyperparameters that have a value for each batch.

    Raises:
        NeedsFit: If only ``fit`` can train the model.
    """
    check_model(model)
    backend = keras.backend.backend()
    if backend == "jax":
        from keras_lr._keras.whole_epochs.jax import make_epochs

        return make_epochs(model, data, validation, rate, moved)
    if backend == "tensorflow":
        from keras_lr._keras.whole_epochs.tensorflow import LoopedEpochs

        return LoopedEpochs(model, data, validation, moved)
    raise NeedsFit(f"{backend} compiles no step")
