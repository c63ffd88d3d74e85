"""What makes a message useful: the name that was probably meant, the line that caused a warning."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable

_LONGEST_NAME = 100
"""Characters of a name that are compared: the time to compare grows with the square of them."""


def nearest_name_hint(name: object, known: Iterable[str], quote: str = "`") -> str:
    """Return a sentence that names the nearest of the known names, with a space before it.

    Args:
        name: What the user wrote.
        known: The names that would have been right.
        quote: The mark before and after the name in the sentence.

    Returns:
        The sentence; an empty string where no known name is near.

    >>> nearest_name_hint("inital_lr", ["initial_lr", "final_lr"])
    ' Did you mean `initial_lr`?'
    >>> nearest_name_hint("lr", ["initial_lr", "final_lr"])
    ' Did you mean `initial_lr`?'
    >>> nearest_name_hint("gamma", ["initial_lr", "final_lr"])
    ''
    """
    written, names = str(name)[:_LONGEST_NAME], list(known)
    near = difflib.get_close_matches(written, names, n=1) or _names_with_words_of(written, names)
    return f" Did you mean {quote}{near[0]}{quote}?" if near else ""


def _names_with_words_of(written: str, names: list[str]) -> list[str]:
    """Return the names that have all words of ``written``, which compares them as no near name."""
    words = set(written.lower().replace("learning_rate", "lr").split("_"))
    return [name for name in names if words < set(name.split("_"))]


def user_stacklevel() -> int:
    """Return the ``stacklevel`` by which a warning of the caller points at the user's line.

    That line is the first outside of this package and of Keras, through whose ``fit`` the user may
    have called a callback.
    """
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in ("keras", "keras_lr"):
            return level
        level, frame = level + 1, frame.f_back
    return level
