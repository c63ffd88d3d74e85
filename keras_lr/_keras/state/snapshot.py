"""The whole state of a model, copied and put back bit for bit, in memory.

Relies on names of Keras 3 (the same in 3.12 and 3.15) that are not promised:

- ``_jax_state`` and ``_jax_state_synced`` of a model on JAX: what an interrupted epoch left. Where
  they are missing, the public `jax_state_sync` clears it, which fails if the arrays are used up.
- ``_compile_loss``, ``_compile_metrics`` and the ``_metrics`` of both: what the first fit
  builds. Where one is missing it stays built, and the next fit may shuffle differently on JAX and
  PyTorch, because it reads one batch less.
- ``_initial_epoch`` and ``_eval_epoch_iterator`` of a model: put back only where they exist.
- ``_trainable_variables`` of an optimizer: read only if the optimizer was built after the snapshot;
  where it is missing, the error says to build the optimizer first.

``_built`` is the name of ``built`` in legacy Keras.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
from numpy.typing import NDArray

from keras_lr._keras.fits.jax_state import sync_state
from keras_lr._keras.fits.mean_updates import metrics_held_by
from keras_lr._keras.host_values import copy_to_host, to_numpy
from keras_lr._keras.model_layers import is_model_built
from keras_lr._keras.rates.optimizers import held_optimizers, is_built
from keras_lr._keras.state.held_state import (
    adopt_held_state,
    capture_held_state,
    export_held_state,
)
from keras_lr._keras.state.object_walk import optimizers_in, walk_objects
from keras_lr._keras.state.random_kernels import draws_from_kernels
from keras_lr._keras.state.random_state import keep_random_states

_ABSENT = object()

_FIT_ATTRIBUTES = (
    "history",
    "stop_training",
    "train_function",
    "test_function",
    "predict_function",
    "steps_per_execution",
    "_initial_epoch",
    "_eval_epoch_iterator",
)
"""Attributes that fit leaves on a model. Its functions are kept, so that none is traced again."""

_COMPILED_PARTS = "_compile_metrics", "_compile_loss"
"""Parts that the first fit builds from the arguments of compile."""


class ModelState(NamedTuple):
    """The contents of a snapshot, as plain data."""

    values: list[NDArray]
    """The values of the variables, in the order of `values_of`."""
    held: list[Any]
    """The state that the model's objects hold themselves."""
    numbers: list[dict[str, Any]]
    """The plain numbers of each optimizer."""
    random_states: dict[str, Any]
    """The random states by name."""


