"""Iterator over the objects that a model is made of, whatever holds them.

Relies on what Python promises: ``vars(object)``, closures and containers. A layer of Keras lists
only the variables and layers that it tracks. What it keeps in a list, a closure or a plain
attribute is found by looking there, in any version of Keras in which an attribute leads to it.
"""

from __future__ import annotations

import collections
import functools
import importlib
import inspect
import itertools
import sys
import types
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import keras

from keras_lr._keras.rates.optimizers import held_optimizers, is_optimizer, is_variable

_LIBRARIES = sys.stdlib_module_names | {
    *("jax", "jaxlib", "keras", "numpy", "pandas", "scipy", "sklearn", "tensorflow", "tf_keras"),
    *("torch", "matplotlib", "keras_lr"),
}
"""Packages whose objects are not part of a model, unless they are of the kinds below."""

_KINDS_OF_KERAS = (
    *(keras.Layer, keras.Metric, keras.Loss, keras.optimizers.Optimizer),
    *(keras.Initializer, keras.regularizers.Regularizer, keras.constraints.Constraint),
    *(keras.random.SeedGenerator, keras.callbacks.Callback),
    keras.optimizers.schedules.LearningRateSchedule,
)
_MODULES = {"torch": ("nn", "Module"), "tensorflow": ("Module",)}
"""Classes of other libraries from which users derive parts of a model."""

MAX_DATA = 10_000
"""Largest number of objects that are entered behind one name of a module, and of members in each.
More are data, such as a vocabulary, and hold no part of a model, unless the first members do."""

SOME_MEMBERS = 100
"""Members by which a larger container is taken for data or for parts of a model."""


class Place(NamedTuple):
    """Where a value was found."""

    path: str
    """How to write it, from the layer that holds it."""
    holder: Any
    """The object, list or dict that it is an attribute or element of; None for a closure."""
    key: Any
    """The name, index or key of the value in the holder."""
    value: Any
    own: bool
    """Whether the object around it is of a class that no library wrote."""


def walk_objects(root: Any) -> Iterator[Place]:
    """Iterate over every attribute and element that can be reached from ``root``.

    Each holder is entered once, so that cycles end. A value that several holders share comes up in
    each of them.
    """
    entered = {id(root)}
    waiting = collections.deque([(getattr(root, "name", "model"), root, True)])
    while waiting:
        path, holder, own = waiting.popleft()
        own = own if isinstance(holder, CONTAINERS) else is_own(holder)
        for place in _contents(path, holder, own):
            yield place
            value = place.value
            if type(value) in _NEVER_ENTERED or id(value) in entered:
                continue
            if _is_entered(value):
                entered.add(id(value))
                named = isinstance(value, keras.Layer)
                waiting.append((value.name if named else place.path, value, own))


def is_own(value: Any) -> bool:
    """Return whether the class of an object is the user's."""
    return is_written_by_user(type(value))


def is_written_by_user(kind: type) -> bool:
    """Return whether no library wrote a class."""
    return _package(kind) not in _LIBRARIES


def layers_in(root: Any) -> list[Any]:
    """Return the layers that an object is made of, each once, the object itself first."""
    found = {id(root): root} if isinstance(root, keras.Layer) else {}
    for place in walk_objects(root):
        if isinstance(place.value, keras.Layer):
            found.setdefault(id(place.value), place.value)
    return list(found.values())


def optimizers_in(root: Any, places: Iterable[Place]) -> list[Any]:
    """Return the optimizers that training an object may use, wherever they are; each once.

    Args:
        root: The object.
        places: What `walk_objects` has found in it.
    """
    held = held_optimizers(root).values()
    found = {id(one): one for one in held}
    for place in places:
        if is_optimizer(place.value):
            found.setdefault(id(place.value), place.value)
    return list(found.values())


def normalizes_batches(root: Any) -> bool:
    """Return whether a layer of an object trains with the statistics of each batch."""
    kind = keras.layers.BatchNormalization
    return any(isinstance(layer, kind) and layer.trainable for layer in layers_in(root))


def callables_in(root: Any) -> list[Any]:
    """Return what training an object calls: layers, losses, metrics, functions; each once."""
    found = {id(root): root}
    for place in walk_objects(root):
        if callable(place.value) and not isinstance(place.value, type):
            found.setdefault(id(place.value), place.value)
    return list(found.values())


CONTAINERS = (dict, list, tuple, set, frozenset, collections.deque)


def _is_entered(value: Any) -> bool:
    if type(value) in _NEVER_ENTERED or isinstance(value, type | types.ModuleType):
        return False
    if isinstance(value, _ALWAYS_ENTERED):
        return True
    if (function := _function_of(value)) is not None:
        return _package(function) not in _LIBRARIES
    if is_variable(value) or not (hasattr(value, "__dict__") or hasattr(value, "__slots__")):
        return False
    return isinstance(value, _KINDS_OF_KERAS) or is_own(value) or _is_module(value)


def _is_part(value: Any) -> bool:
    """Return whether a value is of a kind that a training run changes, whoever holds it."""
    if isinstance(value, keras.callbacks.Callback):
        return False
    return isinstance(value, _KINDS_OF_KERAS) or _is_module(value)


