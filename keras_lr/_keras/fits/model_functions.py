"""The functions that Keras makes from a model's steps, and how they are replaced during a fit.

Relies on (Keras 3.0 and later, and legacy Keras 2):

- ``fit`` and ``train_on_batch`` call ``model.make_train_function()`` before they train and read
  ``model.train_function`` for every execution; ``evaluate`` calls ``model.make_test_function()``.
  A model that lacks them is refused when a fit begins: `check_functions`.
- An instance attribute with the name of a method is called instead of the method.
- A function of Keras's own that calls ``make_train_function`` is called ``fit`` where it trains
  over epochs and ``train_on_batch`` where it trains on one batch. Where it has another name and a
  callback calls it, the fit steps aside for it as for another ``fit``, which takes longer for a
  single batch.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

MAKERS = "make_train_function", "make_test_function"


def check_functions(model: Any) -> None:
    """Refuse a model that makes its train function in another way.

    Raises:
        RuntimeError: If the model has no ``train_function``, or no method that makes it.
    """
    missing = [name for name in ("train_function", *MAKERS) if not hasattr(model, name)]
    if missing:
        raise RuntimeError(
            f"The model {getattr(model, 'name', model)!r} has no {' and no '.join(missing)}, by "
            "which keras_lr sets the values of each step: this is a model or a version of Keras "
            "that it does not know. Compile the schedule into the optimizer instead: "
            "SGD(schedule.in_graph(epochs=..., steps_per_epoch=...))."
        )


def set_train_function(model: Any, function: Any) -> None:
    """Make a model train by ``function``."""
    model.train_function = function


def stop_evaluation(model: Any) -> None:
    """End a model's running evaluation after the present batch, as ``stop_training`` ends a fit.

    If this version of Keras does not read the attribute, the evaluation runs to its end.
    """
    model.stop_evaluating = True


class Caller(NamedTuple):
    """The function that asks for one of a model's functions."""

    name: str
    is_of_keras: bool


def find_caller(depth: int = 1) -> Caller:
    """Return the function that called the caller, ``depth`` calls further out."""
    frame = sys._getframe(depth + 1)
    library = frame.f_globals.get("__name__", "").partition(".")[0]
    return Caller(frame.f_code.co_name, library in ("keras", "tf_keras"))


class MakerPatch:
    """Replaces the methods that make a model's train and test functions.

    A model may have its own makers as instance attributes; they are called, and put back.
    """

    def __init__(self, model: Any) -> None:
        """Remember the makers that the model has."""
        self.model = model
        self.installed = False
        self._own = {name: vars(model).get(name) for name in MAKERS}

    def install(self, **makers: Callable[..., Any]) -> None:
        """Make the model call ``makers`` instead of its own."""
        for name, maker in makers.items():
            object.__setattr__(self.model, name, maker)
        self.installed = True

    def make(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Make a function of the model as Keras would without the patch."""
        own = self._own[name] or functools.partial(getattr(type(self.model), name), self.model)
        return own(*arguments, **options)

    def restore(self) -> None:
        """Put the model's own makers back."""
        if not self.installed:
            return
        self.installed = False
        for name, own in self._own.items():
            vars(self.model).pop(name, None)
            if own is not None:
                object.__setattr__(self.model, name, own)


class SingleSteps:
    """Makes a model that is compiled with ``steps_per_execution=N`` run single steps.

    Legacy Keras keeps that number in a variable; its models are left unchanged.
    """

    def __init__(self, model: Any) -> None:
        """Remember the model's functions; `apply` changes the model."""
        self.model = model
        steps = getattr(model, "steps_per_execution", 1)
        single = dict.fromkeys(("train_function", "test_function")) | {"steps_per_execution": 1}
        self._single: dict[str, Any] = single if isinstance(steps, int) and steps > 1 else {}
        self._original = {name: getattr(model, name) for name in self._single}

    def apply(self) -> None:
        """Make the model run single steps, by the functions that it used for them before."""
        self._set(self._single)

    def keep_functions(self) -> None:
        """Keep the functions that Keras has made for single steps for the next `apply`."""
        self._single = {name: getattr(self.model, name) for name in self._single}

    def restore(self) -> None:
        """Put the model's own number of steps and functions back."""
        self._set(self._original)

    def _set(self, attributes: dict[str, Any]) -> None:
        for name, value in attributes.items():
            setattr(self.model, name, value)
