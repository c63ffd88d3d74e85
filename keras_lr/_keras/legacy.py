"""Base classes with what a callback needs besides its hooks.

`LegacyHooks` relies on three names that legacy Keras 2 (``tf_keras`` 2.15 and later) calls. Keras 3
never calls them, and neither would a ``tf_keras`` that does not know them.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any


class LegacyHooks:
    """Tells legacy Keras that a callback has no batch hooks."""

    def _implements_train_batch_hooks(self) -> bool:
        return False

    _implements_test_batch_hooks = _implements_train_batch_hooks
    _implements_predict_batch_hooks = _implements_train_batch_hooks


class PassedAsObject:
    """Callback whose class, passed in place of an object, raises an error that says what to pass.

    Keras assumes that ``callbacks=[...]`` holds objects, and first calls ``set_model`` of each. On
    a class that is an unbound function, and the error would name neither the class nor the list.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Keras's own method is in a base class, which must not be changed.
        method = vars(cls).get("set_model") or super(cls, cls).set_model  # type: ignore[misc]
        if not isinstance(method, _ObjectMethod):
            cls.set_model = _ObjectMethod(method)  # type: ignore[attr-defined]


def class_for_object(cls: type) -> TypeError:
    """Return the error for a callback's class in the place of an object."""
    name = cls.__name__
    return TypeError(f"callbacks=[{name}] holds the class. Pass an object: callbacks=[{name}(...)]")


class _ObjectMethod:
    """Method that raises an error when it is called on the class."""

    def __init__(self, method: Callable[..., Any]) -> None:
        """Wrap a method."""
        self.method = method

    def __get__(self, owner: Any, cls: type) -> Callable[..., Any]:
        """Return the bound method of an object, or a function that raises for the class."""
        if owner is not None:
            return types.MethodType(self.method, owner)

        def call(*arguments: Any) -> Any:
            if arguments and isinstance(arguments[0], cls):
                return self.method(*arguments)
            raise class_for_object(cls)

        return call
