"""A model's whole state, taken and put back bit for bit, in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr._keras.host_values import to_numpy
from keras_lr._keras.random_state import random_states

_ABSENT = object()

# What fit leaves on a model. The functions are kept, so that nothing is traced a second time.
_ATTRIBUTES = (
    "history",
    "stop_training",
    "train_function",
    "test_function",
    "predict_function",
    "steps_per_execution",
    "_initial_epoch",
    "_eval_epoch_iterator",
)


class Snapshot:
    """The state of a model at one moment.

    It holds every variable of the model (weights, statistics, seeds of dropout), of its metrics and
    of its optimizers (slots, iterations, learning rate, loss scale), the numbers of the optimizers,
    what ``fit`` leaves on the model, and the random states that shuffle the data: those of Python,
    numpy, Keras, TensorFlow and PyTorch. What the data count themselves is not in it: the position
    of a generator, or how often a shuffled ``tf.data.Dataset`` was read.

    The variables are copied to the host once. An optimizer that is not built yet is built first,
    and the training function made, which changes nothing that training would compute.

    Args:
        model: A built model.

    Raises:
        ValueError: If the model has no variables yet.

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
        if not model.built:
            raise ValueError(
                f"The model {model.name!r} is not built, so there is no state to keep. Give it an "
                "Input, call it on a batch, or call model.build(input_shape) first."
            )
        self.model = model
        if getattr(model, "optimizer", None) is not None:
            if not _is_built(model.optimizer):
                model.optimizer.build(model.trainable_variables)
            model.make_train_function()
        if hasattr(model, "jax_state_sync"):
            model.jax_state_sync()
        self._values = [(v, _to_host(v)) for v in _variables(model)]
        self._optimizers = [(o, _is_built(o), _numbers(o)) for o in _optimizers(model)]
        self._attributes = {name: getattr(model, name, _ABSENT) for name in _ATTRIBUTES}
        compiled = (getattr(model, name, None) for name in ("_compile_metrics", "_compile_loss"))
        self._unbuilt = [part for part in compiled if part is not None and not part.built]
        self._random = random_states()

    def restore(self) -> None:
        """Put everything back; may be called any number of times."""
        if hasattr(self.model, "jax_state_sync"):
            # An interrupted epoch leaves its state here, and the variables empty.
            self.model._jax_state = None
            self.model._jax_state_synced = True
        for variable, value in self._values:
            variable.assign(value)
        known = {id(variable) for variable, _ in self._values}
        reset_metrics(self.model, known)
        for optimizer, was_built, numbers in self._optimizers:
            for name, number in numbers.items():
                if getattr(optimizer, name) != number:
                    setattr(optimizer, name, number)
            if _is_built(optimizer) and not was_built:
                _forget_slots(optimizer, known)
        for name, attribute in self._attributes.items():
            if attribute is not _ABSENT:
                if getattr(self.model, name, _ABSENT) is not attribute:
                    setattr(self.model, name, attribute)
            elif hasattr(self.model, name):
                delattr(self.model, name)
        if keras.backend.backend() != "tensorflow":
            # To build them, the first fit reads a batch, and so moves the random states.
            for part in self._unbuilt:
                part.built = False
                # A loss adds those of its outputs to the ones that it has.
                if isinstance(getattr(part, "_metrics", None), list):
                    part._metrics.clear()
        for put_back in self._random:
            put_back()

    def put_back(self) -> None:
        """Restore the state for good: a Ctrl-C in the middle of it is raised when it is done."""
        try:
            self.restore()
        except KeyboardInterrupt:
            self.restore()
            raise


@contextlib.contextmanager
def kept(model: Any) -> Iterator[Snapshot]:
    """Train inside, and find the model as it was outside, also after an exception or Ctrl-C.

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> with kept(model):
    ...     _ = model.fit(np.ones((8, 2)), np.ones((8, 1)), verbose=0)
    >>> int(model.optimizer.iterations)
    0
    """
    snapshot = Snapshot(model)
    try:
        yield snapshot
    finally:
        snapshot.put_back()


def metrics_of(model: Any) -> list[tuple[Any, NDArray]]:
    """Return every variable of a model's metrics, with the value that it has now."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()
    return [(v, _to_host(v)) for metric in model.metrics for v in metric.variables]


def reset_metrics(model: Any, known: set[int]) -> None:
    """Reset those metrics of a model that have other variables than the known ones, by identity."""
    for metric in model.metrics:
        if any(id(v) not in known for v in metric.variables):
            metric.reset_state()


def _to_host(variable: Any) -> NDArray:
    if not isinstance(variable, keras.Variable):  # of legacy Keras
        return to_numpy(variable).copy()
    if keras.backend.backend() == "torch":
        return keras.ops.convert_to_numpy(variable.value)
    try:
        value = np.asarray(variable.value)  # convert_to_numpy would copy twice
    except ValueError:  # one of several replicas
        value = to_numpy(variable)
    return value if value.flags.owndata else value.copy()


def _optimizers(model: Any) -> list[Any]:
    """The optimizers of a model, the several of a GAN and those inside loss-scale wrappers too."""
    found: dict[int, Any] = {}
    waiting = list(vars(model).values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, list | tuple):
            waiting += [one for one in value if _is_optimizer(one)]
        elif isinstance(value, dict):
            waiting += [one for one in value.values() if _is_optimizer(one)]
        elif _is_optimizer(value) and id(value) not in found:
            found[id(value)] = value
            waiting.append(getattr(value, "inner_optimizer", None))
    return list(found.values())


def _is_optimizer(value: Any) -> bool:
    # Those of legacy Keras are of another class.
    return hasattr(value, "apply_gradients") and hasattr(value, "variables")


def _is_built(optimizer: Any) -> bool:
    return bool(getattr(optimizer, "built", getattr(optimizer, "_built", False)))


def _variables(model: Any) -> list[Any]:
    """Every variable that training may change, each once."""
    groups = [model.variables, *(m.variables for m in model.metrics)]
    groups += [o.variables for o in _optimizers(model)]
    return list({id(v): v for group in groups for v in group}.values())


def _numbers(optimizer: Any) -> dict[str, Any]:
    """The plain numbers of an optimizer, such as ``momentum``."""
    return {
        name: value
        for name, value in vars(optimizer).items()
        if isinstance(value, int | float) and name not in ("built", "_built")
    }


def _forget_slots(optimizer: Any, known: set[int]) -> None:
    """Give the slots that came after the snapshot the values of a newly built optimizer."""
    fresh = type(optimizer).from_config(optimizer.get_config())
    fresh.build(optimizer._trainable_variables)
    for variable, new in zip(optimizer.variables, fresh.variables, strict=True):
        if id(variable) not in known:
            variable.assign(new.value)
