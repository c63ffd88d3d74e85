"""Values of fields as plain data, in the form of Keras's serialisation."""

from __future__ import annotations

import sys
from typing import Any

import keras

from keras_lr._fields.nesting import Nested, call, nested


@nested
def encode(value: Any) -> Nested[Any]:
    """Return a field's value as plain data.

    >>> from keras_lr import Constant
    >>> encode((1, "rest")), encode(Constant(0.1))["config"]
    ([1, 'rest'], {'lr': 0.1})
    """
    if isinstance(value, tuple):
        items = []
        for item in value:
            items.append((yield call(encode, item)))
        return items
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if not getattr(type(value), "_plain_config", False):
        return keras.saving.serialize_keras_object(value)
    # The documented form of Keras's serialisation. Keras's own function would recurse.
    return {
        "module": type(value).__module__,
        "class_name": type(value).__name__,
        "config": (yield call(value.get_config)),
        "registered_name": keras.saving.get_registered_name(type(value)),
    }


@nested
def decode(value: Any) -> Nested[Any]:
    """Return the value that `encode` made plain.

    >>> from keras_lr import Constant
    >>> decode(encode(Constant(0.1)))
    Constant(lr=0.1)
    """
    if isinstance(value, list | tuple):
        items = []
        for item in value:
            items.append((yield call(decode, item)))
        return items
    if not isinstance(value, dict) or "class_name" not in value:
        return value
    cls = keras.saving.get_registered_object(value.get("registered_name"))
    if not getattr(cls, "_plain_config", False):
        return keras.saving.deserialize_keras_object(value)
    arguments = {}
    for name, item in value["config"].items():
        arguments[name] = yield call(decode, item)
    return cls(**arguments)


def register_late(package: str, *names: str) -> None:
    """Register with Keras classes of a package that are imported when a config of them is read.

    A class takes the place of what is registered here as soon as it is imported.
    """
    for name in names:
        keras.saving.register_keras_serializable(package, name)(_make_stand_in(package, name))


def _make_stand_in(package: str, name: str) -> type:
    class StandIn:
        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            return getattr(sys.modules[package], name).from_config(config)

        def get_config(self) -> dict[str, Any]:
            raise NotImplementedError(f"No object of this class is made. It stands for {name}.")

    return StandIn
