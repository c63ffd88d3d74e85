"""Random operations of TensorFlow inside a compiled training step.

The kernel of an operation such as ``tf.random.normal`` counts its draws. Nothing can read or set
the count. It restarts in a new function, or when TensorFlow drops all kernels of the process. So
a function whose kernels hold a count is kept and not used.

Relies on ``_list_all_concrete_functions`` of a ``tf.function`` (TensorFlow 2.18 and later). Where
it is missing, `draws_from_kernels` sees no draws and warns that they will continue from where a
training run leaves them.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from keras_lr._hints import warn_user

_RANDOM_OPERATIONS = {
    *("RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal"),
    *("ParameterizedTruncatedNormal", "RandomGamma", "RandomPoisson", "RandomPoissonV2"),
    *("Multinomial", "RandomShuffle"),
}
_LIST = "_list_all_concrete_functions"


def draws_from_kernels(function: Any) -> bool:
    """Return whether a train function has been traced with operations that draw from a seed.

    An operation without a seed draws other numbers in each process anyway.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    traces = (trace for compiled in _compiled_in(function) for trace in _traces_of(compiled))
    try:
        return any(map(_draws, traces))
    except KeyError:
        # Ctrl-C has struck while TensorFlow noted a trace, and its list of them is broken.
        return True


def _compiled_in(function: Any) -> Iterator[Any]:
    """Iterate over the functions that TensorFlow compiles for a train function.

    They stand in closures, and in what this package keeps with the train function.
    """
    entered, waiting = {id(function)}, [function]
    while waiting:
        value = waiting.pop()
        inner: list[Any] = []
        if hasattr(value, "get_concrete_function"):
            yield value
            inner.append(getattr(value, "python_function", None))
        elif isinstance(value, types.MethodType):
            inner.append(value.__func__)
        elif isinstance(value, dict):
            inner += value.values()
        elif isinstance(value, list | tuple):
            inner += value
        elif isinstance(value, types.FunctionType):
            inner += _captured(value)
            inner += vars(value).values()
        elif type(value).__module__.startswith("keras_lr."):
            inner += vars(value).values()
        fresh = [one for one in inner if id(one) not in entered]
        entered |= {id(one) for one in fresh}
        waiting += fresh


def _captured(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            continue  # not assigned yet


def _traces_of(compiled: Any) -> Iterable[Any]:
    """Return every trace of a function."""
    if not hasattr(compiled, _LIST):
        import tensorflow as tf

        warn_user(
            f"TensorFlow {tf.__version__} does not show what it has compiled where keras_lr looks "
            "for it, so operations such as tf.random.normal in a layer will continue from where a "
            "training leaves them."
        )
        return ()
    traces: list[Any] = getattr(compiled, _LIST)()
    return traces


def _draws(trace: Any) -> bool:
    """Return whether a trace, or a function that it calls, draws from a seed."""
    if trace not in _KNOWN:
        graph = trace.graph.as_graph_def()
        called = (node for function in graph.library.function for node in function.node_def)
        _KNOWN[trace] = any(map(_is_seeded_draw, (*graph.node, *called)))
    return _KNOWN[trace]


_KNOWN: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
"""Whether each trace draws from a seed: the operations of a trace never change."""


def _is_seeded_draw(node: Any) -> bool:
    return node.op in _RANDOM_OPERATIONS and bool(node.attr["seed"].i or node.attr["seed2"].i)
