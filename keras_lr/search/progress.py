"""One line in the terminal that says how far a sweep has come."""

from __future__ import annotations

import sys
import time

import keras

from keras_lr.plotting.text import line_width
from keras_lr.search.results.rows import Criterion, TrialRow


class ProgressLine:
    """Line that is written anew with every outcome: trials done, best so far, time left."""

    def __init__(self, criterion: Criterion, shown: bool) -> None:
        """Begin.

        Args:
            criterion: How trials are compared.
            shown: Whether to write anything.
        """
        self.criterion = criterion
        self.shown = shown and keras.config.is_interactive_logging_enabled()
        self.planned = 0
        self.done = 0
        self._began = time.monotonic()
        self._rows: dict[object, TrialRow] = {}

    def plan(self, epochs: int) -> None:
        """Note epochs that are to be trained."""
        self.planned += epochs

    def advance(self, epochs: int, row: TrialRow) -> None:
        """Note epochs that need no more training, and the trial that they are of."""
        self.done += epochs
        self._rows[row.trial] = row
        if self.shown:
            width = line_width() - 1
            sys.stdout.write(f"\r{self.text()[:width]:<{width}}")  # covers a longer line before it
            sys.stdout.flush()

    def text(self) -> str:
        """Return the line."""
        share = self.done / self.planned if self.planned else 1.0
        parts = [f"{len(self._rows)} trials, {share:.0%}"]
        ranked = sorted(self._rows.values(), key=lambda row: self.criterion.rank([row]))
        if ranked and ranked[0].epochs:
            best, measure = ranked[0], self.criterion.measure
            value = best.measure(measure)
            if best.target is None:
                measure, value = self.criterion.monitor, best.value
            where = f"{best.trial.group} at {best.trial.learning_rate:.3g}"
            parts.append(f"best so far: {where} ({measure} {value:.4g})")
        if 0.0 < share < 1.0:
            left = (time.monotonic() - self._began) * (1.0 - share) / share
            parts.append(f"{_duration(left)} left")
        return " · ".join(parts)

    def end(self) -> None:
        """End the line."""
        if self.shown and self._rows:
            sys.stdout.write("\n")


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