class Snapshot:
    """State of a model at one moment.

    It holds every variable of the model (weights, statistics, seeds of dropout), of its metrics and
    of its optimizers (slots, iterations, learning rate, loss scale), the numbers of the optimizers,
    what ``fit`` leaves on the model, and the random states that shuffle the data: those of Python,
    numpy, Keras, TensorFlow and PyTorch. It also holds what the model's objects keep themselves:
    untracked variables such as the states of a stateful RNN; variables, generators and lookup
    tables of TensorFlow; buffers and tensors of PyTorch; numbers in layers of the user's. What the
    data count themselves is not in it: the position of a generator, or how often a shuffled
    ``tf.data.Dataset`` was read.

    The variables are copied to the host once. An optimizer that is not built yet is built first,
    and the training function made, which changes nothing that training would compute.

    Args:
        model: A built model.

    Raises:
        ValueError: If the model has no variables yet.

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> before = model.get_weights()[0]
    >>> snapshot = Snapshot(model)
    >>> _ = model.fit(np.ones((8, 2)), np.ones((8, 1)), verbose=0)
    >>> snapshot.restore()
    >>> bool((model.get_weights()[0] == before).all()), int(model.optimizer.iterations)
    (True, 0)
    """

    def __init__(self, model: Any) -> None:
        """Copy the state of ``model``."""
        if not is_model_built(model):
            raise ValueError(
                f"The model {model.name!r} is not built, so there is no state to keep. Give it an "
                "Input, or call it on a batch first."
            )
        self.model = model
        build_optimizer(model)
        if getattr(model, "optimizer", None) is not None:
            model.make_train_function()
        self._function = getattr(model, "train_function", None)
        self.keeps_kernels = draws_from_kernels(self._function)
        """Whether random operations in the model's train function count draws of earlier fits.

        Another function trains the model meanwhile, and TensorFlow must not drop its kernels.
        """
        if self.keeps_kernels:
            self._renew_train_function()
        sync_state(model)
        self._values = [(variable, copy_to_host(variable)) for variable in _all_variables(model)]
        known = {id(variable) for variable, _ in self._values}
        places = list(walk_objects(model))
        self._held = capture_held_state(model, places, known, set(_FIT_ATTRIBUTES))
        self._optimizers = [
            (optimizer, _plain_numbers(optimizer), _unbuilt_copy(optimizer))
            for optimizer in optimizers_in(model, places)
        ]
        self._attributes = {name: getattr(model, name, _ABSENT) for name in _FIT_ATTRIBUTES}
        compiled = (getattr(model, name, None) for name in _COMPILED_PARTS)
        self._unbuilt = [
            part for part in compiled if part is not None and _can_be_built_again(part)
        ]
        self._random_states = keep_random_states()

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of each variable that it holds, in the order of `values_of`."""
        return [value.shape for _, value in self._values]

    @property
    def has_fit_read_ahead(self) -> bool:
        """Whether a ``fit`` after a restore reads a batch before it trains, to build parts."""
        return bool(self._unbuilt) and keras.backend.backend() != "tensorflow"

    def export(self) -> ModelState:
        """Return the state for another model of the same kind, which another process may have.

        The values are those that the snapshot holds, not copies.
        """
        return ModelState(
            [value for _, value in self._values],
            export_held_state(self._held),
            [numbers for _, numbers, _ in self._optimizers],
            {name: state.value for name, state in self._random_states.items()},
        )

    def adopt(self, state: ModelState) -> None:
        """Hold the state of another model of the same kind instead of that of this one.

        Raises:
            ValueError: If the models differ in what they hold; the snapshot then is as it was.
        """
        values = [
            (variable, value)
            for (variable, _), value in zip(self._values, state.values, strict=True)
        ]
        optimizers = [
            (optimizer, numbers, fresh)
            for (optimizer, _, fresh), numbers in zip(self._optimizers, state.numbers, strict=True)
        ]
        self._held = adopt_held_state(self._held, state.held)
        self._values, self._optimizers = values, optimizers
        for name, value in state.random_states.items():
            if name in self._random_states:
                self._random_states[name] = self._random_states[name]._replace(value=value)

    def restore(self, values: list[NDArray] | None = None, unbuild: bool = True) -> None:
        """Put everything back; may be called any number of times.

        Args:
            values: What to put into the variables instead of what they held, in the order of
                `values_of`: that of another model of the same kind.
            unbuild: Whether the next ``fit`` builds the compiled loss and metrics again, if they
                were not built.
        """
        _discard_interrupted_epoch(self.model)
        kept = [value for _, value in self._values]
        for (variable, _), value in zip(self._values, values or kept, strict=True):
            variable.assign(value)
        for held in self._held:
            held.put_back()
        known = {id(variable) for variable, _ in self._values}
        reset_metrics(self.model, known)
        for optimizer, numbers, fresh in self._optimizers:
            _restore_numbers(optimizer, numbers)
            if fresh is not None and is_built(optimizer):
                _reset_slots(optimizer, fresh, known)
        self._restore_attributes()
        if self.keeps_kernels:
            self._renew_train_function()
        if unbuild:
            self._unbuild_compiled_parts()
        for state in self._random_states.values():
            state.put_back()

    def _restore_attributes(self) -> None:
        for name, attribute in self._attributes.items():
            if attribute is not _ABSENT:
                if getattr(self.model, name, _ABSENT) is not attribute:
                    setattr(self.model, name, attribute)
            elif hasattr(self.model, name):
                delattr(self.model, name)

    def _unbuild_compiled_parts(self) -> None:
        """Have the next fit build the compiled loss and metrics again if the snapshot came before.

        To build them, JAX and PyTorch read a batch, which moves the random states.
        """
        if keras.backend.backend() == "tensorflow":
            return
        for part in self._unbuilt:
            part.built = False
            part._metrics.clear()

    def restore_for_good(self) -> None:
        """Restore the state for good; an interrupting Ctrl-C is raised only once it is restored."""
        try:
            self._restore_all()
        except KeyboardInterrupt:
            self._restore_all()
            raise

    def _restore_all(self) -> None:
        self.restore()
        if self.keeps_kernels:
            self.model.train_function = self._function
        elif draws_from_kernels(self._function):
            # It was traced with the seeds that were set meanwhile.
            self._renew_train_function()

    def renew_functions(self) -> None:
        """Make the model compile its functions again, so that their random operations restart."""
        self._renew_train_function()
        self._attributes["train_function"] = self._function = self.model.train_function
        if self.model.test_function is not None:
            self.model.test_function = None
            self.model.make_test_function()
            self._attributes["test_function"] = self.model.test_function

    def _renew_train_function(self) -> None:
        """Give the model a new train function, whose random operations have drawn nothing yet."""
        self.model.train_function = None
        self.model.make_train_function()


@contextlib.contextmanager
def state_preserved(model: Any) -> Iterator[Snapshot]:
    """Keep the state of a model while code inside trains it, also after an exception or Ctrl-C.

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> with state_preserved(model):
    ...     _ = model.fit(np.ones((8, 2)), np.ones((8, 1)), verbose=0)
    >>> int(model.optimizer.iterations)
    0
    """
    snapshot = Snapshot(model)
    try:
        yield snapshot
    finally:
        snapshot.restore_for_good()


def metrics_of(model: Any) -> list[tuple[Any, NDArray]]:
    """Return every variable of a model's metrics, with the value that it has now."""
    sync_state(model)
    return [(v, copy_to_host(v)) for metric in model.metrics for v in metric.variables]


