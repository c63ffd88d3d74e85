"""Writer of configs: returns objects as plain data."""

from __future__ import annotations

from typing import Any

from keras_lr._fields.nesting import Nested, call, nested
from keras_lr.config.plain import plain_data
from keras_lr.config.problems import Place, refuse, short
from keras_lr.config.registry import CALLBACKS, REQUIRED, functions, spec_of
from keras_lr.schedules.base import Schedule
from keras_lr.schedules.function import KerasSchedule


def to_config(thing: Any) -> dict[str, Any]:
    """Return the config of a callback, or of a list of callbacks, as plain data.

    What an object records or keeps while it runs is not part of its config. Arguments that have
    their default are left out.

    Args:
        thing: A callback, a schedule, an `LRRangeTest`, or a list of them.

    Raises:
        ConfigError: If it cannot be written, such as a `Function` of a lambda.

    >>> from keras_lr import CosineDecay, LinearDecay
    >>> to_config(LinearDecay(0.0, 0.1, over="5 epochs") >> CosineDecay(0.1))
    {'Sequence': [{'LinearDecay': {'initial_lr': 0.0, 'final_lr': 0.1, 'over': '5 epochs'}},
    {'CosineDecay': {'initial_lr': 0.1}}]}
    """
    if isinstance(thing, list | tuple):
        many = [_write(one, Place().at(CALLBACKS, i)) for i, one in enumerate(thing)]
        return plain_data({CALLBACKS: many})
    return plain_data(_write(thing, Place()))


@nested
def _write(thing: Any, place: Place) -> Nested[dict[str, Any]]:
    """Return a mapping from the name of the object's class to its arguments."""
    try:
        name, spec = spec_of(thing)
    except TypeError as error:
        refuse(place, f"{error}. Received: {short.repr(thing)}")
    place = place.at(name)
    values = {}
    for argument, value in spec.values(thing).items():
        known = spec.arguments.get(argument)
        if known is None or known.default is REQUIRED or value != known.default:
            values[argument] = yield call(_write_value, value, place.at(argument))
    listed = spec.list_argument
    return {name: values if listed is None or len(values) > 1 else values[listed]}


@nested
def _write_value(value: Any, place: Place) -> Nested[Any]:
    if isinstance(value, tuple | list):
        items = []
        for i, item in enumerate(value):
            items.append((yield call(_write_value, item, place.at(i))))
        return items
    if isinstance(value, dict):
        items_by_key = {}
        for key, item in value.items():
            items_by_key[key] = yield call(_write_value, item, place.at(key))
        return items_by_key
    if isinstance(value, Schedule | KerasSchedule):
        return (yield call(_write, value, place))
    for name, known in functions().items():
        if known is value:
            return name
    if callable(value):
        refuse(
            place,
            "a config can name registered functions only; define the function with def and "
            f"decorate it with @keras_lr.register. Received: {short.repr(value)}",
        )
    item = value.item() if hasattr(value, "item") else value
    if not isinstance(item, bool | int | float | str | None):
        refuse(place, f"a config cannot hold this. Received: {short.repr(value)}")
    return item
