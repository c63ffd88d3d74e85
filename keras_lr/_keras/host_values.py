"""Numbers read from wherever they live, a device or the host.

Relies on public names only. What a value is shows by what it can do: a tensor of PyTorch has
``detach``, an array of JAX ``is_fully_addressable``, a variable of TensorFlow ``read_value``. A
value of any other library is read through numpy.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

STACKED = 64
"""Scalars of JAX in a block. The number is fixed because JAX compiles for each number anew."""


def to_numpy(value: Any) -> np.ndarray:
    """Return a scalar metric, variable or log value as a numpy array, from wherever it lives."""
    # A variable of legacy Keras that lives on several replicas reads in no other way.
    value = value.read_value() if hasattr(value, "read_value") else value
    return np.asarray(keras.ops.convert_to_numpy(value))


def to_float(value: Any) -> float:
    """Return a scalar from wherever it lives; NaN for None."""
    if isinstance(value, float):
        return value
    try:
        return float(np.asarray(value).item())  # much faster than what follows
    except (TypeError, ValueError, RuntimeError):
        if value is None:
            return math.nan
        # A tensor of PyTorch on a GPU is no array.
        return float((value if hasattr(value, "detach") else to_numpy(value)).item())


def read_lazily(variable: Any) -> Any:
    """Return what a scalar variable holds now, for `to_float` to read later.

    Nothing waits for a device here.
    """
    value: Any = variable.value if isinstance(variable, keras.Variable) else variable
    if hasattr(value, "detach"):
        return _tensor_now(value)
    read = getattr(value, "value", None)
    return read() if callable(read) else to_float(value)


def logs_as_now(logs: Any) -> Any:
    """Return logs with the values that they have now, whatever the next step does.

    On PyTorch, and in a step that TensorFlow runs eagerly, a metric such as a count can return its
    variable, or the memory behind it. The next step changes both.
    """
    if isinstance(logs, dict):
        return {name: logs_as_now(value) for name, value in logs.items()}
    value: Any = logs.value if isinstance(logs, keras.Variable) else logs
    if hasattr(value, "detach"):
        return _tensor_now(value)
    if isinstance(value, np.ndarray):
        return value.copy()
    return value.read_value() if hasattr(value, "read_value") else value


def _tensor_now(tensor: Any) -> Any:
    """Return what a tensor of PyTorch holds now: a number on the host, or else a copy."""
    on_host = tensor.device.type == "cpu" and tensor.numel() == 1
    return tensor.item() if on_host else tensor.detach().clone()


def copy_to_host(variable: Any) -> NDArray[Any]:
    """Return a copy of what a variable holds, which later assignments leave alone."""
    if not isinstance(variable, keras.Variable):  # of TensorFlow or of legacy Keras
        return to_numpy(variable).copy()
    if hasattr(variable.value, "detach"):  # a tensor of PyTorch, which knows more types than numpy
        return keras.ops.convert_to_numpy(variable.value)
    try:
        value = np.asarray(variable.value)  # convert_to_numpy would copy twice
    except ValueError:  # one of several replicas
        value = to_numpy(variable)
    return value if value.flags.owndata else value.copy()


def to_floats(values: list[Any]) -> NDArray[np.float64]:
    """Return many scalars of one kind as float64, read together from an accelerator.

    To read one takes PyTorch ten microseconds and JAX a hundred; to read all takes little more.

    Raises:
        AttributeError, TypeError, ValueError, RuntimeError: If they are of several kinds or shapes.
    """
    first: Any = values[0] if values else None
    if hasattr(first, "detach"):  # tensors of PyTorch
        if first.device.type == "cpu":
            return np.array([value.item() for value in values], np.float64)
        import torch

        together = torch.stack(values).detach().cpu().to(torch.float64)
        return together.reshape(len(values)).numpy()
    whole = getattr(first, "is_fully_addressable", False)  # arrays of JAX, none of it elsewhere
    if whole and any(device.platform != "cpu" for device in first.devices()):
        return from_jax(values)
    return np.array([to_float(value) for value in values], np.float64)


def from_jax(values: list[Any]) -> NDArray[np.float64]:
    """Return scalars of JAX as float64, stacked on their device and read in blocks."""
    stacks = []
    for begin in range(0, len(values), STACKED):
        some = values[begin : begin + STACKED]
        stacks.append(_stack()(*some, *some[-1:] * (STACKED - len(some))))
    return np.concatenate([np.asarray(stack, np.float64) for stack in stacks])[: len(values)]


@functools.cache
def _stack() -> Callable[..., Any]:
    """Return the compiled function that stacks scalars of JAX into one array."""
    import jax

    return jax.jit(lambda *values: jax.numpy.stack([value.reshape(()) for value in values]))


def plain_logs(logs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Iterate over the scalars of a mapping of logs, nested ones flattened as Keras does."""
    for name, value in logs.items():
        if isinstance(value, dict):
            yield from plain_logs(value)
        elif math.prod(getattr(value, "shape", ())) == 1:
            yield name, value


def columns_of(
    logs: list[dict[str, Any]], without: Collection[str] = ()
) -> dict[str, NDArray[np.float64]]:
    """Return the scalars in several mappings of logs by name, NaN where one lacks the name.

    Args:
        logs: The mappings.
        without: Names that are left out.
    """
    names = logs[0].keys()
    if all(log.keys() == names for log in logs):
        wanted = [name for name in names if name not in without]
        try:
            return {name: to_floats([log[name] for log in logs]) for name in wanted}
        except (AttributeError, TypeError, ValueError, RuntimeError):
            pass  # something nested, larger than a scalar, or of several kinds
    flat = [{name: to_float(value) for name, value in plain_logs(log)} for log in logs]
    every = dict.fromkeys(name for log in flat for name in log if name not in without)
    return {name: np.array([log.get(name, np.nan) for log in flat]) for name in every}


def samples_in(data: Any) -> int | None:
    """Return the number of samples in a batch of data; None if the batch does not show it."""
    while isinstance(data, _NESTS):
        for part in data.values() if isinstance(data, dict) else data:
            if part is not None:
                data = part
                break
        else:
            return None
    shape = getattr(data, "shape", None)
    return int(shape[0]) if shape else None


_NESTS = (list, tuple, dict)
