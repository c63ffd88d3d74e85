"""The functions that Keras makes of a model's steps, and what stands in for them during a fit.

Relies on (Keras 3.0 and later, and legacy Keras 2):

- ``fit`` and ``train_on_batch`` call ``model.make_train_function()`` before they train and read
  ``model.train_function`` for every execution; ``evaluate`` calls ``model.make_test_function()``.
  A model that lacks them is refused when a fit begins: `check_functions`.
- An attribute of the instance with the name of a method is called in the place of the method.
- A function of Keras's own that calls ``make_train_function`` is called ``fit`` where it trains
  over epochs and ``train_on_batch`` where it trains on one batch.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

MAKERS = "make_train_function", "make_test_function"


def check_functions(model: Any) -> None:
    """Refuse a model that makes its training step in another way.

    Raises:
        RuntimeError: If the model has no ``train_function``, or nothing that makes it.
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
    """Let a model train by ``function``."""
    model.train_function = function


def stop_evaluation(model: Any) -> None:
    """End the evaluation that runs on a model after the present batch, as ``stop_training`` does.

    Where Keras does not look at the attribute, the evaluation goes on to its end.
    """
    model.stop_evaluating = True


def name_of_caller(depth: int = 1) -> str:
    """Return the name of the function that called the caller, ``depth`` calls further out."""
    return sys._getframe(depth + 1).f_code.co_name


class MakerPatch:
    """Puts functions in the place of those that make a model's train and test function.

    A model may have makers of its own as attributes; they are called and put back.
    """

    def __init__(self, model: Any) -> None:
        """Know the makers that the model has."""
        self.model = model
        self.installed = False
        self._own = {name: vars(model).get(name) for name in MAKERS}

    def install(self, **makers: Callable[..., Any]) -> None:
        """Let a model call these makers."""
        for name, maker in makers.items():
            object.__setattr__(self.model, name, maker)
        self.installed = True

    def make(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Make a function of the model as Keras would without the patch."""
        own = self._own[name] or functools.partial(getattr(type(self.model), name), self.model)
        return own(*arguments, **options)

    def restore(self) -> None:
        """Let the model have the makers that it had."""
        if not self.installed:
            return
        self.installed = False
        for name, own in self._own.items():
            vars(self.model).pop(name, None)
            if own is not None:
                object.__setattr__(self.model, name, own)


class SingleSteps:
    """Lets a model that is compiled to run several steps per execution run one.

    Legacy Keras keeps that number in a variable, and stays as it is.
    """

    def __init__(self, model: Any) -> None:
        """Know what the model has; `apply` changes it."""
        self.model = model
        steps = getattr(model, "steps_per_execution", 1)
        single = dict.fromkeys(("train_function", "test_function")) | {"steps_per_execution": 1}
        self._single: dict[str, Any] = single if isinstance(steps, int) and steps > 1 else {}
        self._original = {name: getattr(model, name) for name in self._single}

    def apply(self) -> None:
        """Let the model run single steps, by the functions that it used for them before."""
        self._set(self._single)

    def keep_functions(self) -> None:
        """Keep the functions that Keras has made for single steps for the next `apply`."""
        self._single = {name: getattr(self.model, name) for name in self._single}

    def restore(self) -> None:
        """Put back what the model had."""
        self._set(self._original)

    def _set(self, attributes: dict[str, Any]) -> None:
        for name, value in attributes.items():
            setattr(self.model, name, value)
