"""`ScannedEpochs` and `StepwiseEpochs`: whole epochs on JAX.

Relies on what `jax_state` relies on, and on this: a train step that is traced inside
``jax.lax.scan`` computes the same as when it is jitted alone. On a CPU, dense, recurrent,
embedding, pooling and normalizing layers were measured to agree bit for bit. Convolutions differ
in the last bits, and take several times as long in a scan (jax issue 12868), so `StepwiseEpochs`
calls the jitted step for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr._keras.fits.jax_state import (
    METRICS,
    OPTIMIZER,
    Place,
    place_of,
    state_with,
    variables_of_state,
)
from keras_lr._keras.fits.train_step import hyperparameters_set
from keras_lr._keras.host_values import to_numpy
from keras_lr._keras.metrics import cumulative_metrics
from keras_lr._keras.rates.hyperparameters import Hyperparameter
from keras_lr._keras.whole_epochs.base import (
    EpochTrainer,
    OnBatch,
    epoch_logs,
    is_as_in_keras,
    report_batches,
)
from keras_lr._keras.whole_epochs.data import EpochData, NeedsFit

CONVOLUTION = "conv_general_dilated"
"""JAX's name for a convolution in a trace."""

_LOG_METHODS = "train_step", "test_step", "compute_metrics"
"""Methods of a model that decide what a step logs."""


class StepwiseEpochs(EpochTrainer):
    """Trainer that calls the jitted steps of Keras one after the other."""

    route = "steps without hooks"

    def __init__(
        self,
        model: Any,
        data: EpochData,
        validation: EpochData | None,
        rate: Hyperparameter,
        moved: Sequence[Hyperparameter],
    ) -> None:
        """Build the model and its functions.

        Args:
            model: See `EpochTrainer`.
            data: See there.
            validation: See there.
            rate: The learning rate.
            moved: See `EpochTrainer`.

        Raises:
            NeedsFit: If NNX is enabled, the rate is not in the state, or whole batches are shuffled
                on a device for which Keras reads them ahead.
        """
        import jax

        if getattr(keras.config, "is_nnx_enabled", lambda: False)():
            raise NeedsFit("NNX is enabled")
        if data.shuffle == "batch" and jax.default_backend() != "cpu":
            raise NeedsFit("fit orders each batch before its turn")
        super().__init__(model, data, validation, moved)
        model.make_train_function()
        model.make_test_function()
        model.reset_metrics()
        self.metrics = [to_numpy(one).copy() for one in model.metrics_variables]
        """The values of the metrics' variables at the start of an epoch."""
        if self._place_of(rate) is None:
            raise NeedsFit("the optimizer's rate is not among its variables")
        self.places = [self._place_of(one) for one in moved]
        self.names = set(model.get_metrics_result())
        as_in_keras = all(is_as_in_keras(model, name) for name in _LOG_METHODS)
        self.logs_are_results = as_in_keras and not cumulative_metrics(model)
        """Whether a step logs the exact results of the metrics: each is a single division."""
        self.state: tuple[Any, ...] = ()

    def _place_of(self, one: Hyperparameter) -> Place | None:
        return place_of(variables_of_state(self.model), one.variable, [OPTIMIZER])

    def take_state(self) -> None:
        """Take the arrays of the variables, which the first step uses up."""
        variables = variables_of_state(self.model)
        self.state = tuple([one.value for one in part] for part in variables)

    def return_state(self) -> None:
        """Put the state back into the variables."""
        self._show(range(len(self.state)))

    def train_epoch(self, order: Any, values: NDArray | None, on_batch: OnBatch) -> dict[str, Any]:
        """Train an epoch, and return what it logs."""
        state = (*self.state[:METRICS], self.metrics)
        logs: dict[str, Any] = {}
        for number, batch in enumerate(_batches(self.data, order)):
            if values is not None:
                state = state_with(state, zip(self.places, values[number], strict=True))
            logs, state = self.model.train_function(state, iter([batch]))
            if not on_batch(number, logs):
                break
        self.state = state
        return self._results(logs)

    def evaluate(self) -> dict[str, Any]:
        """Return the logs of an evaluation on the validation data."""
        assert self.validation is not None
        trainable, non_trainable, optimizer, _ = self.state
        before = trainable, non_trainable, self.metrics
        logs, state = self._evaluate(before, self.validation)
        self.state = (*state[:2], optimizer, state[2])
        return self._results(logs)

    def _evaluate(self, state: tuple[Any, ...], data: EpochData) -> tuple[dict[str, Any], Any]:
        """Return the logs of an evaluation on ``data``, and the weights and metrics after it."""
        logs: dict[str, Any] = {}
        for batch in _batches(data, np.arange(data.rows)):
            logs, state = self.model.test_function(state, iter([batch]))
        return logs, state

    def _results(self, logs: dict[str, Any]) -> dict[str, Any]:
        if self.logs_are_results and logs.keys() == self.names:
            return dict(logs)
        self._show([METRICS])
        return epoch_logs(self.model, logs)

    def _show(self, parts: Any) -> None:
        variables = variables_of_state(self.model)
        for part in parts:
            for variable, value in zip(variables[part], self.state[part], strict=True):
                variable.assign(value)

    def functions(self) -> list[Any]:
        """Return the compiled functions."""
        return [self.model.train_function]


