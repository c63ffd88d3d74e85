"""`Configurable`: classes whose fields are their whole config."""

from __future__ import annotations

import copyreg
import dataclasses
import inspect
import sys
from collections.abc import Iterator
from typing import (
    Annotated,
    Any,
    ClassVar,
    NamedTuple,
    Self,
    SupportsIndex,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
)

import keras

from keras_lr._fields.kinds import FieldType, check, safe_repr
from keras_lr._fields.nesting import Nested, call, nested
from keras_lr._fields.serialization import decode, encode
from keras_lr._hints import refuse_unknown_arguments

C = TypeVar("C", bound=type)

_MISSING = dataclasses.MISSING
_POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD


def field_types(cls: type, names: dict[str, Any] | None = None) -> dict[str, FieldType]:
    """Return the type of every field of a class, in order.

    Args:
        cls: The class.
        names: What the annotations may refer to besides the globals of the class's module.
    """
    if "_field_types" in vars(cls):
        return cls._field_types  # type: ignore[attr-defined]
    found, plain = {}, {}
    for field in dataclasses.fields(cls):
        hint = _evaluate_annotation(cls, field, names or {})
        plain[field.name], *more = get_args(hint) or (hint,)
        types = [argument for argument in more if isinstance(argument, FieldType)]
        if get_origin(hint) is not Annotated or not types:
            raise TypeError(
                f"{cls.__name__}.{field.name} is declared as {hint}; "
                "declare it with a kind of value, such as `PositiveRate` or `Length`"
            )
        found[field.name] = types[0]
    cls._field_types, cls._plain_types = found, plain  # type: ignore[attr-defined]
    return found


def _evaluate_annotation(cls: type, field: dataclasses.Field[Any], names: dict[str, Any]) -> Any:
    """Return the evaluated annotation of a field.

    `typing.get_type_hints` would also evaluate those of Keras's classes, and took a tenth of the
    time of ``import keras_lr``.
    """
    if not isinstance(field.type, str):
        return field.type
    owner = next(base for base in cls.__mro__ if field.name in inspect.get_annotations(base))
    return eval(field.type, vars(sys.modules[owner.__module__]), names)


