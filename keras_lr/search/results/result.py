"""`SweepResult`: the result of a sweep."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Self

from keras_lr._files import AnyPath, PathLike
from keras_lr._hints import count_of
from keras_lr.range_test.curve import NoSuggestion
from keras_lr.search.results.rows import Criterion, TrialRow, plain_row, write_rows
from keras_lr.search.results.valleys import Best, Valley, find_valley
from keras_lr.search.trials.description import Group

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes


@dataclasses.dataclass(frozen=True)
class SweepResult:
    """The result of a sweep: a row for each trial, and the best rate of each optimizer.

    Attributes:
        rows: The trials, by size, optimizer, rate and seed.
        criterion: How they are compared.
        groups: Sizes and optimizers, in the order in which they were given.
        interrupted: Whether Ctrl-C ended the sweep before all was trained.

    >>> from keras_lr.search.results.rows import Criterion
    >>> SweepResult((), Criterion("loss", False, "", 20), ())
    SweepResult(0 trials, no best rate)
    """

    rows: tuple[TrialRow, ...]
    criterion: Criterion
    groups: tuple[Group, ...]
    interrupted: bool = False

    @classmethod
    def load(cls, directory: AnyPath) -> Self:
        """Return the result so far of the sweep in a folder, even while it runs.

        Raises:
            FileNotFoundError: If there is no sweep in the folder.
            StateError: If its record is damaged.
        """
        from keras_lr.search.record import SweepRecord

        record = SweepRecord(directory)
        criterion = record.known_criterion()
        rows = criterion.rows(record.outcomes.values())
        return cls(tuple(rows), criterion, tuple(record.groups))

    @functools.cached_property
    def valleys(self) -> list[Valley]:
        """The valley of each optimizer at each size."""
        return [find_valley(self.rows, group, self.criterion) for group in self.groups]

    @property
    def bests(self) -> list[Best]:
        """The best rate of each optimizer at each size, the best of all first.

        With several sizes, the optimizers of each size stay together, in the order of the sizes.
        """
        sizes = list(dict.fromkeys(group.size for group in self.groups))
        found = [valley for valley in self.valleys if valley.best is not None]
        found.sort(key=lambda one: (sizes.index(one.group.size), self._rank(one)))
        return [valley.best for valley in found if valley.best is not None]

    def _rank(self, valley: Valley) -> tuple[float, ...]:
        """Return the rank of a group, which is that of its best rate."""
        return self.criterion.rank(valley.rows[valley.place_of_best])

    @property
    def best(self) -> Best:
        """The best optimizer with its best rate; at the first size, if there are several.

        Raises:
            NoSuggestion: If no rate was trained to its end; the message says why.
        """
        if not self.bests:
            raise NoSuggestion(self._explain_failure())
        return self.bests[0]

    def best_of(self, optimizer: str, size: str = "") -> Best:
        """Return the best rate of one optimizer.

        Args:
            optimizer: The sweep's name for the optimizer, such as ``"Adam"``, in any case.
            size: Name of the model's size, if there are several.

        Raises:
            KeyError: If there is no such optimizer or size.
            NoSuggestion: If no rate of it was trained to its end.
        """
        names = dict.fromkeys(group.optimizer for group in self.groups)
        folded = [name for name in names if name.casefold() == str(optimizer).casefold()]
        if optimizer not in names and len(folded) == 1:
            (optimizer,) = folded
        for valley in self.valleys:
            if valley.group == Group(size, optimizer):
                if valley.best is None:
                    raise NoSuggestion(self._explain_failure())
                return valley.best
        raise KeyError(
            f"The sweep has no {Group(size, optimizer)}. It has: {', '.join(map(str, self.groups))}"
        )

    def moves(self) -> dict[str, dict[str, float]]:
        """Return the ratio of the best rate at each size to that at the first, by optimizer.

        A size at which an optimizer has no best rate is left out.
        """
        found: dict[str, dict[str, float]] = {}
        for valley in self.valleys:
            if valley.best is not None:
                rates = found.setdefault(valley.group.optimizer, {})
                rates[valley.group.size] = valley.best.learning_rate
        return {
            optimizer: {size: rate / next(iter(rates.values())) for size, rate in rates.items()}
            for optimizer, rates in found.items()
        }

    def _explain_failure(self) -> str:
        reasons = dict.fromkeys(row.reason for row in self.rows if row.reason)
        shown = "; ".join(list(reasons)[:3]) or "none was trained"
        return f"No rate was trained to its end with every seed: {shown}."

    def __repr__(self) -> str:
        bests = self.bests
        shown = f"best {bests[0].optimizer} at {bests[0].learning_rate:.3g}" if bests else None
        return f"SweepResult({count_of(len(self.rows), 'trial')}, {shown or 'no best rate'})"

    def report(self) -> str:
        """Return in plain words what the sweep shows."""
        from keras_lr.search.results.report import report

        return report(self)

    def plot(self, y: str | None = None, x: str = "learning_rate", ax: Axes | None = None) -> Axes:
        """Draw what the sweep shows: a line for each optimizer, with its spread over the seeds.

        Args:
            y: The measure to draw: ``"steps"``, ``"epochs"`` or ``"seconds"`` to the target, or a
                logged value; over sizes also ``"learning_rate"``, the best one. By default it is
                the one by which trials are compared.
            x: The axis to draw over: ``"learning_rate"`` shows the valleys; ``"epochs"``,
                ``"steps"`` or ``"seconds"`` the training at each optimizer's best rate; ``"size"``
                each optimizer at its best rate as the model grows.
            ax: Axes to draw into; by default those of a new figure.

        Returns:
            The axes.

        Raises:
            ValueError: If ``x`` or ``y`` cannot be drawn.
        """
        from keras_lr.search.results.plot import plot_sweep

        return plot_sweep(self, y, x, ax)

    def to_csv(self, path: PathLike) -> None:
        """Write a row for each trial to a CSV file, which appears whole or not at all."""
        write_rows(path, map(plain_row, self.rows))

    def to_pandas(self) -> pandas.DataFrame:
        """Return a pandas ``DataFrame``, one row per trial."""
        import pandas

        return pandas.DataFrame([plain_row(row) for row in self.rows])
