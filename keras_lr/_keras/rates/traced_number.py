"""`TracedNumber`: stand-in for a plain number of an optimizer, a tensor while a step is traced.

Relies on two protocols by which a library asks an object for its tensor: ``__tf_tensor__``
(TensorFlow 2.12 and later) and ``__jax_array__`` (JAX 0.2.17 and later). JAX functions that are
themselves jitted accept a stand-in as a registered pytree node, which JAX documents. If a library
no longer asks, a TypeError is raised before the first update; otherwise the compiled step would
silently keep the plain number.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import keras

_LOCK = threading.Lock()


class TracedNumber:
    """Stand-in for a number of an optimizer, which computes as a tensor of the traced step.

    Optimizers branch on their numbers in Python (``momentum != 0``) and also compute with them. The
    stand-in compares like the number that it replaces, and computes like the tensor.
    """

    number: float
    tensor: Any

    @property
    def dtype(self) -> Any:
        """Type of the tensor, from which keras.ops infers the type of a result."""
        return self.tensor.dtype

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        return self.tensor if dtype is None else keras.ops.cast(self.tensor, dtype.name)

    def __jax_array__(self) -> Any:
        return self.tensor

    def __add__(self, other: Any) -> Any:
        return self.tensor + other

    def __radd__(self, other: Any) -> Any:
        return other + self.tensor

    def __sub__(self, other: Any) -> Any:
        return self.tensor - other

    def __rsub__(self, other: Any) -> Any:
        return other - self.tensor

    def __mul__(self, other: Any) -> Any:
        return self.tensor * other

    def __rmul__(self, other: Any) -> Any:
        return other * self.tensor

    def __truediv__(self, other: Any) -> Any:
        return self.tensor / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.tensor

    def __pow__(self, other: Any, modulo: None = None) -> Any:
        return keras.ops.power(self.tensor, other)

    def __rpow__(self, other: Any, modulo: None = None) -> Any:
        return keras.ops.power(other, self.tensor)

    def __neg__(self) -> Any:
        return -self.tensor


class TracedFloat(TracedNumber, float):
    """Traced number that is a Python float, since TensorFlow's operations accept floats."""


@functools.total_ordering
class TracedScalar(TracedNumber):
    """Traced number that is not a Python float.

    Some operations would use a float's own value: JAX always, TensorFlow outside of a trace.
    """

    def __eq__(self, other: object) -> bool:
        return self.number == other

    def __lt__(self, other: float) -> bool:
        return self.number < other

    def __bool__(self) -> bool:
        return bool(self.number)

    def __float__(self) -> float:
        return self.number

    __hash__ = None  # type: ignore[assignment]


def trace_number(number: float, tensor: Any) -> TracedNumber:
    """Return the object that stands in for a plain number and computes as ``tensor``.

    Raises:
        TypeError: If TensorFlow does not ask the object for its tensor, so that the compiled step
            would keep the number.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        _register_pytree_node()
    in_graph = backend == "tensorflow" and not hasattr(tensor, "numpy")
    stand_in: TracedNumber = TracedFloat(number) if in_graph else TracedScalar()
    stand_in.number, stand_in.tensor = number, tensor
    if isinstance(stand_in, TracedFloat):
        import tensorflow as tf

        if tf.convert_to_tensor(stand_in) is not tensor:
            raise _not_asked("tensorflow", "__tf_tensor__")
    return stand_in


def check_numbers_can_be_traced() -> None:
    """Refuse a version of JAX that treats a traced number as a plain one.

    Call it before a fit: an exception inside JAX's first step leaves the model without weights.

    Raises:
        TypeError: If this is such a version.
    """
    if keras.backend.backend() != "jax":
        return
    import jax

    stand_in = TracedScalar()
    stand_in.number, stand_in.tensor = 0.0, jax.numpy.ones(())
    if float(jax.numpy.asarray(stand_in)) != 1.0:
        raise _not_asked("jax", "__jax_array__")


def _not_asked(backend: str, protocol: str) -> TypeError:
    return TypeError(
        f"This version of {backend} does not ask a number for its tensor ({protocol}), so that in "
        "a compiled step no hyperparameter but the learning rate can move. Move the learning rate "
        "alone, or on TensorFlow compile the model with run_eagerly=True."
    )


def _register_pytree_node() -> None:
    """Register `TracedScalar` with JAX, once, even if several threads compile at the same time."""
    with _LOCK:
        _register_once()


@functools.cache
def _register_once() -> None:
    """Make JAX functions that are themselves jitted, such as ``clip``, accept a traced number."""
    import jax

    def unflatten(number: float, children: Any) -> TracedScalar:
        stand_in = TracedScalar()
        stand_in.number, (stand_in.tensor,) = number, children
        return stand_in

    jax.tree_util.register_pytree_node(
        TracedScalar, lambda traced: ((traced.tensor,), traced.number), unflatten
    )
