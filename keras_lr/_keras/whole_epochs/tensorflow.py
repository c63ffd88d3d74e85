"""`LoopedEpochs`: whole epochs on TensorFlow, each in one call of a compiled function.

A ``fit`` of arrays builds a ``tf.data`` pipeline twice in each epoch, which takes as long as many
small steps. Here the rows are gathered inside the compiled function.

Relies on this (Keras 3.0 to 3.15): the step that Keras compiles is a ``tf.function`` of
``train_step``, run by the model's ``distribute_strategy`` and with its ``jit_compile``. The step
knows the shape of a batch only if all batches have the same shape. Compiled in this way, the step
computes the same inside a loop, bit for bit (measured on a CPU, with XLA and without).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lr._keras.fits.train_step import hyperparameters_set
from keras_lr._keras.rates.hyperparameters import Hyperparameter
from keras_lr._keras.whole_epochs.base import EpochTrainer, OnBatch, epoch_logs, report_batches
from keras_lr._keras.whole_epochs.data import EpochData, NeedsFit


class LoopedEpochs(EpochTrainer):
    """Trainer that runs each epoch as one loop of TensorFlow. The state stays in the variables."""

    def __init__(
        self,
        model: Any,
        data: EpochData,
        validation: EpochData | None,
        moved: Sequence[Hyperparameter],
    ) -> None:
        """Compile nothing yet.

        Args:
            model: See `EpochTrainer`.
            data: See there.
            validation: See there.
            moved: See there.

        Raises:
            NeedsFit: If the model is distributed, or its steps do not log a dict of scalars.
        """
        import tensorflow as tf

        default = tf.distribute.get_strategy()
        if tf.distribute.has_strategy() or model.distribute_strategy is not default:
            raise NeedsFit("the model is distributed")
        super().__init__(model, data, validation, moved)
        self._train = _loop(model, model.train_step, data, self.moved)
        self._test = None if validation is None else _loop(model, model.test_step, validation, [])

    def train_epoch(self, order: Any, values: NDArray | None, on_batch: OnBatch) -> dict[str, Any]:
        """Train an epoch, and return what it logs."""
        self.model.reset_metrics()
        logs, losses = self._train(order, values)
        report_batches(losses.numpy(), logs, on_batch)
        return epoch_logs(self.model, logs)

    def evaluate(self) -> dict[str, Any]:
        """Return the logs of an evaluation on the validation data."""
        assert self.validation is not None
        assert self._test is not None
        self.model.reset_metrics()
        logs, _ = self._test(np.arange(self.validation.rows), None)
        return epoch_logs(self.model, logs)

    def functions(self) -> list[Any]:
        """Return the compiled functions."""
        return [self._train]


def _loop(
    model: Any, step: Callable[..., Any], data: EpochData, moved: list[Hyperparameter]
) -> Callable[..., Any]:
    """Return a compiled function that runs a step on all batches of an order of the rows.

    Args:
        model: The model.
        step: Its step, a function of a batch that returns logs.
        data: The data to take the rows from.
        moved: The hyperparameters that have a value for each batch.

    Raises:
        NeedsFit: If the step does not return a dict of scalars.
    """
    import tensorflow as tf

    numbers = [one for one in moved if one.variable is None]

    def run_step(batch: Any, *values: Any) -> Any:
        with hyperparameters_set(numbers, values, numbers):
            return model.distribute_strategy.run(step, args=(batch,))

    run = tf.function(
        run_step,
        reduce_retracing=True,
        jit_compile=model.jit_compile,
        autograph=False,
    )
    size = data.batch_size
    fixed = None if data.rows % size else size
    spec = tf.nest.map_structure(
        lambda array: tf.TensorSpec([fixed, *array.shape[1:]], array.dtype), data.tensors
    )
    number = tf.TensorSpec((), tf.float32)
    logged = run.get_concrete_function(spec, *[number] * len(numbers)).structured_outputs
    if not isinstance(logged, dict) or any(
        not hasattr(one, "dtype") or one.shape.rank != 0 for one in logged.values()
    ):
        raise NeedsFit("a step of the model logs something other than a dict of scalars")

    def loop(order: Any, values: Any) -> Any:
        rows = tf.size(order)
        count = (rows + size - 1) // size

        def run_batch(number: Any, logs: Any, losses: Any) -> Any:
            chosen = order[number * size : tf.minimum((number + 1) * size, rows)]
            chosen.set_shape([fixed])
            row = [] if values is None else tf.unstack(values[number])
            for one, value in zip(moved, row, strict=True):
                if one.variable is not None:
                    one.variable.assign(value)
            batch = tf.nest.map_structure(lambda array: tf.gather(array, chosen), data.tensors)
            logs = run(batch, *[row[moved.index(one)] for one in numbers])
            loss = tf.cast(logs["loss"], tf.float64) if "loss" in logs else tf.zeros((), tf.float64)
            return number + 1, logs, losses.write(number, loss)

        begin = (
            tf.constant(0),
            {name: tf.zeros(one.shape, one.dtype) for name, one in logged.items()},
            tf.TensorArray(tf.float64, count, element_shape=()),
        )
        _, logs, losses = tf.while_loop(
            lambda number, *_: number < count, run_batch, begin, parallel_iterations=1
        )
        return logs, losses.stack()

    # TensorFlow counts by the code how often it compiles, and would warn of a loop for each model.
    compiled = tf.function(functools.partial(loop), autograph=False)

    # Numpy arrays would be baked in, and every new array would be compiled for again.
    def call(order: NDArray, values: NDArray | None) -> Any:
        return compiled(tf.constant(order), None if values is None else tf.constant(values))

    return call
