"""Status line in the terminal that shows the progress of a population."""

from __future__ import annotations

from keras_lr.search.population.results.rows import MemberRow
from keras_lr.search.progress import StatusLine
from keras_lr.search.results.rows import Criterion


class PopulationProgress(StatusLine):
    """Status line of a population: rounds done, best of the present round, time left."""

    def __init__(self, criterion: Criterion, members: int, rounds: int, shown: bool) -> None:
        """Begin.

        Args:
            criterion: How members are compared.
            members: Number of members.
            rounds: Rounds to train.
            shown: Whether to write anything.
        """
        super().__init__(shown)
        self.criterion = criterion
        self.members = members
        self.rounds = rounds
        self._rows: list[MemberRow] = []

    def advance(self, row: MemberRow) -> None:
        """Add a member that has finished a round."""
        self._rows.append(row)
        self.write()

    def text(self) -> str:
        """Return the line."""
        last = self._rows[-1].round
        current = [row for row in self._rows if row.round == last]
        parts = [f"round {last} of {self.rounds}, {len(current)} of {self.members} members"]
        scored = [row for row in current if not row.is_lost]
        if scored:
            best = (max if self.criterion.up else min)(scored, key=lambda row: row.score)
            rate = best.values["learning_rate"]
            parts.append(
                f"best: member {best.member} at {rate:.3g} "
                f"({self.criterion.monitor} {best.score:.4g})"
            )
        share = len(self._rows) / (self.members * self.rounds)
        return " · ".join([*parts, *self.time_left(share)])