class ScannedEpochs(StepwiseEpochs):
    """Trainer that runs each epoch as one compiled program."""

    route = "whole epochs"

    def __init__(
        self,
        model: Any,
        data: EpochData,
        validation: EpochData | None,
        rate: Hyperparameter,
        moved: Sequence[Hyperparameter],
    ) -> None:
        """Compile the program of an epoch; the data stay on the device. See `StepwiseEpochs`."""
        import jax

        super().__init__(model, data, validation, rate, moved)
        self._train = jax.jit(_program(self._train_step, data), donate_argnums=0)
        if validation is not None:
            self._test = jax.jit(_program(_without_values(model.test_step), validation))

    def _train_step(self, state: Any, batch: Any, values: Any) -> Any:
        if values is not None:
            state = state_with(state, zip(self.places, values, strict=True))
        with hyperparameters_set(self.numbers, values, self.moved):
            return self.model.train_step(state, batch)

    def has_convolutions(self) -> bool:
        """Return whether the step has a convolution; the trace is kept for the training."""
        self.take_state()
        order = self.rehearsal_order().astype(np.int32)
        traced = self._train.trace(self.state, self.data.tensors, order, self.no_values())
        return CONVOLUTION in str(traced.jaxpr)

    def train_epoch(self, order: Any, values: NDArray | None, on_batch: OnBatch) -> dict[str, Any]:
        """Train an epoch, and return what it logs."""
        state = (*self.state[:METRICS], self.metrics)
        logs, self.state, losses = self._train(
            state, self.data.tensors, order.astype(np.int32), values
        )
        report_batches(np.asarray(losses), logs, on_batch)
        return self._results(logs)

    def _evaluate(self, state: tuple[Any, ...], data: EpochData) -> tuple[dict[str, Any], Any]:
        order = np.arange(data.rows, dtype=np.int32)
        logs, after, _ = self._test(state, data.tensors, order, None)
        return logs, after

    def rehearsal_order(self) -> NDArray:
        """Return all rows: the program is compiled for their number."""
        return np.arange(self.data.rows)

    def functions(self) -> list[Any]:
        """Return the compiled functions."""
        return [self._train]


def make_epochs(
    model: Any,
    data: EpochData,
    validation: EpochData | None,
    rate: Hyperparameter,
    moved: Sequence[Hyperparameter],
) -> StepwiseEpochs:
    """Return the faster of the two trainers for a model.

    Raises:
        NeedsFit: If neither can train the model.
    """
    try:
        scanned = ScannedEpochs(model, data, validation, rate, moved)
        if not scanned.has_convolutions():
            return scanned
    except (AttributeError, TypeError, ValueError):
        pass  # a step that changes the types of its state cannot be scanned
    stepwise = StepwiseEpochs(model, data, validation, rate, moved)
    if stepwise.numbers:
        raise NeedsFit(f"Keras compiles {stepwise.numbers[0].name} into its step")
    return stepwise


def _batches(data: EpochData, order: NDArray) -> Iterator[Any]:
    for first in range(0, len(order), data.batch_size):
        yield data.take(order[first : first + data.batch_size])


def _without_values(step: Callable[..., Any]) -> Callable[..., Any]:
    return lambda state, batch, values: step(state, batch)


def _program(step: Callable[..., Any], data: EpochData) -> Callable[..., Any]:
    """Return a function that runs a step on all batches of an epoch.

    Args:
        step: A function of a state, a batch and its values that returns logs and the next state.
        data: The data, whose numbers of rows and batch size are compiled in.
    """
    import jax

    whole, size = data.rows // data.batch_size, data.batch_size

    def run(state: Any, arrays: Any, order: Any, values: Any) -> Any:
        def run_batch(state: Any, place: Any) -> Any:
            rows, row = place
            batch = jax.tree.map(lambda array: array[rows], arrays)
            logs, state = step(tuple(map(list, state)), batch, row)
            return tuple(map(tuple, state)), logs

        state = tuple(map(tuple, state))
        losses = []
        if whole:
            full = order[: whole * size].reshape(whole, size)
            places = (full, None if values is None else values[:whole])
            state, every = jax.lax.scan(run_batch, state, places)
            logs = jax.tree.map(lambda logged: logged[-1], every)
            losses.append(every.get("loss", jax.numpy.zeros(whole)))
        if data.rows % size:
            place = (order[whole * size :], None if values is None else values[-1])
            state, logs = run_batch(state, place)
            losses.append(logs.get("loss", jax.numpy.zeros(()))[None])
        return logs, tuple(map(list, state)), jax.numpy.concatenate(losses)

    return run
