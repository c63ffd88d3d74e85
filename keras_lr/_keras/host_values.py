"""Functions that read numbers from wherever they live, a device or the host.

Relies on public names only. The kind of a value is told by its attributes: a PyTorch tensor has
``detach``, a JAX array has ``is_fully_addressable``, and a TensorFlow variable has ``read_value``.
A value of any other library is read through numpy.
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
"""JAX scalars in a block. The number is fixed because JAX compiles again for each new number."""


def to_numpy(value: Any) -> np.ndarray:
    """Return a scalar metric, variable or log value as a numpy array, from wherever it lives."""
    # The only way to read a variable of legacy Keras that lives on several replicas.
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
        # A PyTorch tensor on a GPU does not convert to an array.
        return float((value if hasattr(value, "detach") else to_numpy(value)).item())


def is_on_host(value: Any) -> bool:
    """Return whether a value can be read without waiting for an accelerator."""
    if hasattr(value, "detach"):  # a PyTorch tensor
        return value.device.type == "cpu"
    if hasattr(value, "is_fully_addressable"):  # a JAX array
        return all(device.platform == "cpu" for device in value.devices())
    # TensorFlow and numpy name the device in a string: "/job:localhost/.../device:GPU:0", "cpu".
    device = getattr(value, "device", None)
    return not isinstance(device, str) or not device or "cpu" in device.lower()


def read_lazily(variable: Any) -> Any:
    """Return the present value of a scalar variable, for `to_float` to read later.

    This does not wait for the device.
    """
    value: Any = variable.value if isinstance(variable, keras.Variable) else variable
    if hasattr(value, "detach"):
        return _copy_tensor(value)
    read = getattr(value, "value", None)
    return read() if callable(read) else to_float(value)


def copy_logs(logs: Any) -> Any:
    """Return a copy of logs that the next step cannot change.

    On PyTorch, and in a step that TensorFlow runs eagerly, a metric such as a count can return its
    variable, or the memory behind it. The next step changes both.
    """
    if isinstance(logs, dict):
        return {name: copy_logs(value) for name, value in logs.items()}
    value: Any = logs.value if isinstance(logs, keras.Variable) else logs
    if hasattr(value, "detach"):
        return _copy_tensor(value)
    if isinstance(value, np.ndarray):
        return value.copy()
    return value.read_value() if hasattr(value, "read_value") else value


def _copy_tensor(tensor: Any) -> Any:
    """Return the present value of a PyTorch tensor: a Python number if it is cheap, else a copy."""
    on_host = tensor.device.type == "cpu" and tensor.numel() == 1
    return tensor.item() if on_host else tensor.detach().clone()


def copy_to_host(variable: Any) -> NDArray[Any]:
    """Return a copy of a variable's value, which later assignments do not change."""
    if not isinstance(variable, keras.Variable):  # of TensorFlow or of legacy Keras
        return to_numpy(variable).copy()
    if hasattr(variable.value, "detach"):  # a PyTorch tensor, which has more types than numpy
        return keras.ops.convert_to_numpy(variable.value)
    try:
        value = np.asarray(variable.value)  # convert_to_numpy would copy twice
    except ValueError:  # one of several replicas
        value = to_numpy(variable)
    return value if value.flags.owndata else value.copy()


def to_floats(values: list[Any]) -> NDArray[np.float64]:
    """Return many scalars of one kind as float64, read together from an accelerator.

    Reading one takes PyTorch ten microseconds and JAX a hundred; reading all takes little more.

    Raises:
        AttributeError, TypeError, ValueError, RuntimeError: If their kinds or shapes differ.
    """
    first: Any = values[0] if values else None
    if hasattr(first, "detach"):  # PyTorch tensors
        if first.device.type == "cpu":
            return np.array([value.item() for value in values], np.float64)
        import torch

        together = torch.stack(values).detach().cpu().to(torch.float64)
        return together.reshape(len(values)).numpy()
    whole = getattr(first, "is_fully_addressable", False)  # JAX arrays, all of them on this host
    if whole and any(device.platform != "cpu" for device in first.devices()):
        return from_jax(values)
    return np.array([to_float(value) for value in values], np.float64)


def from_jax(values: list[Any]) -> NDArray[np.float64]:
    """Return JAX scalars as float64, stacked on their device and read in blocks."""
    stacks = []
    for begin in range(0, len(values), STACKED):
        some = values[begin : begin + STACKED]
        stacks.append(_stack()(*some, *some[-1:] * (STACKED - len(some))))
    return np.concatenate([np.asarray(stack, np.float64) for stack in stacks])[: len(values)]


@functools.cache
def _stack() -> Callable[..., Any]:
    """Return the compiled function that stacks JAX scalars into one array."""
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
            pass  # some values are nested, larger than a scalar, or of different kinds
    flat = [{name: to_float(value) for name, value in plain_logs(log)} for log in logs]
    every = dict.fromkeys(name for log in flat for name in log if name not in without)
    return {name: np.array([log.get(name, np.nan) for log in flat]) for name in every}


def count_samples(data: Any) -> int | None:
    """Return the number of samples in a batch of data; None if the batch has no known size."""
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