_NEVER_ENTERED = {type(None), bool, int, float, str, bytes}
_ALWAYS_ENTERED = (*CONTAINERS, functools.partial, types.MethodType)


def _is_module(value: Any) -> bool:
    """Return whether a value is a module of a library that is loaded."""
    for library, names in _MODULES.items():
        kind: Any = loaded_library(library)
        for name in names:
            kind = getattr(kind, name, None)
        if isinstance(kind, type) and isinstance(value, kind):
            return True
    return False


def loaded_library(name: str) -> Any:
    """Return a library that the process has imported; None if it has not.

    Another thread may be importing it now: its objects are complete only when that is done.
    """
    return importlib.import_module(name) if name in sys.modules else None


def _package(kind: Any) -> str:
    return (getattr(kind, "__module__", None) or "").partition(".")[0]


def _function_of(value: Any) -> types.FunctionType | None:
    """Return the function that a value is or was made from; None if it is not a function."""
    if isinstance(value, property):
        value = value.fget
    elif isinstance(value, staticmethod | classmethod):
        value = value.__func__
    value = getattr(value, "python_function", value)  # compiled by TensorFlow
    value = inspect.unwrap(value) if callable(value) else value
    return value if isinstance(value, types.FunctionType) else None


def _attributes(holder: Any) -> Iterator[tuple[str, Any]]:
    """Iterate over the attributes of an object, those in slots among them."""
    yield from list(getattr(holder, "__dict__", {}).items())
    for name in _slots_of(type(holder)):
        if hasattr(holder, name):
            yield name, getattr(holder, name)


_SLOTS: weakref.WeakKeyDictionary[type, list[str]] = weakref.WeakKeyDictionary()
"""The names that `_slots_of` has found for a class."""


def _slots_of(kind: type) -> list[str]:
    """Return the names of the attributes that the objects of a class have in slots."""
    if kind not in _SLOTS:
        slots = (vars(base).get("__slots__", ()) for base in kind.__mro__)
        names = [name for one in slots for name in ((one,) if isinstance(one, str) else one)]
        _SLOTS[kind] = [name for name in names if name not in ("__dict__", "__weakref__")]
    return _SLOTS[kind]


def _contents(path: str, holder: Any, own: bool) -> Iterator[Place]:
    """Iterate over what an object, a container or a function holds."""
    if isinstance(holder, dict):
        for key, value in list(holder.items()):
            yield Place(f"{path}[{key!r}]", holder, key, value, own)
    elif isinstance(holder, CONTAINERS):
        fixed = isinstance(holder, tuple | set | frozenset)
        for i, value in enumerate(list(holder)):
            yield Place(f"{path}[{i}]", None if fixed else holder, i, value, own)
    elif isinstance(holder, functools.partial):
        for i, value in enumerate((holder.func, holder.args, holder.keywords)):
            yield Place(path, None, i, value, own)
    elif isinstance(holder, types.MethodType):
        yield Place(path, None, 0, holder.__self__, own)
    elif (function := _function_of(holder)) is not None:
        yield from _captured(path, function)
    else:
        for name, value in _attributes(holder):
            if not name.startswith("_keras_lr"):
                yield Place(f"{path}.{name}", holder, name, value, own)
        for kind in type(holder).__mro__:
            if own and is_written_by_user(kind):
                for function in filter(None, map(_function_of, vars(kind).values())):
                    yield from _captured(path, function)


def _captured(path: str, function: types.FunctionType) -> Iterator[Place]:
    """Iterate over what a function refers to besides its arguments."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield Place(f"{path}: {name}", None, name, cell.cell_contents, True)
        except ValueError:
            continue  # not assigned yet
    for value in function.__defaults__ or ():
        yield Place(f"{path}: a default", None, 0, value, True)
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        # A container or an object of the user's that a module holds need not be part of the model,
        # but the variables, layers and optimizers in it may be.
        if isinstance(value, types.FunctionType) or not _is_entered(value) or _is_part(value):
            yield Place(f"{path}: {name}", None, name, value, True)
        elif _may_hold_parts(value):
            yield from _parts_in(f"{path}: {name}", value)


def _parts_in(path: str, holder: Any) -> Iterator[Place]:
    """Iterate over the variables and parts of models that an object of a module leads to."""
    entered = {id(holder)}
    waiting = collections.deque([(path, holder)])
    while waiting:
        for place in _contents(*waiting.popleft(), own=False):
            value = place.value
            if is_variable(value) or _is_part(value):
                yield Place(place.path, None, place.key, value, True)
            elif id(value) not in entered and len(entered) < MAX_DATA and _may_hold_parts(value):
                entered.add(id(value))
                waiting.append((place.path, value))


def _may_hold_parts(value: Any) -> bool:
    """Return whether a value is a container, or an object of the user's, that may hold parts."""
    if isinstance(value, CONTAINERS):
        if len(value) <= MAX_DATA:
            return True
        members = value.values() if isinstance(value, dict) else value
        some = itertools.islice(members, SOME_MEMBERS)
        return any(is_variable(one) or _is_part(one) for one in some)
    callback = isinstance(value, keras.callbacks.Callback)
    return _is_entered(value) and is_own(value) and not callback and _function_of(value) is None