def initial_metrics(model: Any) -> list[tuple[Any, NDArray]]:
    """Return every variable of a model's metrics, with the value that it has after a reset.

    Metrics that a model holds and does not list are among them: its step may log them all the same.
    Metrics of legacy Keras are reset to find out.
    """
    found: list[tuple[Any, NDArray]] = []
    metrics = {id(metric): metric for metric in (*model.metrics, *metrics_held_by(model))}
    for metric in metrics.values():
        if hasattr(metric, "stateless_reset_state"):
            values = [to_numpy(value).copy() for value in metric.stateless_reset_state()]
        else:
            metric.reset_state()
            values = [copy_to_host(variable) for variable in metric.variables]
        found += zip(metric.variables, values, strict=True)
    return found


def reset_metrics(model: Any, known: set[int]) -> None:
    """Reset those metrics of a model that have other variables than the known ones, by identity."""
    for metric in model.metrics:
        if any(id(v) not in known for v in metric.variables):
            metric.reset_state()


def build_optimizer(model: Any) -> None:
    """Give the optimizer of a model its slots, if it is compiled and has none yet."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not is_built(optimizer):
        optimizer.build(model.trainable_variables)


def values_of(model: Any) -> list[NDArray]:
    """Return copies of all variables that a training run changes, in the order of a snapshot."""
    return [copy_to_host(variable) for variable in _all_variables(model)]


def _all_variables(model: Any) -> list[Any]:
    """Return every variable that training may change, each once."""
    groups = [model.variables, *(metric.variables for metric in model.metrics)]
    groups += [optimizer.variables for optimizer in held_optimizers(model).values()]
    return list({id(variable): variable for group in groups for variable in group}.values())


def _can_be_built_again(part: Any) -> bool:
    """Return whether a compiled part is not built yet, and can be put back to that.

    To build it adds metrics to those that it has.
    """
    return not part.built and isinstance(getattr(part, "_metrics", None), list)


def _discard_interrupted_epoch(model: Any) -> None:
    """Drop what an interrupted epoch left on a model of JAX: its variables are empty until then."""
    if hasattr(model, "_jax_state"):
        model._jax_state = None
        model._jax_state_synced = True
    sync_state(model)


def _plain_numbers(optimizer: Any) -> dict[str, Any]:
    """Return the plain numbers of an optimizer, such as ``momentum``."""
    return {
        name: value
        for name, value in vars(optimizer).items()
        if isinstance(value, int | float) and name not in ("built", "_built")
    }


def _restore_numbers(optimizer: Any, numbers: dict[str, Any]) -> None:
    for name, number in numbers.items():
        if getattr(optimizer, name) != number:
            setattr(optimizer, name, number)


def _unbuilt_copy(optimizer: Any) -> Any:
    """Return a new optimizer like one that has no slots yet; None for one that has them.

    Raises:
        ValueError: If the optimizer cannot be made from its config.
    """
    if is_built(optimizer):
        return None
    try:
        return type(optimizer).from_config(optimizer.get_config())
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"The optimizer {type(optimizer).__name__} is not built and cannot be built again from "
            f"its config, so its slots could not be put back: {error}. Build it first: "
            "optimizer.build(variables)."
        ) from error


def _reset_slots(optimizer: Any, fresh: Any, known: set[int]) -> None:
    """Give the slots that came after the snapshot the values of a newly built optimizer.

    Raises:
        RuntimeError: If the optimizer does not tell which variables it was built for.
    """
    if not is_built(fresh):
        if not hasattr(optimizer, "_trainable_variables"):
            raise RuntimeError(
                f"The optimizer {type(optimizer).__name__} was built during the training, and this "
                "Keras does not tell for which variables. Build it first: "
                "optimizer.build(variables)."
            )
        fresh.build(optimizer._trainable_variables)
    for variable, new in zip(optimizer.variables, fresh.variables, strict=True):
        if id(variable) not in known:
            variable.assign(new.value)
