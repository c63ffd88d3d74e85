"""`LearningRateReader`: reads a learning rate that no callback of this package moves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr._fit.checks import Moved
from keras_lr._fit.tracks import HyperparameterTrack, free_name
from keras_lr._hints import warn_user
from keras_lr._keras.gradients.rate_notes import RateNotes
from keras_lr._keras.host_values import read_lazily, to_floats
from keras_lr._keras.metrics import has_own_train_step
from keras_lr._keras.rates.hyperparameters import LEARNING_RATE, Hyperparameter
from keras_lr._keras.rates.keras_schedules import schedule_values
from keras_lr._keras.rates.optimizers import (
    count_batches,
    optimizers_beside,
    schedule_of,
    unwrap_loss_scaling,
    warn_of_rival_optimizer,
)


class LearningRateReader:
    """Reads the rate that each step uses, where no callback of this package moves it.

    A rate in a variable is read when an execution begins. A `LearningRateSchedule` in the optimizer
    is evaluated afterwards, for all steps at once.
    """

    def __init__(
        self, optimizer: Any, name: str = LEARNING_RATE, notes: RateNotes | None = None
    ) -> None:
        """Watch ``optimizer`` and record its rate as ``name``.

        If ``optimizer`` is None, there is no rate to read: it is recorded as NaN. If there are
        ``notes``, the steps themselves note the rates that they use.
        """
        self.optimizer = optimizer
        self.name = name
        self.parameter = Hyperparameter(optimizer, LEARNING_RATE)
        rate = schedule_of(optimizer)
        scheduled = isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
        self.schedule = rate if scheduled else None
        self.notes = notes
        self.is_deferred = scheduled or notes is not None
        """Whether the rates become known only after the steps, not before each of them."""
        self.variable = None if self.is_deferred else self.parameter.variable
        self.seen: list[Any] = []
        """The rate when each execution began."""
        self._latest: Any = None
        self.start_epoch()

    def start_epoch(self) -> None:
        """Read the position of a schedule in the optimizer, and drop rates that were not used."""
        self.seen.clear()
        self.position = 0 if self.schedule is None else count_batches(self.optimizer)
        if self.notes is not None:
            self.notes.start_epoch()

    def note_rate(self) -> None:
        """Note the rate that the optimizer has now."""
        if self.is_deferred:
            return
        if self.variable is not None:
            self.note(read_lazily(self.variable))
        else:
            self.note(np.nan if self.optimizer is None else self.parameter.read())

    def note(self, rate: Any) -> None:
        """Note the rate that an execution begins with."""
        self.seen.append(rate)
        self._latest = rate

    def rate_in_use(self) -> Any:
        """Return the rate of the last execution for display; None where it is not known yet.

        This does not wait for a device. If the steps note the rate on the device, it is read from
        the variable.
        """
        if self.optimizer is None:
            return None
        if self._latest is None and self.variable is not None:
            return read_lazily(self.variable)
        return self._latest

    def check_first_execution(self, count: int) -> None:
        """Refuse steps that noted more than one rate for each of the first ``count`` batches.

        Raises:
            RuntimeError: If there are more rates than batches.
        """
        if self.notes is not None:
            self.notes.check_unpopped(count)

    def values(self, sizes: list[int]) -> NDArray[np.float32]:
        """Return and remove the rate of each batch of the oldest executions.

        Args:
            sizes: Batches in each execution.
        """
        if self.notes is not None:
            return self.notes.pop(sum(sizes))
        if self.schedule is not None:
            steps = self.position + np.arange(sum(sizes))
            self.position += sum(sizes)
            return schedule_values(self.schedule, steps).astype(np.float32)
        values, self.seen = self.seen[: len(sizes)], self.seen[len(sizes) :]
        if self.variable is None and self.optimizer is not None and max(sizes, default=1) > 1:
            warn_user(
                f"The optimizer {type(self.optimizer).__name__} computes its learning rate, which "
                f"is recorded once for each execution of {max(sizes)} batches "
                "(steps_per_execution)."
            )
        return np.repeat(to_floats(values).astype(np.float32), sizes)


def readers_of(
    model: Any, tracks: list[HyperparameterTrack], moved: list[Moved]
) -> list[LearningRateReader]:
    """Return a reader for each rate that no track moves.

    The rates are those that callbacks move in another way or that factors multiply. If there are
    none, it is the rate of the model's optimizer. Several rates are recorded under the names of
    their optimizers. A training step of the model's own may use other optimizers that the model
    holds, besides the compiled one or in its place.
    """
    notes = {track.parameter.key: track.parameter.notes for track in tracks}
    tracked = {key for key, noted in notes.items() if noted is None}
    names = {track.name for track in tracks if track.parameter.notes is None}
    optimizer = unwrap_loss_scaling(model.optimizer)
    bases = [track.parameter.multiplies for track in tracks]
    wanted = [one.parameter for one in moved] + [base for base in bases if base is not None]
    rates = {one.key: one for one in wanted if one.key not in tracked}
    if not rates:
        rates = _rates_of([optimizer])
        if len(rates) == 1 and LEARNING_RATE in names:
            return []
        if len(rates) == 1:
            warn_of_rival_optimizer(optimizer)
    readers = []
    if len(rates) == 1 and LEARNING_RATE not in names:
        ((key, rate),) = rates.items()
        readers = [LearningRateReader(rate.optimizer, notes=notes.get(key))]
        if wanted or not has_own_train_step(model):
            return readers
        names, tracked = {LEARNING_RATE}, tracked | {key}
        rates = _rates_of(optimizers_beside(model).values())
    for key, rate in rates.items():
        if key not in tracked:
            name = free_name(rate, names)
            names.add(name)
            readers.append(LearningRateReader(rate.optimizer, name, notes.get(key)))
    return readers


def _rates_of(optimizers: Iterable[Any]) -> dict[tuple[Any, ...], Hyperparameter]:
    """Return the learning rates of some optimizers and of their parts, by what identifies them."""
    parts = [part for one in optimizers for part in getattr(one, "optimizers", [one])]
    rates = [Hyperparameter(unwrap_loss_scaling(part), LEARNING_RATE) for part in parts]
    return {rate.key: rate for rate in rates}
