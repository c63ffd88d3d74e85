"""`WholeEpochTrials`: trains trials without ``fit``, if nothing has to happen between batches."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr._fields.timeline import Timeline
from keras_lr._hints import with_article
from keras_lr._keras.rates.hyperparameters import (
    LEARNING_RATE,
    Hyperparameter,
    find_hyperparameter,
)
from keras_lr._keras.rates.optimizers import optimizer_of
from keras_lr._keras.state.random_kernels import draws_from_kernels
from keras_lr._keras.whole_epochs import make_whole_epochs
from keras_lr._keras.whole_epochs.data import NeedsFit
from keras_lr._keras.whole_epochs.fit import fit_whole_epochs, rehearse
from keras_lr.callbacks import ParamScheduler
from keras_lr.schedules.base import Schedule
from keras_lr.schedules.control import FollowsHyperparameter
from keras_lr.search.trials.description import Stretch, Trial
from keras_lr.search.trials.problem import READ_BY_EPOCHS, Problem
from keras_lr.search.trials.watch import TrialWatch

SERVED = (*READ_BY_EPOCHS, "validation_data", "validation_batch_size")
"""Arguments of ``fit`` that a training run by whole epochs supports."""


class WholeEpochTrials:
    """Trains the trials of one model, an epoch at a time."""

    def __init__(self, problem: Problem, model: Any, rate: Hyperparameter) -> None:
        """Compile nothing yet.

        Args:
            problem: The problem.
            model: The model that all trials share.
            rate: Its learning rate.

        Raises:
            NeedsFit: If only ``fit`` can train the trials.
        """
        self.problem = problem
        if problem.callbacks:
            raise NeedsFit("callbacks are given")
        for name, value in problem.fit.items():
            if name not in SERVED and (name, value) != ("validation_freq", 1):
                raise NeedsFit(f"`{name}` is given")
        if rate.host_only:
            raise NeedsFit("the optimizer computes its rate")
        self._optimizer = optimizer_of(model)
        driver = None if problem.schedule is None else problem.schedule(rate.read())
        moved = [find_hyperparameter(self._optimizer, name) for name in self._schedules_of(driver)]
        self._epochs = make_whole_epochs(
            model, problem.epoch_data, problem.epoch_validation, rate, moved
        )
        self.route = self._epochs.route

    def _schedules_of(self, driver: Any) -> dict[str, Schedule]:
        """Return the schedule of each hyperparameter that a callback moves.

        Raises:
            NeedsFit: If the values are not known before the training.
        """
        if driver is None:
            return {}
        if not isinstance(driver, Schedule | ParamScheduler):
            raise NeedsFit(f"{with_article(type(driver).__name__)} drives the rate")
        kind = Schedule if isinstance(driver, Schedule) else ParamScheduler
        hooks = [name for name in dir(keras.callbacks.Callback) if name.startswith("on_")]
        if any(getattr(type(driver), name) is not getattr(kind, name) for name in hooks):
            raise NeedsFit("the schedule has its own hooks")
        if isinstance(driver, Schedule):
            moved = driver.hyperparameter_schedules(self._optimizer)
        elif driver.optimizer is None:
            moved = driver.schedules
        else:
            raise NeedsFit("the schedule names its optimizer")
        if LEARNING_RATE not in moved:
            raise NeedsFit("the schedule does not move the learning rate")
        parts = [part for one in moved.values() for part in one.parts()]
        if any(isinstance(part, FollowsHyperparameter) for part in parts):
            raise NeedsFit("the schedule looks at the rate of the optimizer")
        return moved

    def rehearse(self) -> tuple[str, ...]:
        """Compile all that a trial runs, and return the names that an epoch logs.

        Raises:
            NeedsFit: If the steps draw numbers that are counted inside of TensorFlow.
        """
        names = rehearse(self._epochs)
        if any(map(draws_from_kernels, self._epochs.functions())):
            raise NeedsFit("operations of TensorFlow count what they draw")
        return names

    def train_stretch(
        self, stretch: Stretch, watch: TrialWatch, values: NDArray | None, reads_ahead: bool
    ) -> None:
        """Train a stretch from the state in which the model is.

        Args:
            stretch: The stretch.
            watch: The callback that ends it.
            values: What `values_of` returned for the trial.
            reads_ahead: Whether a ``fit`` would read a batch before it trains.
        """
        key = (stretch.trial.group, stretch.trial.seed)
        orders = self._epochs.data.orders(key, reads_ahead)
        epochs = range(stretch.start, self.problem.epochs)
        fit_whole_epochs(self._epochs, watch, orders, epochs, values)

    def values_of(self, trial: Trial) -> NDArray[np.float32] | None:
        """Return a row for every step of a trial, with a value for each hyperparameter that moves.

        Returns:
            The rows; None if no hyperparameter moves.

        Raises:
            NeedsFit: If the values are not known in advance, or other hyperparameters move than in
                the trials before.
        """
        if self.problem.schedule is None:
            return None
        schedules = self._schedules_of(self.problem.schedule(trial.position))
        if list(schedules) != [one.name for one in self._epochs.moved]:
            raise NeedsFit("the schedules of the trials move different hyperparameters")
        batches = self._epochs.data.batches
        timeline = Timeline(batches, self.problem.epochs)
        steps = np.arange(batches * self.problem.epochs)
        columns = [schedule(steps, timeline) for schedule in schedules.values()]
        return np.stack(columns, axis=1).astype(np.float32)
