"""What Keras asks of every callback besides its hooks.

Relies on three names that legacy Keras 2 (``tf_keras`` 2.15 and later) calls. Keras 3 never does,
and a ``tf_keras`` that did not would ignore them.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any


class LegacyHooks:
    """Methods by which legacy Keras asks which hooks of batches a callback has; here none."""

    def _implements_train_batch_hooks(self) -> bool:
        return False

    _implements_test_batch_hooks = _implements_train_batch_hooks
    _implements_predict_batch_hooks = _implements_train_batch_hooks


class PassedAsObject:
    """A callback whose class, passed in place of an object, says what to pass.

    Keras takes what stands in ``callbacks=[...]`` for an object, and first calls its ``set_model``.
    Of a class that is a function without its object, and the error would name neither.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Keras's own method stands in a base class, where it is out of reach.
        method = vars(cls).get("set_model") or super(cls, cls).set_model  # type: ignore[misc]
        if not isinstance(method, _ObjectMethod):
            cls.set_model = _ObjectMethod(method)  # type: ignore[attr-defined]


class _ObjectMethod:
    """A method that refuses to be called on the class."""

    def __init__(self, method: Callable[..., Any]) -> None:
        """Wrap a method."""
        self.method = method

    def __get__(self, owner: Any, cls: type) -> Callable[..., Any]:
        """Return the method of an object, or what stands for it on the class."""
        if owner is not None:
            return types.MethodType(self.method, owner)

        def call(*arguments: Any) -> Any:
            if arguments and isinstance(arguments[0], cls):
                return self.method(*arguments)
            name = cls.__name__
            raise TypeError(
                f"callbacks=[{name}] holds the class. Pass an object: callbacks=[{name}(...)]"
            )

        return call
