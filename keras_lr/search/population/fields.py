"""Types of the arguments of a population that are more than a number or a word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_lr._fields.kinds import FieldType, ListOf, Number
from keras_lr._keras.rates.hyperparameters import LEARNING_RATE, range_of
from keras_lr.search.fields import OptimizersField


class ParametersField(FieldType):
    """Ranges of hyperparameters by name, the learning rate first."""

    expected = (
        "a dict of ranges by hyperparameter, with the learning rate among them, such as "
        "{'learning_rate': (1e-5, 0.1), 'weight_decay': (1e-4, 0.1)}"
    )

    def convert(self, value: Any) -> dict[str, tuple[float, float]]:
        if not isinstance(value, Mapping):
            raise TypeError(self.expected)
        if LEARNING_RATE not in value:
            raise ValueError(self.expected)
        rate = {LEARNING_RATE: value[LEARNING_RATE]}
        return {str(name): self._range(str(name), one) for name, one in {**rate, **value}.items()}

    def _range(self, name: str, value: Any) -> tuple[float, float]:
        end = Number(above=0.0, below=range_of(name).below)
        try:
            low, high = ListOf(end, exactly=2).convert(value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self.expected} ({name} needs {error})") from None
        if low >= high:
            raise ValueError(f"{self.expected} ({name} needs a lower end below the upper one)")
        return low, high


class OptimizerField(FieldType):
    """An unbuilt optimizer, given by Keras's name or as an object."""

    expected = (
        "a name of Keras such as 'adam' or an object such as keras.optimizers.SGD(momentum=0.9)"
    )

    def convert(self, value: Any) -> Any:
        try:
            (optimizer,) = OptimizersField().convert([value]).values()
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace(OptimizersField.expected, self.expected)) from None
        return optimizer
