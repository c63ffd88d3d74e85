"""Types of the arguments of `LayerRates`: factors, and the parts of a model that they apply to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import keras

from keras_lr._fields.kinds import FieldType, Number, Text
from keras_lr.schedules.base import Schedule


class FactorField(FieldType):
    """The factor of a rate: a number that is not negative, or a schedule."""

    expected = "a number of at least 0, or a schedule such as Constant(0.0).lasting(2)"

    def convert(self, value: Any) -> Any:
        return value if isinstance(value, Schedule) else Number(minimum=0.0).convert(value)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [Number(minimum=0.0).schema(), {"$ref": "#/$defs/schedule"}]}


class FactorsField(FieldType):
    """The factor of each part of a model."""

    expected = (
        "a mapping of patterns, paths or layers to factors, such as {'backbone/.*': 0.1, 'head': 1}"
    )
    item = FactorField()

    def convert(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise TypeError(self.expected)
        if not value:
            raise ValueError(self.expected)
        return {key_of(key): self._factor(key, factor) for key, factor in value.items()}

    def _factor(self, key: Any, factor: Any) -> Any:
        try:
            return self.item.convert(factor)
        except (TypeError, ValueError) as error:
            raise type(error)(f"a mapping whose factor for {key!r} is {error}") from None

    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "additionalProperties": self.item.schema(),
            "minProperties": 1,
        }


def key_of(key: Any) -> str:
    """Return a key as text; a layer is replaced by its name."""
    name = key.name if isinstance(key, keras.layers.Layer) else key
    if not isinstance(name, str):
        raise TypeError(f"{FactorsField.expected}; a key is text or a layer, not {key!r}")
    return name


class BlocksField(Text):
    """A regular expression that finds the number of a block."""

    expected = r"a regular expression with the number as a group, such as 'block_?(\d+)'"

    def convert(self, value: Any) -> str:
        text = super().convert(value)
        try:
            found = re.compile(text).groups
        except re.error as error:
            raise ValueError(f"{self.expected} ({error})") from None
        if not found:
            raise ValueError(self.expected)
        return text
