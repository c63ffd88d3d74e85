"""`WholeEpochTrials`: trains trials without ``fit``, where nothing looks between batches."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr._fields.timeline import Timeline
from keras_lr._keras.rates.hyperparameters import LEARNING_RATE, Hyperparameter
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
"""Arguments of ``fit`` that whole epochs know."""


class WholeEpochTrials:
    """Trainer of the trials of one model, an epoch at a time."""

    def __init__(self, problem: Problem, model: Any, rate: Hyperparameter) -> None:
        """Compile nothing yet.

        Args:
            problem: What is trained.
            model: The model that all trials share.
            rate: Its learning rate.

        Raises:
            NeedsFit: If only ``fit`` can train the trials.
        """
        self.problem = problem
        self.moves_rate = problem.schedule is not None
        if problem.callbacks:
            raise NeedsFit("callbacks are given")
        for name, value in problem.fit.items():
            if name not in SERVED and (name, value) != ("validation_freq", 1):
                raise NeedsFit(f"`{name}` is given")
        if rate.host_only:
            raise NeedsFit("the optimizer computes its rate")
        self._optimizer = optimizer_of(model)
        if problem.schedule is not None:
            self._check_schedule(problem.schedule(rate.read()))
        self._epochs = make_whole_epochs(
            model, problem.epoch_data, problem.epoch_validation, rate.variable, self.moves_rate
        )
        self.route = self._epochs.route

    def _check_schedule(self, schedule: Any) -> None:
        """Refuse a schedule whose values are not known before the training.

        Raises:
            NeedsFit: If it is one.
        """
        if isinstance(schedule, ParamScheduler):
            raise NeedsFit("the schedule moves more than the learning rate")
        if not isinstance(schedule, Schedule):
            raise NeedsFit(f"a {type(schedule).__name__} drives the rate")
        moved = schedule.hyperparameter_schedules(self._optimizer)
        if set(moved) != {LEARNING_RATE}:
            raise NeedsFit("the schedule moves more than the learning rate")
        parts = [part for one in moved.values() for part in one.parts()]
        if any(isinstance(part, FollowsHyperparameter) for part in parts):
            raise NeedsFit("the schedule looks at the rate of the optimizer")
        hooks = [name for name in dir(keras.callbacks.Callback) if name.startswith("on_")]
        if any(getattr(type(schedule), name) is not getattr(Schedule, name) for name in hooks):
            raise NeedsFit("the schedule has hooks of its own")

    def rehearse(self) -> tuple[str, ...]:
        """Compile all that a trial runs, and return the names of what an epoch logs.

        Raises:
            NeedsFit: If the steps draw numbers that are counted inside of TensorFlow.
        """
        names = rehearse(self._epochs, self.moves_rate)
        if any(map(draws_from_kernels, self._epochs.functions())):
            raise NeedsFit("operations of TensorFlow count what they draw")
        return names

    def train(
        self, stretch: Stretch, watch: TrialWatch, rates: NDArray | None, reads_ahead: bool
    ) -> None:
        """Train a stretch from the state in which the model is.

        Args:
            stretch: The stretch.
            watch: Ends it.
            rates: What `rates_of` returned for the trial.
            reads_ahead: Whether a ``fit`` would read a batch before it trains.
        """
        key = (stretch.trial.group, stretch.trial.seed)
        orders = self._epochs.data.orders(key, reads_ahead)
        epochs = range(stretch.start, self.problem.epochs)
        fit_whole_epochs(self._epochs, watch, orders, epochs, rates)

    def rates_of(self, trial: Trial) -> NDArray[np.float32] | None:
        """Return the rate of every step of a trial; None where the rate is constant.

        Raises:
            NeedsFit: If the schedule of the trial has no rates that are known beforehand.
        """
        if self.problem.schedule is None:
            return None
        schedule = self.problem.schedule(trial.position)
        self._check_schedule(schedule)
        moved = schedule.hyperparameter_schedules(self._optimizer)[LEARNING_RATE]
        batches = self._epochs.data.batches
        timeline = Timeline(batches, self.problem.epochs)
        return moved(np.arange(batches * self.problem.epochs), timeline).astype(np.float32)
