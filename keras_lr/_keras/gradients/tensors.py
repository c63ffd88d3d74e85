"""Operations on tensors and variables inside a step whose rate a rule decides.

Relies on Keras 3 (3.12 and later): Adam keeps its means in ``_momentums``, ``_velocities`` and,
with ``amsgrad``, ``_velocity_hats``, in the order of its variables. If one is missing, a rule that
scales the means is refused before the first update.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from keras_lr._keras.host_values import to_numpy


def names_of_means(optimizer: Any) -> list[str]:
    """Return the names of the attributes in which an Adam keeps its means."""
    hats = ["_velocity_hats"] if getattr(optimizer, "amsgrad", False) else []
    return ["_momentums", "_velocities", *hats]


def scale_means(optimizer: Any, factor: Any) -> None:
    """Multiply Adam's means of the gradients, and by the square those of their squares."""
    means = [(optimizer._momentums, factor), (optimizer._velocities, keras.ops.square(factor))]
    if optimizer.amsgrad:
        means.append((optimizer._velocity_hats, keras.ops.square(factor)))
    for variables, by in means:
        for variable in variables:
            _multiply(variable, by)


def _multiply(variable: Any, factor: Any) -> None:
    """Multiply a variable of an optimizer by a factor that is the same on all replicas."""
    if keras.backend.backend() == "torch":
        variable.value.mul_(factor)
        return
    factor = keras.ops.cast(factor, variable.dtype)
    context = _replicas()
    if context is None:
        variable.assign(keras.ops.convert_to_tensor(variable) * factor)
        return

    def on_each(strategy: Any, factor: Any) -> None:
        strategy.extended.update(
            variable.value, lambda one, by: one.assign(one * by), args=(factor,), group=False
        )

    context.merge_call(on_each, args=(factor,))


def assign_element(variable: Any, index: Any, value: Any) -> None:
    """Set one element of a one-dimensional variable, in place where the backend can.

    Args:
        variable: The variable.
        index: The index, a tensor.
        value: The value, a tensor of the variable's type.
    """
    backend = keras.backend.backend()
    if backend == "torch":
        variable.value.index_fill_(0, index.reshape(1).long(), value)
    elif backend == "tensorflow" and _replicas() is None:
        import tensorflow as tf

        handle = variable.value.handle
        tf.raw_ops.ResourceScatterUpdate(resource=handle, indices=index, updates=value)
    else:
        here = keras.ops.equal(keras.ops.arange(variable.shape[0], dtype="int32"), index)
        variable.assign(keras.ops.where(here, value, keras.ops.convert_to_tensor(variable)))


def current_trace() -> tuple[Any, ...]:
    """Return a mark of the graph that TensorFlow is tracing and the replica that it is for."""
    if keras.backend.backend() != "tensorflow":
        return ()
    import tensorflow as tf

    context = _replicas()
    replica = None if context is None else context.replica_id_in_sync_group
    return id(tf.compat.v1.get_default_graph()), replica if isinstance(replica, int) else str(
        replica
    )


def as_float_tensor(value: Any) -> Any:
    """Return a value as a float32 tensor, or as float64 if it is one already."""
    tensor = keras.ops.convert_to_tensor(value)
    if isinstance(value, float):
        return keras.ops.cast(tensor, "float32")
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return tensor if dtype in ("float32", "float64") else keras.ops.cast(tensor, "float32")


def new_variable(value: Any) -> Any:
    """Return a new variable that holds a copy of ``value``."""
    dtype = keras.backend.standardize_dtype(value.dtype)
    return keras.Variable(
        to_numpy(value), dtype=dtype, trainable=False, aggregation="only_first_replica"
    )


def assign_copies(variables: Any, values: Any) -> None:
    """Set one variable or several to copies of values."""
    if isinstance(values, list):
        for pair in zip(variables, values, strict=True):
            assign_copies(*pair)
    else:
        variables.assign(keras.ops.copy(values))


def scope_of(model: Any) -> Any:
    """Return the context in which variables of a model have to be created."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def _replicas() -> Any:
    """Return TensorFlow's context of a step that runs on several replicas; None elsewhere."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return None if context is None or context.num_replicas_in_sync == 1 else context


def sum_over_replicas(grads: list[Any]) -> list[Any]:
    """Return the sums of gradients over the replicas that a step runs on."""
    context = _replicas()
    if context is None:
        return grads
    import tensorflow as tf

    return context.all_reduce(tf.distribute.ReduceOp.SUM, grads)


@contextlib.contextmanager
def without_gradients() -> Iterator[None]:
    """Switch off PyTorch's autograd inside the context."""
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    with torch.no_grad():
        yield
