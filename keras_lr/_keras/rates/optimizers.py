"""Optimizers: those inside an object, the one that trains a model, and how far each has trained.

Relies on names of Keras 3 (the same in 3.12 and 3.15) that are not promised:

- ``_learning_rate`` is what an optimizer was built with. Where the name is missing, `schedule_of`
  reads the optimizer's config, and a wrapper with its own rate is driven like any optimizer.
- ``_iterations`` counts batches where ``iterations`` counts updates of several batches. Without it,
  `count_batches` multiplies, which loses the batches that are still being accumulated.
- ``_trainable_variables`` are the variables that an optimizer was built for. Without it, an
  optimizer that trains nothing is noticed at the end of the first epoch instead of after the first
  execution.
- ``_get_current_learning_rate`` computes what the property ``learning_rate`` returns. Without it,
  only a class that overrides the property is taken to compute its rate.
- TensorFlow lists what an object holds in attributes that begin with ``_self_``. If they had other
  names, an optimizer might be named by its place in such a list.

Legacy Keras has ``_built`` for ``built``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_lr._hints import nearest_name_hint, warn_user
from keras_lr._keras.host_values import to_numpy

_LISTS_OF_TENSORFLOW = "_self_"


def is_variable(value: Any) -> bool:
    """Return whether a value is a variable, of Keras or of TensorFlow."""
    return hasattr(value, "assign") and hasattr(value, "dtype")


def is_optimizer(value: Any) -> bool:
    """Return whether a value is an optimizer, of Keras 3 or of legacy Keras."""
    return (
        hasattr(value, "apply_gradients")
        and hasattr(value, "variables")
        and not isinstance(value, type)
    )


def is_built(optimizer: Any) -> bool:
    """Return whether an optimizer has its slots."""
    return bool(getattr(optimizer, "built", getattr(optimizer, "_built", False)))


def held_optimizers(holder: Any) -> dict[str, Any]:
    """Return the optimizers inside an object, by their path from it, outer before inner.

    They may be attributes, or elements of a list or dict. Each may hold others in turn: an
    optimizer that averages weights or scales a loss does.
    """
    found: dict[int, tuple[str, Any]] = {}
    waiting = [("", holder)]
    while waiting:
        prefix, outer = waiting.pop(0)
        for name, value in _elements(prefix, outer):
            if is_optimizer(value) and value is not holder and id(value) not in found:
                found[id(value)] = name, value
                waiting.append((f"{name}.", value))
    return dict(found.values())


def _elements(prefix: str, holder: Any) -> list[tuple[str, Any]]:
    """Return the attributes of an object and the elements of those that are lists or dicts."""
    elements = []
    for name, value in vars(holder).items():
        if name.startswith(_LISTS_OF_TENSORFLOW):
            continue
        elements.append((f"{prefix}{name}", value))
        if isinstance(value, list | tuple):
            elements += [(f"{prefix}{name}[{i}]", one) for i, one in enumerate(value)]
        elif isinstance(value, dict):
            elements += [(f"{prefix}{name}[{key!r}]", one) for key, one in value.items()]
    return elements


def unwrap_loss_scaling(optimizer: Any) -> Any:
    """Return the optimizer inside any ``LossScaleOptimizer``: its hyperparameters count."""
    while any(kind.__name__.startswith("LossScaleOptimizer") for kind in type(optimizer).__mro__):
        optimizer = optimizer.inner_optimizer
    return optimizer


def optimizers_beside(model: Any) -> dict[str, Any]:
    """Return the optimizers that a model holds beside the compiled one, by how to write them.

    Those that another one holds are left out.
    """
    held = held_optimizers(model)
    inner = {id(one) for outer in held.values() for one in held_optimizers(outer).values()}
    left_out = inner | {id(getattr(model, "optimizer", None))}
    return {name: one for name, one in held.items() if id(one) not in left_out}


def _named_optimizer(model: Any, name: str) -> Any:
    """Return the optimizer of a name, such as ``"own"``, ``"both[0]"`` or ``"own.inner"``.

    Raises:
        ValueError: If the model has none of that name.
    """
    held = held_optimizers(model)
    found = held.get(name, getattr(model, name, None))
    if not is_optimizer(found) and not hasattr(found, "learning_rate"):
        hint = nearest_name_hint(name, [*held], quote="'")
        raise ValueError(
            f"The model has no optimizer named {name!r}.{hint} "
            f"Its optimizers: {', '.join(held) or 'none'}."
        )
    return found


def optimizer_of(model: Any, optimizer: Any = None) -> Any:
    """Return the optimizer to drive: the one given, by reference or attribute name, or the model's.

    Raises:
        ValueError: If the model is not compiled, has no optimizer of that name, or has one that
            wraps another optimizer and also has its own rate.
    """
    if isinstance(optimizer, str):
        return unwrap_loss_scaling(_named_optimizer(model, optimizer))
    if optimizer is not None:
        return unwrap_loss_scaling(optimizer)
    found = getattr(model, "optimizer", None)
    if found is None:
        name = getattr(model, "name", model)
        if held := list(held_optimizers(model)):
            raise ValueError(
                f"The model {name!r} has no `optimizer`, but holds {', '.join(held)}. Name the one "
                f"to drive, as in ParamScheduler(optimizer={held[0]!r}, learning_rate=...)."
            )
        raise ValueError(
            f"The model {name!r} has no optimizer: it is not compiled. "
            "Call model.compile(optimizer=..., loss=...) before training."
        )
    found = unwrap_loss_scaling(found)
    if name := rival_optimizer(found):
        raise ValueError(
            f"The optimizer {type(found).__name__} holds another one, `{name}`, and also has a "
            "learning rate itself, so it is unclear which of the two rates is used. Name the "
            f"optimizer: ParamScheduler(model.optimizer.{name}, learning_rate=...) or "
            "ParamScheduler(model.optimizer, learning_rate=...)."
        )
    return found


def rival_optimizer(optimizer: Any) -> str:
    """Return the path of an inner optimizer whose rate may be the one in use; empty if none is.

    ``optimizer`` holds it and also has its own rate. Which of the two updates the weights, and with
    which rate, cannot be seen.
    """
    rate = vars(optimizer).get("_learning_rate")
    if (
        hasattr(optimizer, "optimizers")
        or not is_variable(rate)
        or optimizer.learning_rate is not rate
    ):
        return ""
    return next(iter(held_optimizers(optimizer)), "")


def warn_of_rival_optimizer(optimizer: Any) -> None:
    """Warn that the rate of an optimizer may not be the one in use."""
    if name := rival_optimizer(optimizer):
        warn_user(
            f"The optimizer {type(optimizer).__name__} holds another one, `{name}`, and also has a "
            "learning rate itself. The recorded rate is the outer one, which may not be the one in "
            "use. Let its property `learning_rate` return the rate that it uses."
        )


def optimizers_of(model: Any, optimizer: Any = None) -> list[Any]:
    """Return the optimizers to drive: the one that `optimizer_of` finds, or its parts.

    Raises:
        ValueError: If the model is not compiled, or has no optimizer of that name.
    """
    found = optimizer_of(model, optimizer)
    return [unwrap_loss_scaling(one) for one in getattr(found, "optimizers", [found])]


def count_batches(optimizer: Any) -> int:
    """Return how many batches an optimizer has processed, including those that it accumulates.

    Raises:
        TypeError: If the optimizer does not count them.
    """
    if not hasattr(optimizer, "iterations"):
        raise TypeError(
            f"The optimizer {type(optimizer).__name__} does not count its updates: it has no "
            "`iterations`. Derive it from keras.optimizers.Optimizer."
        )
    done = int(to_numpy(optimizer.iterations))
    batches = getattr(optimizer, "gradient_accumulation_steps", None) or 1
    if batches == 1:
        return done
    taken = int(to_numpy(getattr(optimizer, "_iterations", done * batches)))
    # A wrapper has an `_iterations` too, which may have nothing to do with its `iterations`.
    return taken if taken // batches == done else done * batches


def trained_variables(optimizer: Any) -> list[Any]:
    """Return the variables that an optimizer was built for; none where they are unknown."""
    return list(getattr(optimizer, "_trainable_variables", None) or [])


def schedule_of(optimizer: Any) -> Callable[..., Any] | None:
    """Return the schedule or function that gives an optimizer its learning rate, if any."""
    if optimizer is None or overrides_learning_rate(optimizer):
        return None
    known = isinstance(optimizer, keras.optimizers.Optimizer)
    rate = getattr(optimizer, "_learning_rate", None)
    if rate is None and known:
        rate = optimizer.get_config().get("learning_rate")
        rate = keras.optimizers.schedules.deserialize(rate) if isinstance(rate, dict) else rate
    return rate if callable(rate) and not is_variable(rate) else None


def overrides_learning_rate(optimizer: Any) -> bool:
    """Return whether a Keras 3 optimizer's class overrides ``learning_rate``."""
    base, kind = keras.optimizers.Optimizer, type(optimizer)
    if not isinstance(optimizer, base):
        return False
    names = "learning_rate", "_get_current_learning_rate"
    return any(getattr(kind, name, None) is not getattr(base, name, None) for name in names)
