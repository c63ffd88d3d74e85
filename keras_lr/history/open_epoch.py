"""`OpenEpoch`: the epoch that is being recorded, and how its batch losses are recovered."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from keras_lr._fit.batch_loss import undo_running_mean


class OpenEpoch(NamedTuple):
    """The first row of the present epoch, and the numbers from which its last loss is estimated.

    The loss of an execution follows from the samples seen before and after it. The number after an
    execution is known when the next one begins. Until then the loss of the last execution is
    estimated as if it had as many samples as the one before.
    """

    first_row: int = 0
    first_step: int = 0
    estimated: int = 0
    """Rows of the last execution, if their loss is an estimate."""
    mean_before: float = 0.0
    """Running mean of the loss before the last execution, and after it."""
    mean_after: float = 0.0
    seen: float = 0.0
    """Samples of the epoch before the last execution."""
    samples: float = 1.0
    """Samples of the execution before the last one."""

    def without_estimate(self) -> OpenEpoch:
        """Return the epoch with the losses of all its rows known."""
        return self._replace(estimated=0)

    def recover(
        self, means: NDArray[np.floating], seen: list[float] | None, sizes: list[int]
    ) -> tuple[OpenEpoch, NDArray[np.floating]]:
        """Recover the batch losses of some executions.

        Args:
            means: The loss that each execution reports.
            seen: Samples of the epoch before each execution; None if ``means`` are not running
                means.
            sizes: Batches in each execution.

        Returns:
            The epoch with these executions, and the losses of its rows from the first estimated
            one on.
        """
        if seen is None:
            own = np.append(self.mean_after, means) if self.estimated else means
            batches = [self.estimated, *sizes] if self.estimated else sizes
            return self.without_estimate(), np.repeat(own, batches)
        if self.estimated:
            means = np.concatenate([[self.mean_before, self.mean_after], means])
            known, batches = np.array([self.seen, *seen]), [self.estimated, *sizes]
        else:
            means, known, batches = np.append(self.mean_before, means), np.array(seen), sizes
        samples = float(known[-1] - known[-2]) if len(known) > 1 else self.samples
        own = undo_running_mean(means, np.append(known, known[-1] + samples))
        after = self._replace(
            estimated=batches[-1],
            mean_before=float(means[-2]),
            mean_after=float(means[-1]),
            seen=float(known[-1]),
            samples=samples,
        )
        return after, np.repeat(own, batches)

    def last_losses(self, total: float) -> NDArray[np.floating]:
        """Return the losses of the estimated rows, from the samples of the whole epoch."""
        means, seen = np.array([self.mean_before, self.mean_after]), np.array([self.seen, total])
        return np.repeat(undo_running_mean(means, seen), self.estimated)
