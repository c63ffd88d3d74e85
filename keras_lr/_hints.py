"""Words of messages: the name that was probably meant, counts, articles, the user's own line."""

from __future__ import annotations

import difflib
import functools
import inspect
import itertools
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from types import FrameType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., None])

_LONGEST_NAME = 100
"""Largest number of characters of a name that are compared: the time grows with its square."""

_LIBRARIES = {"keras_lr", "keras", "tf_keras", "tensorflow", "jax", "torch", "contextlib"}
"""Packages whose code may be between the user's line and a warning of this package."""

CLASSES_ELSEWHERE = {
    # PyTorch
    "ChainedScheduler": "Product",
    "ConstantLR": "Constant",
    "CosineAnnealingLR": "CosineDecay",
    "CosineAnnealingWarmRestarts": "CosineRestarts",
    "CyclicLR": "TriangularCLR",
    "ExponentialLR": "ExponentialDecay",
    "LRFinder": "LRRangeTest",
    "LambdaLR": "Function",
    "LinearLR": "LinearDecay",
    "MultiStepLR": "PiecewiseConstant",
    "MultiplicativeLR": "Function",
    "OneCycleLR": "OneCycle",
    "PolynomialLR": "PolynomialDecay",
    "SequentialLR": "Sequence",
    "StepLR": "StepDecay",
    # Keras and its addons
    "CosineDecayRestarts": "CosineRestarts",
    "CyclicalLearningRate": "TriangularCLR",
    "InverseTimeDecay": "TimeDecay",
    "LearningRateScheduler": "Function",
    "PiecewiseConstantDecay": "PiecewiseConstant",
}
"""The nearest class of this package for each class of other libraries."""

_FIRST_RATE = ("initial_lr", "max_lr", "lr")
_ARGUMENTS_ELSEWHERE = {
    # PyTorch
    "T_0": ("first_cycle",),
    "T_max": ("over",),
    "T_mult": ("cycle_mult",),
    "div_factor": ("div",),
    "eta_min": ("final_lr",),
    "final_div_factor": ("final_div",),
    "gamma": ("factor",),
    "lr_lambda": ("fn",),
    "milestones": ("boundaries",),
    "pct_start": ("warmup",),
    "scale_fn": ("scale",),
    "scale_mode": ("scale_by",),
    "step_size": ("every",),
    "step_size_up": ("step_size",),
    "threshold": ("min_delta",),
    "total_iters": ("over",),
    "total_steps": ("over",),
    # Keras
    "alpha": ("final_lr",),
    "decay_rate": ("factor", "rate"),
    "decay_steps": ("over", "every"),
    "end_learning_rate": ("final_lr",),
    "first_decay_steps": ("first_cycle",),
    "initial_learning_rate": _FIRST_RATE,
    "learning_rate": _FIRST_RATE,
    "m_mul": ("lr_mult",),
    "t_mul": ("cycle_mult",),
    # both and others
    "epochs": ("over",),
    "warmup_ratio": ("warmup",),
    "warmup_steps": ("warmup",),
}
"""The arguments of this package that are nearest to an argument of other libraries."""

_UNITS_ELSEWHERE = {
    "alpha": ", a rate and not a share of the first one",
    "pct_start": ", such as warmup='30%'",
    "warmup_ratio": ", such as warmup='10%'",
}
"""What to add where the same number would mean something else here."""

_IN_STEPS = {"decay_steps", "first_decay_steps", "total_steps", "warmup_steps"}
"""Arguments of other libraries that count steps; a number here counts epochs."""


