"""`Target`: a value of a metric that ends a trial, such as ``accuracy >= 0.97``."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping
from typing import NamedTuple, Self

_COMPARISONS = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM = re.compile(r"\s*([A-Za-z_][\w/.-]*)\s*(>=|<=|>|<)\s*(\S+)\s*")


class Target(NamedTuple):
    """A comparison of a logged value with a number.

    >>> Target.parse("val_loss < 0.1")
    Target(name='val_loss', comparison='<', value=0.1)
    >>> Target.parse("val_loss < 0.1").is_met({"val_loss": 0.09})
    True
    """

    name: str
    comparison: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the target in a text.

        Raises:
            ValueError: If the text is not a target.
        """
        found = _FORM.fullmatch(text)
        if found:
            name, comparison, number = found.groups()
            try:
                value = float(number)
            except ValueError:
                value = math.nan
            if math.isfinite(value):
                return cls(name, comparison, value)
        raise ValueError("a metric, >=, <=, > or <, and a number, such as 'accuracy >= 0.97'")

    def is_met(self, logs: Mapping[str, float]) -> bool:
        """Return whether the logs of an epoch meet the target."""
        return self.name in logs and _COMPARISONS[self.comparison](logs[self.name], self.value)

    def __str__(self) -> str:
        return f"{self.name} {self.comparison} {self.value:g}"
