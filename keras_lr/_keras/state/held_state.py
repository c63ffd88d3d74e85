"""State that training changes besides the variables that Keras lists, captured and put back.

A layer may keep state in an untracked variable, in a variable, generator or lookup table of
TensorFlow, in a buffer of PyTorch, or, where nothing is compiled, in a plain attribute.

Relies on public names of these libraries, and on ``_empty_key`` and ``_deleted_key`` of a dense
hash table (TensorFlow 2.18 and later), which tell its entries from its empty places. The user is
warned of a table whose entries cannot be told without them, and of what moves on when it is used
and cannot be read, as an iterator. ``_jax_state`` and ``_jax_state_synced`` of a model are left to
`keras_lr._keras.fits.jax_state`.
"""

from __future__ import annotations

import collections
import collections.abc
import functools
import random
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_lr._hints import warn_user
from keras_lr._keras.host_values import copy_to_host
from keras_lr._keras.rates.optimizers import is_variable
from keras_lr._keras.state.object_walk import (
    CONTAINERS,
    Place,
    is_written_by_user,
    loaded_library,
)
from keras_lr._keras.state.saved_value import SavedValue

_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic)
_HOLD_NOTHING = {type(None), bool, int, float, str, dict, list, tuple, set}
"""Kinds of most values that are found: they hold no state besides what is found in them."""


class SavedMembers(SavedValue):
    """The members that a list, dict, set or deque had."""


class SavedIdentity(SavedValue):
    """The list, dict or tuple that an attribute held, which may have been replaced by another."""


class OwnObjects(NamedTuple):
    """Stands for objects of a model, such as variables and layers: each model has its own."""

    size: int


def export_held_state(held: list[SavedValue]) -> list[Any]:
    """Return the values of what was held, for another model of the same kind."""
    return [_export(one) for one in held]


def _export(one: SavedValue) -> Any:
    if is_variable(one.value) or isinstance(one, SavedIdentity):
        return OwnObjects(1)
    if not isinstance(one, SavedMembers):
        return one.value
    members = one.value.values() if isinstance(one.value, dict) else one.value
    return one.value if all(map(_is_portable, members)) else OwnObjects(len(one.value))


def _is_portable(value: Any) -> bool:
    """Return whether a value means the same in another model."""
    return isinstance(value, _PLAIN) or (_is_tensor(value) and not is_variable(value))


def adopt_held_state(held: list[SavedValue], values: list[Any]) -> list[SavedValue]:
    """Return what a model is to hold instead, from the values that another one has exported.

    Raises:
        ValueError: If the models do not hold the same.
    """
    return [_adopt(own, value) for own, value in zip(held, values, strict=True)]


def _adopt(own: SavedValue, value: Any) -> SavedValue:
    if not isinstance(value, OwnObjects):
        return own._replace(value=value)
    if isinstance(own, SavedMembers) and len(own.value) != value.size:
        raise ValueError("the models hold different numbers of objects")
    return own


def capture_held_state(
    model: Any, places: Iterable[Place], known: set[int], skipped: set[str]
) -> list[SavedValue]:
    """Return what a model's objects hold now, each with the function that puts it back.

    Two models of the same kind give the same number of values, in the same order.

    Args:
        model: The model.
        places: What `walk_objects` has found in it.
        known: Identities of the variables that are kept elsewhere.
        skipped: Attributes that are kept elsewhere.
    """
    names = _names_of_keras() | skipped
    taken = known | _tensors_of(model)
    found: list[SavedValue] = []
    lost: dict[int, str] = {}
    seen: set[int] = set()
    torch, tensorflow = loaded_library("torch"), loaded_library("tensorflow")
    unreadable = _unreadable_kinds(tensorflow)
    for place in places:
        value = place.value
        if place.own and place.holder is not None and id(place.holder) not in seen:
            seen.add(id(place.holder))
            found += _capture_names(place.holder, names)
        if place.own and place.holder is not None and place.key not in names:
            found += _capture_slot(place) + _capture_members(value)
        if type(value) in _HOLD_NOTHING or isinstance(value, _PLAIN) or id(value) in taken:
            continue
        capture = _capture_of(value, place, torch, tensorflow)
        if capture is not None:
            taken.add(id(value))
            found.append(capture(value))
        elif (isinstance(value, unreadable) or _is_table(value)) and place.key not in names:
            lost[id(value)] = f"{place.path} ({type(value).__name__})"
    if lost:
        warn_user(
            "Part of what a training run changes cannot be put back afterwards: "
            f"{', '.join(lost.values())}. Keep such state in a keras.Variable."
        )
    return found