def nearest_name_hint(name: object, known: Iterable[str], quote: str = "`") -> str:
    """Return a sentence that names the nearest of the known names, with a space before it.

    The name may also be that of the same thing in PyTorch or Keras.

    Args:
        name: What the user wrote.
        known: The names that would have been right.
        quote: The mark before and after the name in the sentence.

    Returns:
        The sentence; an empty string if no known name is near.

    >>> nearest_name_hint("inital_lr", ["initial_lr", "final_lr"])
    ' Did you mean `initial_lr`?'
    >>> nearest_name_hint("lr", ["initial_lr", "final_lr"])
    ' Did you mean `initial_lr`?'
    >>> nearest_name_hint("gamma", ["initial_lr", "final_lr"])
    ''
    >>> nearest_name_hint("CosineAnnealingLR", ["CosineDecay", "CosineRestarts"])
    ' Did you mean `CosineDecay`?'
    """
    written, names = str(name)[:_LONGEST_NAME], list(known)
    elsewhere = (CLASSES_ELSEWHERE.get(written, ""), *_ARGUMENTS_ELSEWHERE.get(written, ()))
    for meant in elsewhere:
        if meant in names:
            steps = f", such as {meant}='2000 steps'" if written in _IN_STEPS else ""
            unit = _UNITS_ELSEWHERE.get(written, steps)
            return f" Did you mean {quote}{meant}{quote}{unit}?"
    near = difflib.get_close_matches(written, names, n=1) or _names_with_words_of(written, names)
    return f" Did you mean {quote}{near[0]}{quote}?" if near else ""


def refuse_unknown_arguments(owner: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse arguments of unknown names, and name the nearest known one.

    Args:
        owner: Name of the class or function that they were given to.
        given: The arguments by name.
        known: The names that would have been right.

    Raises:
        TypeError: If an argument is unknown.
    """
    names = list(known)
    for name in given:
        if name not in names:
            raise TypeError(
                f"{owner}: unknown argument `{name}`. Received: {name}={given[name]!r}."
                f"{nearest_name_hint(name, names)} Known: {', '.join(names)}"
            )


def with_hints(init: F) -> F:
    """Make a constructor refuse unknown arguments and suggest the name that was probably meant."""
    known = [*inspect.signature(init).parameters][1:]

    @functools.wraps(init)
    def checked(self: Any, *arguments: Any, **named: Any) -> None:
        refuse_unknown_arguments(type(self).__name__, named, known)
        init(self, *arguments, **named)

    return checked  # type: ignore[return-value]


def nearest_names(name: str, known: Iterable[str], most: int) -> list[str]:
    """Return the known names nearest to ``name``, or the first ones if none is near.

    Args:
        name: What the user wrote.
        known: The names that would have been right.
        most: Largest number of names to return.
    """
    names = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name[:_LONGEST_NAME], names, n=most, cutoff=0.3)
    return near or names[:most]


def count_of(number: float, noun: str, form: str = ",") -> str:
    """Return a number with a noun, in the plural unless it is 1.

    >>> count_of(1, "step"), count_of(2000, "step"), count_of(1.5, "epoch", "g")
    ('1 step', '2,000 steps', '1.5 epochs')
    """
    return f"{number:{form}} {noun}{'' if number == 1 else 's'}"


def with_article(name: str) -> str:
    """Return the name of a class after "a" or "an".

    >>> [with_article(name) for name in ("Adam", "SGD", "Dense", "ndarray", "UnitNormalization")]
    ['an Adam', 'an SGD', 'a Dense', 'an ndarray', 'a UnitNormalization']
    """
    is_spelt = name[:2].isupper()
    vowel = name[:1] in "AEFHILMNORSX" if is_spelt else name[:1].lower() in tuple("aeiou")
    an = name == "ndarray" or (vowel and not name.lower().startswith(("uni", "use", "one")))
    return f"{'an' if an else 'a'} {name}"


def _names_with_words_of(written: str, names: list[str]) -> list[str]:
    """Return the names that contain all words of ``written``, which `difflib` may not find near."""
    words = set(written.lower().replace("learning_rate", "lr").split("_"))
    return [name for name in names if words < set(name.split("_"))]


def warn_user(message: str) -> None:
    """Warn at the user's own line, such as that of ``model.fit``."""
    frames = (frame for frame, _ in traceback.walk_stack(sys._getframe(1)))
    ours = itertools.takewhile(_is_in_library, frames)
    warnings.warn(message, stacklevel=2 + sum(1 for _ in ours))


def _is_in_library(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__", "").partition(".")[0] in _LIBRARIES
