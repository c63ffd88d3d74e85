"""`PopulationResult`: the result of a population."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from keras_lr._files import AnyPath, PathLike
from keras_lr._hints import count_of
from keras_lr._keras.rates.hyperparameters import LEARNING_RATE
from keras_lr.range_test.curve import NoSuggestion
from keras_lr.schedules import PiecewiseConstant
from keras_lr.search.population.line import piecewise_schedules
from keras_lr.search.population.results.rows import MemberRow, plain_row
from keras_lr.search.population.rule import PopulationRule
from keras_lr.search.results.rows import Criterion, write_rows

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes


@dataclasses.dataclass(frozen=True)
class PopulationResult:
    """The result of a population: a row for each member in each round, and the winner.

    Attributes:
        rows: The members in each round, by round and member.
        criterion: How they are compared.
        rule: The hyperparameters and their ranges, and who copies whom.
        every: Epochs of a round.
        interrupted: Whether Ctrl-C ended the training before all was trained.

    >>> from keras_lr.search.results.rows import Criterion
    >>> rule = PopulationRule((), 4, 0.25, (0.8, 1.2), 0.1, 0)
    >>> PopulationResult((), Criterion("loss", False, "", 20), rule, 1)
    PopulationResult(4 members, 0 rounds, no best member)
    """

    rows: tuple[MemberRow, ...]
    criterion: Criterion
    rule: PopulationRule
    every: int
    interrupted: bool = False
    winner: Any = dataclasses.field(default=None, compare=False, repr=False)
    """The model of the best member; None if nothing was trained for this result."""

    @classmethod
    def load(cls, directory: AnyPath) -> Self:
        """Return the result so far of the population in a folder, even while it trains.

        Raises:
            FileNotFoundError: If there is no population in the folder.
            StateError: If its record is damaged.
        """
        from keras_lr.search.population.record import PopulationRecord

        record = PopulationRecord(directory)
        criterion = record.known_criterion()
        rule, every, rows = record.replay(criterion)
        return cls(tuple(rows), criterion, rule, every)

    @property
    def names(self) -> tuple[str, ...]:
        """The hyperparameters, the learning rate first."""
        return tuple(parameter.name for parameter in self.rule.parameters)

    @property
    def rounds(self) -> list[list[MemberRow]]:
        """The rows of each round, by member; an interrupted round has fewer."""
        found: dict[int, list[MemberRow]] = {}
        for row in self.rows:
            found.setdefault(row.round, []).append(row)
        return list(found.values())

    @property
    def last_round(self) -> list[MemberRow]:
        """The rows of the last complete round, or of the first round if none is complete."""
        rounds = self.rounds
        whole = [rows for rows in rounds if len(rows) == self.rule.population]
        return [*rounds[:1], *whole][-1] if rounds else []

    @property
    def best(self) -> MemberRow:
        """The member with the best score at the end.

        Raises:
            NoSuggestion: If no member has come to the end; the message says why.
        """
        scored = [row for row in self.last_round if not row.is_lost]
        if not scored:
            raise NoSuggestion(self._explain_failure())
        sign = -1.0 if self.criterion.up else 1.0
        return min(scored, key=lambda row: sign * row.score)

    @property
    def model(self) -> Any:
        """The model of the best member, with its weights and the state of its optimizer.

        Raises:
            NoSuggestion: If no member has come to the end.
            ValueError: If the result was loaded from a folder, where there is no ``build``.
        """
        if self.winner is None:
            raise ValueError(
                f"The result has no model of member {self.best.member}, because it was loaded from "
                "a folder. Run the population with this folder once more: it trains nothing that "
                "was trained already, and returns the model."
            )
        return self.winner

    @property
    def lineage(self) -> list[MemberRow]:
        """The rows that led to the best member, from the first round on.

        Raises:
            NoSuggestion: If no member has come to the end.
        """
        return list(self._ancestors(self.best))[::-1]

    def _ancestors(self, row: MemberRow) -> Iterator[MemberRow]:
        by_place = {(one.round, one.member): one for one in self.rows}
        yield row
        while row.round > 1:
            row = by_place[row.round - 1, row.source]
            yield row

    @property
    def schedule(self) -> PiecewiseConstant:
        """The rates of the winner's line, as a schedule that a later ``fit`` can use.

        Raises:
            NoSuggestion: If no member has come to the end.
        """
        return self.schedules[LEARNING_RATE]

    @property
    def schedules(self) -> dict[str, PiecewiseConstant]:
        """The schedule of each hyperparameter; train with ``ParamScheduler(**result.schedules)``.

        Raises:
            NoSuggestion: If no member has come to the end.
        """
        return piecewise_schedules(self.names, self.every, self.best.line.values)

    def _explain_failure(self) -> str:
        reasons = list(dict.fromkeys(row.reason for row in self.last_round if row.reason))
        why = "; ".join(reasons[:3]) or "none was trained"
        return f"No member of the population has come to the end: {why}."

    def report(self) -> str:
        """Return in plain words what the population shows."""
        from keras_lr.search.population.results.report import report

        return report(self)

    def plot(self, axes: Sequence[Axes] | None = None) -> list[Axes]:
        """Draw each hyperparameter of all members over the epochs, and their scores below.

        The winner's line is drawn thick. A dotted line leads from a member that was copied to the
        copy; a cross marks a member that was lost.

        Args:
            axes: Axes to draw into, one for each hyperparameter and one for the score; by default
                those of a new figure.

        Returns:
            The axes.

        Raises:
            ValueError: If nothing was trained, or the number of axes is wrong.
        """
        from keras_lr.search.population.results.plot import plot_population

        return plot_population(self, axes)

    def to_csv(self, path: PathLike) -> None:
        """Write a row for each member and round to a CSV file, whole or not at all."""
        write_rows(path, map(plain_row, self.rows))

    def to_pandas(self) -> pandas.DataFrame:
        """Return a pandas ``DataFrame``, one row per member and round."""
        import pandas

        table = pandas.DataFrame([plain_row(row) for row in self.rows])
        if "copied_from" in table:
            table["copied_from"] = table["copied_from"].astype("Int64")
        return table

    def __repr__(self) -> str:
        try:
            score = f"{self.criterion.monitor} {self.best.score:.4g}"
            best = f"best member {self.best.member} ({score})"
        except NoSuggestion:
            best = "no best member"
        counts = f"{self.rule.population} members, {count_of(len(self.rounds), 'round')}"
        return f"PopulationResult({counts}, {best})"
