"""Status lines in the terminal that show the progress of a search."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras

from keras_lr._hints import count_of
from keras_lr.plotting.text import line_width
from keras_lr.search.results.rows import GAPS, Criterion, TrialRow


class Run(Protocol):
    """A run of a search, which has a row for everything finished."""

    @property
    def rows(self) -> Sequence[Any]: ...


class StatusLine:
    """Line in the terminal that is overwritten again and again."""

    def __init__(self, shown: bool) -> None:
        """Begin.

        Args:
            shown: Whether to write anything.
        """
        self.shown = shown and keras.config.is_interactive_logging_enabled()
        self._written = False
        self._began = time.monotonic()

    def text(self) -> str:
        """Return the line."""
        raise NotImplementedError

    def write(self) -> None:
        """Write the line over its last text."""
        if self.shown:
            width = line_width() - 1
            sys.stdout.write(f"\r{self.text()[:width]:<{width}}")  # covers a longer line before it
            sys.stdout.flush()
            self._written = True

    def end(self) -> None:
        """End the line."""
        if self._written:
            sys.stdout.write("\n")

    def watch(self, run: Run, train: Callable[[], None]) -> bool:
        """Train, end the line, and return whether Ctrl-C ended the training.

        Raises:
            KeyboardInterrupt: If nothing was finished by then.
        """
        try:
            train()
        except KeyboardInterrupt:
            if not run.rows:
                raise
            return True
        finally:
            self.end()
        return False

    def time_left(self, share: float) -> list[str]:
        """Return the estimated time left in words, or nothing before any share is done."""
        if not 0.0 < share < 1.0:
            return []
        left = (time.monotonic() - self._began) * (1.0 - share) / share
        return [f"{_duration(left)} left"]


class ProgressLine(StatusLine):
    """Status line of a sweep, updated with every outcome: trials done, best so far, time left."""

    def __init__(self, criterion: Criterion, shown: bool) -> None:
        """Begin.

        Args:
            criterion: How trials are compared.
            shown: Whether to write anything.
        """
        super().__init__(shown)
        self.criterion = criterion
        self.planned = 0
        self.done = 0
        self._rows: dict[object, TrialRow] = {}

    def plan(self, epochs: int) -> None:
        """Add epochs to those that are to be trained."""
        self.planned += epochs

    def advance(self, epochs: int, row: TrialRow) -> None:
        """Count epochs that need no more training, and store the row of their trial."""
        self.done += epochs
        self._rows[row.trial] = row
        self.write()

    def text(self) -> str:
        """Return the line."""
        share = self.done / self.planned if self.planned else 1.0
        count = len(self._rows)
        parts = [f"{count_of(count, 'trial', 'd')}, {share:.0%}"]
        rows = [row for row in self._rows.values() if row.epochs and row.status not in GAPS]
        if rows:
            best = min(rows, key=lambda row: self.criterion.rank([row]))
            measure = self.criterion.measure
            value = best.measure(measure)
            if best.target is None:
                measure, value = self.criterion.monitor, best.value
            where = f"{best.trial.group} at {best.trial.learning_rate:.3g}"
            parts.append(f"best so far: {where} ({measure} {value:.4g})")
        return " · ".join([*parts, *self.time_left(share)])


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
