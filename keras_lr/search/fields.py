"""Types of the arguments of a sweep that are more than a number or a word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_lr._fields.kinds import FieldType
from keras_lr._hints import with_article
from keras_lr._keras.rates.optimizers import schedule_of
from keras_lr.search.trials.problem import copy_unbuilt
from keras_lr.search.trials.target import Target


class OptimizersField(FieldType):
    """Unbuilt optimizers, by the names that the sweep uses for them."""

    expected = (
        "a list of optimizers, each a name of Keras such as 'sgd' or an object such as "
        "keras.optimizers.SGD(momentum=0.9), or a dict of such by name"
    )

    def convert(self, value: Any) -> dict[str, Any]:
        if isinstance(value, str | bytes | type) or not hasattr(value, "__iter__"):
            raise TypeError(self.expected)
        named = value.items() if isinstance(value, Mapping) else [(None, one) for one in value]
        found: dict[str, Any] = {}
        for name, given in named:
            optimizer = self._optimizer(given)
            label = describe_optimizer(optimizer) if name is None else str(name)
            if label in found:
                raise ValueError(f"{self.expected}, each once ({label} appears twice)")
            found[label] = optimizer
        if not found:
            raise ValueError(self.expected)
        return found

    def _optimizer(self, given: Any) -> Any:
        if isinstance(given, str):
            try:
                return keras.optimizers.get(given)
            except ValueError:
                raise ValueError(f"{self.expected} (Keras knows no {given!r})") from None
        if isinstance(given, type) or not isinstance(given, keras.optimizers.Optimizer):
            hint = f" (pass an object: {given.__name__}())" if isinstance(given, type) else ""
            raise TypeError(f"{self.expected}{hint}")
        if schedule_of(given) is not None:
            raise ValueError(
                f"{self.expected}, with a number for its rate (to sweep a schedule, pass "
                "schedule=lambda lr: ...)"
            )
        try:
            return copy_unbuilt(given)
        except (TypeError, ValueError, NotImplementedError) as error:
            raise ValueError(
                f"{self.expected} ({with_article(type(given).__name__)} cannot be rebuilt from its "
                f"config: {error})"
            ) from error


def describe_optimizer(optimizer: Any) -> str:
    """Return the name of an optimizer, with the arguments that differ from Keras's defaults.

    >>> describe_optimizer(keras.optimizers.SGD(0.3, momentum=0.9))
    'SGD(momentum=0.9)'
    """
    kind = type(optimizer)
    try:
        usual = kind().get_config()
    except TypeError:
        return kind.__name__
    changed = [
        f"{name}={value}"
        for name, value in optimizer.get_config().items()
        if name not in ("name", "learning_rate") and usual.get(name) != value
    ]
    return f"{kind.__name__}({', '.join(changed)})" if changed else kind.__name__


class TargetField(FieldType):
    """A comparison of a metric with a number, kept as text."""

    expected = "a metric, >=, <=, > or <, and a number, such as 'accuracy >= 0.97'"

    def convert(self, value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError(self.expected)
        return str(Target.parse(value))


class FunctionField(FieldType):
    """A function."""

    expected = "a function of the rate that returns a callback, as lambda lr: OneCycle(lr)"

    def convert(self, value: Any) -> Any:
        if not callable(value) or isinstance(value, keras.callbacks.Callback):
            raise TypeError(self.expected)
        return value
