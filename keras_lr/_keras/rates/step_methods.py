"""`StepMethods`: functions that replace an optimizer's methods while a step runs or is traced.

Anything that changes how an optimizer updates uses this: it replaces methods of the instance while
Python executes the training step, and only then. Relies on: an instance attribute with the name of
a method is called instead of the method. None of it is saved, copied or pickled, and a compiled
step keeps what it did when it was traced.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable
from typing import Any

import keras


class StepMethods:
    """Replaces some methods of an optimizer by functions, between `enter` and `leave`.

    A training step may be entered several times at once: each replica of a ``MirroredStrategy`` is
    traced in its own thread. The first to enter installs the functions, and the last to leave
    removes them. Several objects may enter one after the other for the same optimizer: the
    functions of the last one are called first, and it must leave first.
    """

    def __init__(self, optimizer: Any, functions: dict[str, Callable[..., Any]], use: str) -> None:
        """Check that the optimizer has the methods; `enter` replaces them.

        Args:
            optimizer: The optimizer.
            functions: The function that replaces each method. It is called with the optimizer's own
                method, followed by the arguments.
            use: What needs the methods, for errors.

        Raises:
            RuntimeError: If the optimizer lacks one of the methods.
        """
        check_has(optimizer, functions, use)
        self.optimizer = optimizer
        self._functions = functions
        self._own: dict[str, Any] | None = None
        """Instance attributes of the optimizer that the functions have replaced."""
        self._lock = threading.Lock()
        self._entered = 0

    def enter(self) -> None:
        """Make the optimizer call the functions."""
        with self._lock:
            self._entered += 1
            if self._entered > 1:
                return
            self._own = {name: vars(self.optimizer).get(name) for name in self._functions}
            for name, function in self._functions.items():
                method = self._own[name] or functools.partial(
                    getattr(type(self.optimizer), name), self.optimizer
                )
                vars(self.optimizer)[name] = functools.partial(function, method)

    def leave(self) -> bool:
        """Give the optimizer its methods back, unless another step is still inside.

        Returns:
            Whether the optimizer has its own methods again.
        """
        with self._lock:
            self._entered = max(self._entered - 1, 0)
            if self._entered:
                return False
            own, self._own = self._own or {}, None
            for name, method in own.items():
                vars(self.optimizer).pop(name, None)
                if method is not None:
                    vars(self.optimizer)[name] = method
            return True


def check_has(optimizer: Any, names: Iterable[str], use: str) -> None:
    """Refuse an optimizer that lacks an attribute.

    Args:
        optimizer: The optimizer.
        names: The names of the attributes.
        use: What needs them, for errors.

    Raises:
        RuntimeError: If a name is missing.
    """
    missing = [name for name in names if not hasattr(optimizer, name)]
    if missing:
        known = isinstance(optimizer, keras.optimizers.Optimizer)
        version = f"Keras {keras.__version__}" if known else "its library"
        raise RuntimeError(
            f"The optimizer {type(optimizer).__name__} of {version} has no "
            f"{' and no '.join(missing)}, which keras_lr needs to change its updates, so "
            f"{use} cannot work with it."
        )
