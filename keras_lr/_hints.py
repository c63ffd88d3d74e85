"""The hint of an error message that names what the user probably meant."""

from __future__ import annotations

import difflib
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
    >>> nearest_name_hint("gamma", ["initial_lr", "final_lr"])
    ''
    """
    near = difflib.get_close_matches(str(name)[:_LONGEST_NAME], list(known), n=1)
    return f" Did you mean {quote}{near[0]}{quote}?" if near else ""
