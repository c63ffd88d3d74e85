"""`Configurable`: classes whose fields are their whole config."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
from typing import (
    Annotated,
    Any,
    ClassVar,
    Self,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import keras

from keras_lr._fields.kinds import FieldType, check
from keras_lr._hints import nearest_name_hint

C = TypeVar("C", bound=type)


def field_types(cls: type, names: dict[str, Any] | None = None) -> dict[str, FieldType]:
    """Return the kind of every field of a class, in order.

    Args:
        cls: The class.
        names: What the annotations may refer to besides the globals of the class's module.
    """
    if "_field_types" in vars(cls):
        return cls._field_types  # type: ignore[attr-defined]
    hints = get_type_hints(cls, localns=names, include_extras=True)
    found, types = {}, {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        types[field.name], *more = get_args(hint) or (hint,)
        kinds = [arg for arg in more if isinstance(arg, FieldType)]
        if get_origin(hint) is not Annotated or not kinds:
            raise TypeError(
                f"{cls.__name__}.{field.name} is declared as {hint}; "
                "declare it with a kind, such as `PositiveRate` or `Length`"
            )
        found[field.name] = kinds[0]
    cls._field_types, cls._types = found, types  # type: ignore[attr-defined]
    return found


class Configurable:
    """A class whose dataclass fields are its whole config.

    Checks, equality, ``repr``, ``get_config``, ``from_config`` and pickling come from the fields.
    An object does not change after it is built; ``dataclasses.replace`` makes a changed one.
    """

    _ready: ClassVar[bool] = False
    arguments: ClassVar[dict[str, str]] = {}
    """Argument names of the fields that cannot bear them, because a method of that name exists."""

    def __post_init__(self) -> None:
        """Check every field, then let no field change."""
        for name, kind in field_types(type(self)).items():
            argument = self.arguments.get(name, name)
            setattr(self, name, check(type(self).__name__, argument, kind, getattr(self, name)))
        self.validate()
        super().__init__()
        self.__dict__["_ready"] = True

    def validate(self) -> None:
        """Check what involves several fields; raise `ValueError` through `invalid`."""

    def invalid(self, name: str, expected: str) -> ValueError:
        """Return the error for a field whose value does not go with the others."""
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

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(
            _comparable(getattr(self, name)) == _comparable(getattr(other, name))
            for name in field_types(type(self))
        )

    def __hash__(self) -> int:
        return hash((type(self), *(_hashable(getattr(self, n)) for n in field_types(type(self)))))

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{self.arguments.get(field.name, field.name)}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if field.default is dataclasses.MISSING or field.default != getattr(self, field.name)
        )
        return f"{type(self).__name__}({shown})"

    def __getstate__(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in field_types(type(self))}
        return {**super().__getstate__(), **fields, "_ready": True}  # type: ignore[dict-item]

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        self.validate()

    def get_config(self) -> dict[str, Any]:
        """Return the fields as plain data, nested objects serialised by Keras."""
        return {
            self.arguments.get(name, name): encode(getattr(self, name))
            for name in field_types(type(self))
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build an object from what `get_config` returned."""
        return cls(**{name: decode(value) for name, value in config.items()})


@dataclass_transform(eq_default=False)
def configured(cls: C, depth: int = 1) -> C:
    """Make a class of annotated fields one whose fields are its whole config.

    Args:
        cls: A subclass of `Configurable`.
        depth: How many calls up the class statement stands.
    """
    dataclasses.dataclass(eq=False, repr=False)(cls)
    # The class may stand in a function or a notebook, whose names its annotations use.
    caller = sys._getframe(depth)
    field_types(cls, {**caller.f_globals, **caller.f_locals})
    explain_arguments(cls)
    package = cls.__module__.partition(".")[0]
    return keras.saving.register_keras_serializable(package=package)(cls)


def explain_arguments(cls: type) -> None:
    """Make the constructor of ``cls`` answer an unknown argument with the nearest known one.

    Its signature shows the type of each field without its kind.
    """
    types = cls._types  # type: ignore[attr-defined]
    plain = cls.__init__  # type: ignore[misc]
    signature = inspect.signature(plain)
    fields = {argument: field for field, argument in cls.arguments.items()}  # type: ignore[attr-defined]
    shown = [
        parameter.replace(
            name=cls.arguments.get(name, name),  # type: ignore[attr-defined]
            annotation=types.get(name, parameter.annotation),
        )
        for name, parameter in signature.parameters.items()
    ]
    known = [parameter.name for parameter in shown[1:]]

    @functools.wraps(plain)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in known and name not in signature.parameters:
                raise TypeError(
                    f"{cls.__name__}: unknown argument `{name}`. Received: "
                    f"{name}={kwargs[name]!r}.{nearest_name_hint(name, known)} "
                    f"Known: {', '.join(known)}"
                )
        # `dataclasses.replace` passes all fields by their own names, and the changes among them.
        own = {name: value for name, value in kwargs.items() if name not in fields}
        said = {fields[name]: value for name, value in kwargs.items() if name in fields}
        plain(self, *args, **own | said)

    init.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    cls.__init__ = init  # type: ignore[misc]


def encode(value: Any) -> Any:
    """Return a field's value as plain data."""
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return keras.saving.serialize_keras_object(value)


def decode(value: Any) -> Any:
    """Return the value that `encode` made plain."""
    if isinstance(value, list | tuple):
        return [decode(item) for item in value]
    if isinstance(value, dict) and "class_name" in value:
        return keras.saving.deserialize_keras_object(value)
    return value


def _comparable(value: Any) -> Any:
    """A stand-in that compares by content for Keras objects, which compare by identity."""
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return type(value), _listed(value.get_config())
    return value


def _hashable(value: Any) -> Any:
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return type(value), repr(_listed(value.get_config()))
    return value


def _listed(value: Any) -> Any:
    """Return a value with lists for tuples, which a config file cannot tell apart."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, tuple | list) else value
