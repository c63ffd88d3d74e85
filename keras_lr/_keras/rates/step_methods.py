"""Functions in the place of an optimizer's methods, for the time in which a step runs or is traced.

This is the way by which anything takes part in the updates of an optimizer: it replaces methods of
the instance while Python goes through the training step, and only then. Relies on: an attribute of
the instance with the name of a method is called in the place of the method. Nothing of it is in
what is saved, copied or pickled, and a step that is compiled keeps what it did when it was traced.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable
from typing import Any

import keras


class StepMethods:
    """Puts functions in the place of some of an optimizer's methods between `enter` and `leave`.

    A training step may be entered several times at once: each replica of a ``MirroredStrategy`` is
    traced in a thread of its own. The first to enter puts the functions there, and the last to
    leave takes them away. Several objects may enter one after the other, for the same optimizer:
    the functions of the last one are called first, and it leaves first.
    """

    def __init__(self, optimizer: Any, functions: dict[str, Callable[..., Any]], use: str) -> None:
        """Check that the optimizer has the methods; `enter` replaces them.

        Args:
            optimizer: The optimizer.
            functions: What is called in the place of each method: with the method as the optimizer
                has it, and then with the arguments.
            use: What needs the methods, for errors.

        Raises:
            RuntimeError: If the optimizer lacks one.
        """
        check_has(optimizer, functions, use)
        self.optimizer = optimizer
        self._functions = functions
        self._own: dict[str, Any] | None = None
        """What the optimizer itself has in these places, while the functions are there."""
        self._lock = threading.Lock()
        self._entered = 0

    def enter(self) -> None:
        """Let the optimizer call the functions."""
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
        """Let the optimizer have its methods again, if no other step is entered.

        Returns:
            Whether it has them.
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
    """Refuse an optimizer that lacks something.

    Args:
        optimizer: The optimizer.
        names: The names of what is needed.
        use: What needs it, for errors.

    Raises:
        RuntimeError: If a name is missing.
    """
    missing = [name for name in names if not hasattr(optimizer, name)]
    if missing:
        known = isinstance(optimizer, keras.optimizers.Optimizer)
        version = f"Keras {keras.__version__}" if known else "its library"
        raise RuntimeError(
            f"The optimizer {type(optimizer).__name__} of {version} has no "
            f"{' and no '.join(missing)}, by which keras_lr takes part in its updates, so that "
            f"{use} cannot work with it."
        )