class Configurable:
    """Base class for objects whose dataclass fields are their whole config.

    Checks, equality, ``repr``, ``get_config``, ``from_config`` and pickling come from the fields.
    An object does not change after it is built; ``dataclasses.replace`` makes a changed one.
    """

    _ready: ClassVar[bool] = False
    _plain_config: ClassVar[bool] = False
    """Whether the config consists of the fields alone: the class has no `get_config` of its own."""
    arguments: ClassVar[dict[str, str]] = {}
    """The argument name of each field that has another name, because a method has that name."""

    def __post_init__(self) -> None:
        """Check every field, then make the fields read-only."""
        owner = type(self).__name__
        for name, field_type in field_types(type(self)).items():
            argument = self.arguments.get(name, name)
            setattr(self, name, check(owner, argument, field_type, getattr(self, name)))
        self.validate()
        super().__init__()
        self.__dict__["_ready"] = True

    def validate(self) -> None:
        """Check values that depend on each other; raise the `ValueError` from `invalid`."""

    def invalid(self, name: str, expected: str) -> ValueError:
        """Return the error for a field whose value does not fit the others."""
        argument = self.arguments.get(name, name)
        return ValueError(
            f"{type(self).__name__}: argument `{argument}` must be {expected}. "
            f"Received: {argument}={getattr(self, name)!r}"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if self._ready and name in field_types(type(self)):
            raise AttributeError(
                f"{type(self).__name__}.{name} cannot change after the object is built. "
                f"Make a new one: dataclasses.replace(schedule, {name}={value!r})"
            )
        super().__setattr__(name, value)

    def parts(self) -> Iterator[Self]:
        """Iterate over this object and all that it is made of, each once, from the outside in."""
        seen, waiting = set(), [self]
        while waiting:
            part = waiting.pop()
            if id(part) not in seen:
                seen.add(id(part))
                yield part
                waiting += reversed(part.direct_parts())

    def direct_parts(self) -> list[Any]:
        """Return the configurable objects in the fields."""
        found: list[Any] = []
        for name in field_types(type(self)):
            value = getattr(self, name)
            items = value if isinstance(value, tuple) else (value,)
            found += [item for item in items if isinstance(item, Configurable)]
        return found

    @nested
    def __eq__(self, other: object) -> Nested[bool]:
        if type(self) is not type(other):
            return NotImplemented
        for name in field_types(type(self)):
            if not (yield call(_equal, getattr(self, name), getattr(other, name))):
                return False
        return True

    @nested
    def __hash__(self) -> Nested[int]:
        hashes = []
        for name in field_types(type(self)):
            hashes.append((yield call(_hash, getattr(self, name))))
        return hash((type(self), *hashes))

    @nested
    def __repr__(self) -> Nested[str]:
        shown = []
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.default is dataclasses.MISSING or field.default != value:
                text = yield call(_repr, value)
                shown.append(f"{self.arguments.get(field.name, field.name)}={text}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def __getstate__(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in field_types(type(self))}
        return {**super().__getstate__(), **fields, "_ready": True}  # type: ignore[dict-item]

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        """Return the pickled form of this object: all its parts in one flat list.

        The parts of a part come before it, so that nothing in the list is nested.
        """
        parts = self._parts_inside_out()
        places = {id(part): place for place, part in enumerate(parts)}
        state = _with_places(self.__getstate__(), places)
        if parts:
            state["nested_parts"] = [
                (type(part), _with_places(part.__getstate__(), places)) for part in parts
            ]
        return copyreg.__newobj__, (type(self),), state  # type: ignore[attr-defined]

    def _parts_inside_out(self) -> list[Configurable]:
        """Return the parts of this object, each after its own parts."""
        found: list[Configurable] = []
        seen: set[int] = set()
        waiting: list[tuple[Any, bool]] = [(part, False) for part in self.direct_parts()]
        while waiting:
            part, follows = waiting.pop()
            if follows:
                found.append(part)
            elif id(part) not in seen:
                seen.add(id(part))
                waiting.append((part, True))
                waiting += [(inner, False) for inner in part.direct_parts()]
        return found

    def __setstate__(self, state: dict[str, Any]) -> None:
        parts: list[Any] = []
        for cls, inner in state.get("nested_parts", ()):
            part = cls.__new__(cls)
            part.__setstate__(_with_parts(inner, parts))
            parts.append(part)
        super().__setstate__(_with_parts(state, parts))  # type: ignore[misc]
        self.validate()

    @nested
    def get_config(self) -> Nested[dict[str, Any]]:
        """Return the fields as plain data, nested objects serialised as Keras does."""
        config = {}
        for name in field_types(type(self)):
            argument = self.arguments.get(name, name)
            config[argument] = yield call(encode, getattr(self, name))
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build an object from what `get_config` returned."""
        return cls(**{name: decode(value) for name, value in config.items()})


class _Place(NamedTuple):
    """Stand-in for a part in a pickled state: its place in the list of all parts."""

    place: int


def _with_places(state: dict[str, Any], places: dict[int, int]) -> dict[str, Any]:
    """Return a state in which places replace the parts."""

    def replaced(value: Any) -> Any:
        if type(value) is tuple:
            return tuple(map(replaced, value))
        known = isinstance(value, Configurable) and id(value) in places
        return _Place(places[id(value)]) if known else value

    return {name: replaced(value) for name, value in state.items()}


def _with_parts(state: dict[str, Any], parts: list[Any]) -> dict[str, Any]:
    """Return a state in which the parts replace their places."""

    def replaced(value: Any) -> Any:
        if type(value) is tuple:
            return tuple(map(replaced, value))
        return parts[value.place] if isinstance(value, _Place) else value

    return {name: replaced(value) for name, value in state.items() if name != "nested_parts"}


@nested
def _equal(one: Any, other: Any) -> Nested[bool]:
    if one is other:
        return True
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        for pair in zip(one, other, strict=True):
            if not (yield call(_equal, *pair)):
                return False
        return True
    if isinstance(one, Configurable) and type(one) is type(other):
        return (yield call(one.__eq__, other)) is True
    return bool(_comparable(one) == _comparable(other))


@nested
def _hash(value: Any) -> Nested[int]:
    if isinstance(value, tuple):
        hashes = []
        for item in value:
            hashes.append((yield call(_hash, item)))
        return hash(tuple(hashes))
    if isinstance(value, Configurable):
        return (yield call(value.__hash__))
    stand_in = _comparable(value)
    return hash(value if stand_in is value else repr(stand_in))


@nested
def _repr(value: Any) -> Nested[str]:
    if type(value) is tuple:
        items = []
        for item in value:
            items.append((yield call(_repr, item)))
        return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
    if isinstance(value, Configurable):
        return (yield call(value.__repr__))
    return repr(value)


def _comparable(value: Any) -> Any:
    """Return a value that compares by content: Keras's schedules compare by identity."""
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return type(value), _lists_for_tuples(value.get_config())
    return value


def _lists_for_tuples(value: Any) -> Any:
    """Return a value with lists in place of tuples: a config file does not distinguish them."""
    if isinstance(value, dict):
        return {key: _lists_for_tuples(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_lists_for_tuples(item) for item in value]
    return value


@dataclass_transform(eq_default=False)
def configurable(cls: C, depth: int = 1) -> C:
    """Make the annotated fields of a class its constructor's arguments and its config.

    Args:
        cls: A subclass of `Configurable`.
        depth: Number of calls between this function and the class statement.
    """
    dataclasses.dataclass(init=False, eq=False, repr=False, match_args=False)(cls)
    # The class may be defined in a function or a notebook, whose names its annotations use.
    caller = sys._getframe(depth)
    field_types(cls, {**caller.f_globals, **caller.f_locals})
    if "__init__" not in vars(cls):
        _add_constructor(cls)
    methods = ("get_config", "from_config")
    plain = all(inspect.getattr_static(cls, m) is vars(Configurable)[m] for m in methods)
    cls._plain_config = plain  # type: ignore[attr-defined]
    package = cls.__module__.partition(".")[0]
    return keras.saving.register_keras_serializable(package=package)(cls)


def _add_constructor(cls: type) -> None:
    """Give a class a constructor whose arguments are the fields.

    The constructor refuses an unknown argument and names the nearest known one. Its signature shows
    the Python type of each field. `dataclasses` would compile a function for each class, which took
    a tenth of the time of ``import keras_lr``.
    """
    arguments: dict[str, str] = cls.arguments  # type: ignore[attr-defined]
    types = cls._plain_types  # type: ignore[attr-defined]
    fields = {arguments.get(field.name, field.name): field for field in dataclasses.fields(cls)}
    parameters = [_parameter(name, field, types[field.name]) for name, field in fields.items()]
    parameters.sort(key=lambda parameter: parameter.kind)
    unnamed = [one.name for one in parameters if one.kind is _POSITIONAL]
    named = [one.name for one in parameters if one.kind is not _POSITIONAL]
    this = inspect.Parameter("self", _POSITIONAL)
    signature = inspect.Signature([this, *parameters])

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        # `dataclasses.replace` passes all fields by their own names, and the changes among them.
        given = {arguments.get(name, name): value for name, value in kwargs.items()}
        given |= {name: value for name, value in kwargs.items() if name in fields}
        refuse_unknown_arguments(cls.__name__, given, fields)
        if named and len(args) > len(unnamed):
            rest = f"after {unnamed[-1]} " if unnamed else ""
            raise TypeError(
                f"{cls.__name__}: arguments {rest}must be named: {', '.join(named)}. "
                f"Received without a name: {', '.join(map(safe_repr, args[len(unnamed) :]))}"
            )
        try:
            bound = signature.bind(self, *args, **given)
        except TypeError as error:
            raise TypeError(f"{cls.__name__}: {error}") from None
        bound.apply_defaults()
        for name, field in fields.items():
            value = bound.arguments[name]
            is_default = value is field.default_factory
            setattr(self, field.name, value() if is_default else value)
        self.__post_init__()

    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    __init__.__signature__ = signature  # type: ignore[attr-defined]
    cls.__init__ = __init__  # type: ignore[misc]


def _parameter(name: str, field: dataclasses.Field[Any], annotation: Any) -> inspect.Parameter:
    """Return the constructor argument for a field; a default factory serves as its default."""
    kind = inspect.Parameter.KEYWORD_ONLY if field.kw_only else _POSITIONAL
    known = [one for one in (field.default, field.default_factory) if one is not _MISSING]
    default = known[0] if known else inspect.Parameter.empty
    return inspect.Parameter(name, kind, default=default, annotation=annotation)
