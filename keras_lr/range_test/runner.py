"""`RangeTestRunner`: makes the short runs of a range test, each from the restored state."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Self

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr._fields.lengths import parse_length
from keras_lr._fields.timeline import Timeline
from keras_lr._fit.running import end_fit, suspend_fit
from keras_lr._hints import warn_user
from keras_lr._keras.fits.callback_list import given_callbacks
from keras_lr._keras.fits.fit_data import FitData
from keras_lr._keras.fits.fit_frame import forget_initial_epoch
from keras_lr._keras.fits.model_functions import SingleSteps
from keras_lr._keras.metrics import has_zero_minimum, higher_is_better, negligible_loss
from keras_lr._keras.rates.optimizers import count_batches, held_optimizers, optimizers_of
from keras_lr._keras.state.callback_state import CallbackState
from keras_lr._keras.state.object_walk import callables_in, normalizes_batches
from keras_lr._keras.state.random_state import is_of_keras, set_seed
from keras_lr._keras.state.snapshot import Snapshot
from keras_lr.range_test.advice import (
    DEFAULT_STEPS,
    GRADIENT,
    Conditions,
    Rehearsal,
    Training,
    give_advice,
    rehearsal_length,
    rehearse,
    rows_to_hold_out,
    step_size_of,
)
from keras_lr.range_test.curve import NoSuggestion
from keras_lr.range_test.ramp import MIN_EARLY, NO_DATA, Ramp, combine_endings, median_curve
from keras_lr.range_test.result import RangeTestResult
from keras_lr.range_test.rules import SEARCH
from keras_lr.range_test.search import ADVISED_RUN, MIN_STEPS, SearchResult, search
from keras_lr.range_test.trials import NUM_CONSTANT_RUNS

MIN_RAMP = 10
"""Shortest ramp whose length is given in epochs."""


@dataclasses.dataclass(frozen=True)
class RangeTestSettings:
    """The arguments of an `LRRangeTest` that define its training runs."""

    min_lr: float
    max_lr: float
    steps: int | str
    shape: str
    rule: str
    budget: int
    monitor: str
    mode: str
    validate_every: int | None
    stop_factor: float
    repeats: int
    restore: bool
    verbose: int
    optimizer: Any = None

    @classmethod
    def of(cls, test: Any) -> Self:
        """Return the settings of a test, from its attributes of the same names."""
        return cls(**{field.name: getattr(test, field.name) for field in dataclasses.fields(cls)})

    @property
    def validates(self) -> bool:
        """Whether the monitored value comes from validation."""
        return self.monitor.startswith("val_")

    @property
    def searches(self) -> bool:
        """Whether runs at constant rates follow the ramp."""
        return (self.rule, self.monitor, self.shape) == (SEARCH, "loss", "exponential")


class RangeTestRunner:
    """Makes the short runs of one range test, each from the restored state."""

    def __init__(
        self,
        settings: RangeTestSettings,
        model: Any,
        fit: dict[str, Any],
        training: Training | None = None,
    ) -> None:
        """Take a snapshot of a built model.

        Args:
            settings: The settings of the test.
            model: A built model.
            fit: Arguments for its ``fit``.
            training: The training that the test is for, if it is known.
        """
        self.training = Training(DEFAULT_STEPS) if training is None else training
        self.settings = settings
        self.model = model
        self.callbacks = given_callbacks(fit)
        rest = {name: value for name, value in fit.items() if name not in ("callbacks", "verbose")}
        self.data = FitData(rest)
        suspend_fit(model)
        self.snapshot = Snapshot(model)
        self.callback_state = CallbackState(self.callbacks)
        self.optimizers = optimizers_of(model, settings.optimizer)
        called = [*callables_in(model), *self.callbacks, *self.data.loaders]
        self.keep_kernels = self.snapshot.keeps_kernels or all(map(is_of_keras, called))
        self.single_steps = SingleSteps(model)
        self.ramps: list[Ramp] = []
        self.baselines: dict[int, NDArray[np.float64]] = {}
        """Numbers to add to the losses of the batches, by the number of the repeat."""
        bar = {"stateful_metrics": ["rate", settings.monitor], "verbose": settings.verbose}
        self.bar = keras.utils.Progbar(None, **bar) if settings.verbose else None
        self.points_shown = 0

    def run_test(self) -> RangeTestResult:
        """Train all runs and return what they show."""
        settings = self.settings
        steps = self.ramp_steps()
        baseline_steps = self.baseline_steps(steps)
        budget = max(settings.budget - baseline_steps, steps + MIN_STEPS)
        if self.bar is not None:
            self.bar.target = self.max_points(steps, baseline_steps, budget)
        self.repeated_steps = max(steps, baseline_steps)
        if settings.repeats > 1:
            self.data.warn_if_order_is_fixed(self.keep_kernels)
        self.run_baseline(baseline_steps)
        found, rehearsal, reason = None, None, None
        try:
            if settings.searches:
                found, rehearsal = self.search_and_rehearse(steps, budget)
            else:
                self.ramp(settings.min_lr, settings.max_lr, steps)
        except NoSuggestion as error:
            reason = str(error)
        if self.bar is not None:
            self.bar.target = self.points_shown
        rates, values, lower, upper = median_curve(self.ramps)
        return RangeTestResult(
            rates,
            values,
            lower,
            upper,
            settings.monitor,
            ended=combine_endings(self.ramps),
            rule="edge" if settings.rule == SEARCH else settings.rule,
            up=self.up,
            found=found,
            reason=reason,
            conditions=self.conditions,
            rehearsal=rehearsal,
        )

    @functools.cached_property
    def conditions(self) -> Conditions:
        """What is known of the model and its data; first read before any training."""
        batches = self.data.batches_per_epoch
        return Conditions(
            step_size_of(self.optimizers),
            batches,
            steps_per_epoch=self.data.fit.get("steps_per_epoch") or batches,
            trained=any(self.count_updates()),
            batch_size=self.data.batch_size,
            batch_norm=normalizes_batches(self.model),
        )

    def search_and_rehearse(self, steps: int, budget: int) -> tuple[SearchResult, Rehearsal | None]:
        """Return what a search found, and a rehearsal if there was one.

        Where short runs find nothing, longer ones may: the steps that were kept for a rehearsal
        are spent on a second search.

        Args:
            steps: Length of the ramp.
            budget: Steps in all.
        """
        short = self.search_budget(steps, budget)
        try:
            found = self.search(steps, short)
        except NoSuggestion:
            if budget - short < steps + MIN_STEPS:
                raise
            return self.search(steps, budget - short), None
        return found, self.rehearse(found, budget)

    def search(self, steps: int, budget: int) -> SearchResult:
        """Return the result of a search with runs of this model."""
        return search(
            self,
            self.settings.min_lr,
            self.settings.max_lr,
            steps,
            budget=budget,
            normalizes=self.conditions.step_size != GRADIENT,
            epoch=self.data.batches_per_epoch or math.inf,
            vanishes=has_zero_minimum(self.model),
        )

    def search_budget(self, steps: int, budget: int) -> int:
        """Return the steps for the ramp and the short runs; what is left is for a rehearsal.

        Args:
            steps: Length of the ramp.
            budget: Steps in all.
        """
        short = steps + NUM_CONSTANT_RUNS * ADVISED_RUN
        return short if self.rehearsal_length(budget - short) else budget

    def rehearsal_length(self, left: int) -> int:
        """Return the length of the runs of a rehearsal; 0 if there can be none.

        Args:
            left: Steps that the short runs leave.
        """
        can_validate = self.data.can_validate_again or self.held_out
        can_rehearse = can_validate and not self.conditions.trained
        return rehearsal_length(left, self.training.steps) if can_rehearse else 0

    @functools.cached_property
    def held_out(self) -> int:
        """Rows that a rehearsal holds out; 0 if there are validation data, or too few rows."""
        size = 0 if self.data.can_validate_again else self.data.batch_size
        return rows_to_hold_out(self.data.rows, size) if size else 0

    def rehearse(self, found: SearchResult, budget: int) -> Rehearsal | None:
        """Return what longer runs near the advised rate show; None if there are none.

        Args:
            found: What the short runs found.
            budget: Steps in all.
        """
        left = budget - found.steps
        length = self.rehearsal_length(left)
        if not length:
            return None
        if self.held_out:
            # The rehearsal is the last to train.
            self.data = self.data.hold_out(self.held_out, length)
        training = self.training.of_length(length)
        center = give_advice(found, self.conditions, training).rate
        rehearsal = rehearse(self, center, training, left)
        if rehearsal is None:
            warn_user(
                f"LRRangeTest: the runs of {training} near {center:.1e} say nothing, because "
                "each diverged or its validation logged no finite loss. The suggestion follows "
                "from the short runs alone."
            )
            return None
        return dataclasses.replace(rehearsal, held_out=self.held_out)

    def validate(self) -> float:
        """Return the validation loss of the model as the last run left it."""
        logs = self.model.evaluate(**self.data.evaluation(), verbose=0, return_dict=True)
        return float(logs.get("loss", math.nan))

    def ramp_steps(self) -> int:
        """Return the length of the ramp in batches."""
        length = self.settings.steps
        if isinstance(length, int):
            return length
        amount, unit = parse_length(length)
        if unit == "steps":
            return int(amount)
        per_epoch = self.conditions.steps_per_epoch
        if per_epoch is None:
            raise ValueError(
                "LRRangeTest: the number of batches in an epoch is not known. Pass steps as a "
                f"number of batches, or `steps_per_epoch` to run. Received: steps={length!r}"
            )
        return max(int(Timeline(per_epoch, 1).steps(length)), MIN_RAMP)

    @functools.cached_property
    def up(self) -> bool:
        """Whether more of the monitored value is better; known after the first step."""
        return higher_is_better(
            "LRRangeTest", self.model, self.settings.monitor, self.settings.mode
        )

    def max_points(self, steps: int, baseline_steps: int, budget: int) -> int:
        """Return the largest number of points that the test may record.

        Args:
            steps: Steps of the ramp.
            baseline_steps: Steps of the baseline.
            budget: Steps that a search may take after the baseline.
        """
        settings = self.settings
        if settings.validates:
            return settings.repeats * -(-steps // (settings.validate_every or 1))
        if not settings.searches:
            return settings.repeats * (baseline_steps + steps)
        # A search may ramp a second time, half as long; only ramps are repeated.
        searches = 1 if self.search_budget(steps, budget) == budget else 2
        repeated = baseline_steps + searches * (steps + steps // 2)
        return baseline_steps + budget + (settings.repeats - 1) * repeated

    def baseline_steps(self, steps: int) -> int:
        """Return the length of the baseline; 0 for a model that was not trained before."""
        settings = self.settings
        if settings.validates or not self.conditions.trained:
            return 0
        if settings.rule != SEARCH:
            return steps
        # The baseline and the runs at constant rates share the budget. It is no shorter than they
        # are, even if the ramp ends with its first step.
        return max(steps, -(-settings.budget // (NUM_CONSTANT_RUNS + 1)))

    def run_baseline(self, steps: int) -> None:
        """Measure how the loss varies without training, in a model that was trained before.

        In such a model the loss has little left to fall, and the batches differ by more than that.
        Momentum from before also keeps moving the weights. A run at a rate too low to train shows
        these two effects alone. They are subtracted from all other runs on the same batches.
        """
        for number in range(self.settings.repeats if steps else 0):
            rates = np.full(steps, self.settings.min_lr)
            losses = self.train_along(rates, math.inf, number).curve()[1]
            if len(losses) == steps and np.isfinite(losses).all():
                self.baselines[number] = losses.mean() - losses

    def ramp(self, min_lr: float, max_lr: float, steps: int) -> NDArray[np.float64]:
        """Train along rising rates, once for each repeat, and return the median losses."""
        space = np.geomspace if self.settings.shape == "exponential" else np.linspace
        rates = space(min_lr, max_lr, steps)
        numbers, stop = range(self.settings.repeats), self.settings.stop_factor
        self.ramps = [self.train_along(rates, stop, number) for number in numbers]
        losses = median_curve(self.ramps)[1]
        self.check_loss_can_fall(losses)
        return losses

    def check_loss_can_fall(self, losses: NDArray[np.float64]) -> None:
        """Refuse a model that has learnt its data: only rounding errors would distinguish rates.

        Raises:
            NoSuggestion: If the loss at the lowest rates is that of such a model.
        """
        if self.settings.monitor != "loss" or not losses.size:
            return
        start = float(np.median(losses[:MIN_EARLY]))
        if 0.0 <= start < negligible_loss(self.model, self.data.fit.get("y")):
            raise NoSuggestion(
                f"Nothing is left to learn: the loss is {start:.1e} before any training, and what "
                "remains says nothing about a rate. Test on other data, or before the model is "
                "trained."
            )

    def hold(self, rate: float, steps: int) -> NDArray[np.float64]:
        """Train at one rate and return the losses."""
        return self.follow(np.full(steps, rate))

    def follow(self, rates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Train one batch at each rate and return the losses."""
        return self.train_along(rates, math.inf, 0).curve()[1]

    def train_along(self, rates: NDArray[np.float64], stop_factor: float, number: int) -> Ramp:
        """Train one batch at each rate, from the restored state.

        Args:
            rates: The rates.
            stop_factor: Multiple of the best smoothed loss that ends the training.
            number: Number of the repeat, which determines the order of the batches.
        """
        self.snapshot.restore()
        # The snapshot puts the random states back at the end.
        set_seed(number, self.keep_kernels)
        self.single_steps.apply()
        settings = self.settings
        ramp = Ramp(
            rates,
            settings.monitor,
            lambda: self.up,
            stop_factor,
            self.show_progress,
            self.baselines.get(number),
            self.data.check_not_exhausted,
            settings.optimizer,
        )
        fit = self.data.arguments(number, self.repeated_steps) | {"epochs": len(rates)}
        if settings.validates:
            each = {"epochs": 1, "steps_per_epoch": settings.validate_every}
            fit |= each | self.data.validation
        updates_before, points_before = self.count_updates(), -1
        while ramp.reason == NO_DATA and len(ramp.points) > points_before:
            points_before = len(ramp.points)
            self.data.check_not_exhausted()
            forget_initial_epoch(self.model)
            ramp.in_fit = False
            try:
                self.model.fit(**fit, verbose=0, callbacks=[*self.callbacks, ramp])
            except (IndexError, ValueError):
                if not ramp.in_fit:
                    # Keras would say that a generator which ends here never gave anything, and
                    # older versions raise another error instead.
                    self.data.check_not_exhausted()
                raise
        self.single_steps.keep_functions()
        if not ramp.points:
            raise self.data.no_batch()
        if self.count_updates() == updates_before and np.isfinite(ramp.curve()[1]).all():
            raise self.idle_optimizer()
        return ramp

    def count_updates(self) -> list[int]:
        """Return the number of updates that each of the tested optimizers has made."""
        return [count_batches(optimizer) for optimizer in self.optimizers]

    def idle_optimizer(self) -> ValueError:
        """Return the error for an optimizer that has made no update."""
        if not self.model.trainable_variables:
            return ValueError(
                f"LRRangeTest: the model {self.model.name!r} has no trainable weights, so that no "
                "rate trains anything. Set `trainable` of its layers before model.compile(...)."
            )
        tested = ", ".join(repr(optimizer.name) for optimizer in self.optimizers)
        names = held_optimizers(self.model)
        return ValueError(
            f"LRRangeTest: the optimizer {tested} of the model {self.model.name!r} made no update "
            "in the test, so that its rate trains nothing. Name the optimizer that trains, an "
            "attribute of the model: LRRangeTest(optimizer=...). "
            f"Received: optimizer={self.settings.optimizer!r}. The model has: {', '.join(names)}"
        )

    def show_progress(self, rate: float, value: float) -> None:
        """Advance the progress bar by one point."""
        self.points_shown += 1
        if self.bar is not None:
            shown = [("rate", rate), (self.settings.monitor, value)]
            self.bar.update(self.points_shown, shown, finalize=False)

    def restore_model(self) -> None:
        """Put the model back, even after an exception."""
        try:
            end_fit(self.model)
        finally:
            try:
                if self.settings.restore:
                    self.snapshot.restore_for_good()
            finally:
                self.single_steps.restore()
                self.callback_state.put_back()
        if self.bar is not None and self.points_shown:
            self.bar.update(self.points_shown, finalize=True)
