"""`StepMethods`: functions that replace an optimizer's methods while a step runs or is traced.

Anything that changes how an optimizer updates uses this: it replaces methods of the instance while
Python executes the training step, and only then. None of it is saved, copied or pickled, and a
compiled step keeps what it did when it was traced.

Relies on: an instance attribute with the name of a method is called instead of the method, and the
optimizer calls the method in its first update. `StepMethods.checked_update` refuses one that does
not, as one with a weight decay and without a call of ``_apply_weight_decay``.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
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
        self._functions, self._use = functions, use
        self.called: set[str] = set()
        """The methods that the optimizer has called so far."""
        self._begun = 0
        """The updates that `checked_update` has seen begin."""
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
            for name in self._functions:
                method = self._own[name] or functools.partial(
                    getattr(type(self.optimizer), name), self.optimizer
                )
                vars(self.optimizer)[name] = functools.partial(self._call, name, method)

    def _call(self, name: str, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        self.called.add(name)
        return self._functions[name](method, *arguments, **options)

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

    @contextlib.contextmanager
    def checked_update(self, variables: Iterable[Any], *names: str) -> Iterator[None]:
        """Refuse an optimizer that makes the update inside the context without some methods.

        Only the first update is checked. After an exception it is undone, unless it was only
        traced.

        Args:
            variables: The variables that the optimizer updates.
            *names: The methods that it has to call.

        Raises:
            RuntimeError: If it has not called one of them.
        """
        decays = getattr(self.optimizer, "weight_decay", None) is not None
        needed = [name for name in names if decays or name != WEIGHT_DECAY]
        self._begun += 1
        eager = _runs_eagerly()
        accumulated = getattr(self.optimizer, "gradient_accumulation_steps", None) or 1
        if self.called.issuperset(needed) or (eager and self._begun < accumulated):
            yield
            return
        everything = (*variables, *self.optimizer.variables) if eager else ()
        before = [(variable, keras.ops.copy(variable.value)) for variable in everything]
        try:
            yield
            missing = [name for name in needed if name not in self.called]
            if missing:
                raise updates_in_its_own_way(self.optimizer, missing[0], self._use)
        except BaseException:
            for variable, value in before:
                variable.assign(value)
            raise


WEIGHT_DECAY = "_apply_weight_decay"
"""Keras's name for the method that decays the weights, where an optimizer has a weight decay."""


def _runs_eagerly() -> bool:
    """Return whether operations take effect at once."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.executing_eagerly()
    return keras.backend.backend() != "jax"  # whose steps return what they change


def updates_in_its_own_way(optimizer: Any, name: str, use: str) -> RuntimeError:
    """Return the error for an optimizer that does not call a method where Keras's do."""
    return RuntimeError(
        f"The optimizer {type(optimizer).__name__} updates its variables in its own way, and not "
        f"by `{name}`, so that {use} cannot work with it."
    )


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
