"""`SavedValue`: a value, and the function that puts it back where it was found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class SavedValue(NamedTuple):
    """A value that a training run changes, as it was at one moment.

    The function takes the value, so that one which another process has kept can be put in its
    place.
    """

    put: Callable[[Any], Any]
    value: Any

    def put_back(self) -> None:
        """Put the value back."""
        self.put(self.value)