@functools.cache
def _names_of_keras() -> frozenset[str]:
    """Return the names of the attributes by which Keras notes what it has done with a layer."""
    return frozenset({*vars(keras.Layer(name="names")), "_jax_state", "_jax_state_synced"})


def _tensors_of(model: Any) -> set[int]:
    """Return the identities of PyTorch's tensors that are the values of the model's variables."""
    if keras.backend.backend() != "torch":
        return set()
    return {id(variable.value) for variable in model.variables}


def _capture_slot(place: Place) -> list[SavedValue]:
    """Return what puts an attribute or element back that holds a value, a tensor or a container.

    Where nothing is compiled, a layer may count in Python, or hold its last outputs.
    """
    holder, key, value = place.holder, place.key, place.value
    kind = SavedIdentity if isinstance(value, CONTAINERS) else SavedValue
    if kind is SavedValue and not isinstance(value, _PLAIN) and not _is_tensor(value):
        return []
    if isinstance(holder, list | collections.deque):
        return [kind(functools.partial(_put_element_back, holder, key), value)]
    slots = holder if isinstance(holder, dict) else getattr(holder, "__dict__", {})
    if key in slots:
        return [kind(functools.partial(_put_value_back, slots, key), value)]
    return [kind(functools.partial(object.__setattr__, holder, key), value)]  # a slot


def _capture_names(holder: Any, skipped: collections.abc.Set[str]) -> list[SavedValue]:
    """Return what removes the attributes again that an object does not have yet.

    Where nothing is compiled, a layer may begin to count in its first step. Variables stay, because
    a compiled step may use them. So does what a library adds to an object of a class derived from
    one of its own, under a name that begins with an underscore.
    """
    slots = getattr(holder, "__dict__", None)
    if slots is None or isinstance(holder, CONTAINERS):
        return []
    is_derived = not all(
        base is object or is_written_by_user(base) for base in type(holder).__mro__
    )

    def remove_others(names: frozenset[str]) -> None:
        for name in slots.keys() - names - skipped:
            hidden = is_derived and name.startswith("_")
            if not hidden and _holds_values_alone(slots[name]):
                del slots[name]

    return [SavedValue(remove_others, frozenset(slots))]


def _holds_values_alone(value: Any) -> bool:
    """Return whether a value is plain, a tensor, or a container of such values."""
    if isinstance(value, CONTAINERS):
        members = value.values() if isinstance(value, dict) else value
        return all(map(_holds_values_alone, members))
    return isinstance(value, _PLAIN) or (_is_tensor(value) and not is_variable(value))


def _put_value_back(slots: dict[Any, Any], key: Any, value: Any) -> None:
    if slots.get(key, slots) is not value:
        slots[key] = value


def _capture_members(value: Any) -> list[SavedValue]:
    """Return what gives a list or dict of the user's the members back that it has now."""
    if not isinstance(value, list | dict | set | collections.deque):
        return []

    def put_back(members: Any) -> None:
        if not _hold_the_same(value, members):
            value.clear()
            (value.update if isinstance(value, dict | set) else value.extend)(members)

    return [SavedMembers(put_back, value.copy())]


def _hold_the_same(one: Any, other: Any) -> bool:
    """Return whether two containers hold the same objects, or plain values that are equal."""
    pairs = zip(_pairs(one), _pairs(other), strict=False)
    return len(one) == len(other) and all(
        key == other_key and (a is b or (isinstance(a, _PLAIN) and type(a) is type(b) and a == b))
        for (key, a), (other_key, b) in pairs
    )


def _pairs(value: Any) -> Any:
    return value.items() if isinstance(value, dict) else enumerate(value)


def _put_element_back(holder: Any, index: int, value: Any) -> None:
    if index < len(holder) and holder[index] is not value:
        holder[index] = value


