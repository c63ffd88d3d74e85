"""The cases of a test that are run by default, where many of them are alike."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def mostly_full(cases: Iterable[Any], kept: Collection[Any]) -> list[Any]:
    """Return parameters of which only some run by default, and the others with ``-m full``.

    Args:
        cases: The cases.
        kept: Those that always run. Each must be one of the cases.
    """
    cases = list(cases)
    assert [one for one in kept if one not in cases] == []
    return [pytest.param(one, marks=[] if one in kept else pytest.mark.full) for one in cases]