def _is_tensor(value: Any) -> bool:
    """Return whether a value is a tensor or array of a backend; not a symbolic one of Keras."""
    return isinstance(value, np.ndarray) or (
        keras.ops.is_tensor(value) and not isinstance(value, keras.KerasTensor)
    )


def _capture_of(
    value: Any, place: Place, torch: Any, tensorflow: Any
) -> Callable[[Any], SavedValue] | None:
    """Return the function that captures a value of a kind that holds state; None for any other.

    Args:
        value: The value.
        place: Where it was found.
        torch: PyTorch, if it is loaded.
        tensorflow: TensorFlow, if it is loaded.
    """
    if is_variable(value):
        return _capture_variable
    if isinstance(value, np.random.Generator):
        return _capture_numpy_generator
    if isinstance(value, np.random.RandomState | random.Random):
        return _capture_state_of("get_state" if hasattr(value, "get_state") else "getstate")
    if isinstance(value, np.ndarray):
        return _capture_array if place.own and place.holder is not None else None
    if torch is not None:
        if isinstance(value, torch.Tensor):
            return _capture_tensor
        if isinstance(value, torch.Generator):
            return _capture_state_of("get_state")
    if tensorflow is not None:
        if isinstance(value, tensorflow.random.Generator):
            return lambda generator: _capture_variable(generator.state)
        if _is_table(value):
            return _capture_table(value)
    return None


def _is_table(value: Any) -> bool:
    """Return whether a value is a lookup table of TensorFlow that a step may change."""
    return all(hasattr(value, name) for name in ("export", "insert", "remove", "size"))


def _unreadable_kinds(tensorflow: Any) -> tuple[type, ...]:
    """Return the kinds of objects that move on when they are used and cannot be read."""
    kinds: list[type] = [collections.abc.Iterator]
    if tensorflow is not None:
        kinds += [tensorflow.queue.QueueBase, tensorflow.data.Iterator]
    return tuple(kinds)


def _capture_variable(variable: Any) -> SavedValue:
    return SavedValue(variable.assign, copy_to_host(variable))


def _capture_array(array: np.ndarray) -> SavedValue:
    def put_back(value: np.ndarray) -> None:
        if array.flags.writeable:
            array[...] = value

    return SavedValue(put_back, array.copy())


def _capture_tensor(tensor: Any) -> SavedValue:
    """Return what puts a tensor of PyTorch back in place: others may hold the same one."""
    import torch

    if tensor.layout is torch.strided:
        sizes = zip(tensor.shape, tensor.stride(), strict=True)
        if any(size > 1 and not stride for size, stride in sizes):
            # Expanded from a smaller one: nothing can be written into it.
            return SavedValue(lambda value: None, None)

    def put_back(value: Any) -> None:
        with torch.no_grad():
            tensor.detach().copy_(value)

    return SavedValue(put_back, tensor.detach().clone())


def _capture_numpy_generator(generator: np.random.Generator) -> SavedValue:
    bits: Any = generator.bit_generator
    return SavedValue(functools.partial(setattr, bits, "state"), bits.state)


def _capture_state_of(getter: str) -> Callable[[Any], SavedValue]:
    """Return the function that captures an object with methods to read and set its state."""

    def capture(generator: Any) -> SavedValue:
        return SavedValue(getattr(generator, f"s{getter[1:]}"), getattr(generator, getter)())

    return capture


def _capture_table(table: Any) -> Callable[[Any], SavedValue] | None:
    """Return the function that captures a lookup table; None if its entries cannot be told."""
    found = _entries(table)

    def put_back(entries: Any) -> None:
        present, _ = _entries(table)
        table.remove(present)
        table.insert(*entries)

    is_whole = len(found[0]) == int(table.size())
    return (lambda _: SavedValue(put_back, found)) if is_whole else None


def _entries(table: Any) -> tuple[Any, Any]:
    """Return the keys and values of a table, without the keys that stand for an empty place."""
    keys, values = table.export()
    for name in ("_empty_key", "_deleted_key"):
        if hasattr(table, name):
            differs = keys.numpy() != np.asarray(getattr(table, name))
            used = differs.reshape(len(differs), -1).any(1)
            keys, values = keys[used], values[used]
    return keys, values
