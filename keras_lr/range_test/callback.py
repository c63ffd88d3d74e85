"""`LRRangeTest`: find the learning rate by trying, and leave the model as it was."""

from __future__ import annotations

import dataclasses
import functools
import reprlib
import warnings
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from keras_lr._fields.configurable import Configurable, configured
from keras_lr._fields.kinds import Bool, Choice, Number, Optional, Path, PositiveRate, Text
from keras_lr._fields.lengths import Batches, WholeEpochs
from keras_lr._fields.timeline import Timeline
from keras_lr._files import StateFile, unusable
from keras_lr._fit.evaluation import ScheduleEvaluator
from keras_lr._fit.events import HyperparameterTrack
from keras_lr._fit.session import FitSession
from keras_lr._keras.fit_frame import arguments_of_fit
from keras_lr._keras.hyperparameters import (
    LEARNING_RATE,
    find_hyperparameter,
    optimizer_of,
    optimizers_of,
)
from keras_lr.callback import LearningRateCallback, say
from keras_lr.range_test.curve import NoSuggestion
from keras_lr.range_test.result import RangeTestResult
from keras_lr.range_test.rules import RULES
from keras_lr.range_test.runner import SEARCH, RangeTestRunner, build, check
from keras_lr.schedules.base import Schedule, ScheduleField
from keras_lr.schedules.control import start_schedule


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a test inside a fit found, and what became of it."""

    suggestion: float | None = None
    bounds: tuple[float, float] | None = None
    scale: float = 1.0
    """By how much the schedules of the fit are multiplied from here on."""


@configured
class LRRangeTest(Configurable, LearningRateCallback):
    """Try rates from low to high on the model and its data, and say which to train at.

    ``run`` ramps the rate up batch by batch, watches each batch's own loss, and then, by the
    default rule, tries a few constant rates for a short while, because what a ramp cannot show is
    how a rate does when it stays. Every run starts from the same state, and afterwards the model is
    bit for bit what it was: weights, statistics, optimizer, metrics, random states, compiled
    functions.

    In a model that was trained before, batches differ by more than a rate can still do, and
    momentum goes on by itself. One more run, at ``min_lr``, shows both alone, and they are taken
    out of the losses of the others batch by batch.

    As a callback of ``fit`` it does the same, with the data of the fit, before the fit's first
    epoch and, with ``every``, before later ones. The training in between is none the wiser, unless
    ``apply`` or ``auto`` says to train at what was found. The last result is ``test.result``.

    Args:
        min_lr: Lowest rate of the ramp.
        max_lr: Highest rate of the ramp. Where the loss still falls there, or rises from the first
            rate on, ``"search"`` ramps once more, higher or lower.
        steps: Batches of the ramp, or a length such as ``"2 epochs"``; short data are cycled
            through.
        shape: ``"exponential"``: a constant factor per batch; ``"linear"``: a constant difference,
            where ``"search"`` reads the ramp alone, as ``"edge"``.
        rule: ``"search"``: the ramp and short runs at constant rates; or read from the ramp alone:
            ``"edge"``, ``"minimum"``, ``"steepest"``, ``"valley"``, ``"slide"``.
        budget: Training steps that ``"search"`` may take in all, the ramp included; after a long
            ramp it takes 24 more in any case.
        monitor: What to watch: ``"loss"``, a metric, or a validation metric such as ``"val_loss"``.
        mode: ``"min"``, ``"max"``, or ``"auto"`` for the metric's own direction.
        validate_every: Batches between two validations, for a validation metric.
        stop_factor: How many times the best smoothed loss ends the ramp; above 1.
        repeats: Ramps with different orders of the batches; the curve is their median. Those after
            the first are no part of ``budget``.
        restore: Whether to put the model back; otherwise it keeps what the last run left.
        verbose: 1 shows a progress bar with the rate and the smoothed loss, and what the test found
            in words; 0 nothing.
        every: Epochs between two tests of a fit; by default there is one, before its first epoch.
        apply: Whether the suggestion becomes the rate. Where schedules drive the rate, they are
            multiplied so that their highest value from there on is the suggestion.
        auto: A schedule to train by, for which no other callback is needed. The test replaces its
            ``base_lr`` and ``max_lr`` by its bounds; ``OneCycle`` begins at the lower one. Any
            other schedule is multiplied as under ``apply``.
        state_path: File that holds what the tests of a fit found, from which a fit that begins at
            ``initial_epoch``, or that ``BackupAndRestore`` resumes, goes on.

    Raises:
        TypeError: If an argument has the wrong type or is unknown.
        ValueError: If a number is out of range.
        NoSuggestion: In a fit with ``auto``, if its first test supports no suggestion.
        StateError: If a fit that goes on finds no state of the test before.

    Source: Smith 2017, Cyclical Learning Rates (arXiv:1506.01186), sec. 3.3.

    >>> import keras
    >>> keras.utils.set_random_seed(0)
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(), "mse")
    >>> x = np.random.default_rng(0).normal(size=(512, 4))
    >>> y = x.sum(1, keepdims=True)
    >>> result = LRRangeTest(verbose=0).run(model, x, y, batch_size=16)
    >>> 0.002 < result.suggestion < 0.5
    True
    >>> int(model.optimizer.iterations)
    0
    >>> test = LRRangeTest(verbose=0, apply=True)
    >>> fit = model.fit(x, y, batch_size=16, verbose=0, callbacks=[test])
    >>> bool(np.isclose(test.history.learning_rate[0], test.result.suggestion))
    True
    """

    min_lr: PositiveRate = 1e-6
    max_lr: PositiveRate = 10.0
    steps: Annotated[int | str, Batches()] = 60
    shape: Annotated[str, Choice(("exponential", "linear"))] = "exponential"
    rule: Annotated[str, Choice((SEARCH, *RULES))] = SEARCH
    budget: Annotated[int, Number(minimum=34, whole=True)] = 300
    monitor: Annotated[str, Text()] = "loss"
    mode: Annotated[str, Choice(("auto", "min", "max"))] = "auto"
    validate_every: Annotated[int | None, Optional(Number(minimum=1, whole=True))] = None
    stop_factor: Annotated[float, Number(above=1.0)] = 4.0
    repeats: Annotated[int, Number(minimum=1, whole=True)] = 1
    restore: Annotated[bool, Bool()] = True
    verbose: Annotated[int, Number(minimum=0, whole=True)] = 1
    every: Annotated[int | None, Optional(WholeEpochs())] = None
    apply: Annotated[bool, Bool()] = False
    auto: Annotated[Schedule | None, Optional(ScheduleField())] = None
    state_path: Annotated[str | None, Optional(Path())] = None

    def validate(self) -> None:
        if self.max_lr <= self.min_lr:
            raise self.invalid("max_lr", f"above min_lr={self.min_lr}")
        if self.monitor.startswith("val_") and self.validate_every is None:
            raise self.invalid("validate_every", f"a number of batches for {self.monitor!r}")
        self.results: dict[int, RangeTestResult] = {}
        self._outcomes: dict[int, Outcome] = {}

    def run(self, model: Any, x: Any = None, y: Any = None, **fit: Any) -> RangeTestResult:
        """Run the test.

        Args:
            model: A compiled model.
            x: Inputs: whatever ``fit`` takes.
            y: Targets, likewise.
            **fit: Further arguments of ``fit``, such as ``batch_size``, ``sample_weight`` or
                ``validation_data``; not ``epochs``, ``initial_epoch`` and ``verbose``, which the
                test decides. Callbacks hear every short training of the test as a fit of its own,
                from ``on_train_begin`` to ``on_train_end``; none may drive the rate.

        Returns:
            The curve and what it suggests.

        Raises:
            TypeError: If ``model`` is none, or an argument is one that the test decides.
            ValueError: If the model is not compiled or cannot be built from the data, the data hold
                no batch or end too early, a callback drives a hyperparameter, or the test has an
                argument that acts inside ``fit`` alone.
        """
        if not callable(getattr(model, "fit", None)):
            raise TypeError(
                "LRRangeTest.run: argument `model` must be a compiled model, then come the data. "
                f"Received: model={reprlib.repr(model)}, a {type(model).__name__}"
            )
        for name in ("every", "apply", "auto"):
            if getattr(self, name):
                raise self.invalid(name, "left out for run(): it acts in fit(callbacks=[...])")
        result = self._measure(model, {"x": x, "y": y, **fit})
        if self.verbose:
            say(result.report())
        return result

    def _measure(self, model: Any, fit: dict[str, Any]) -> RangeTestResult:
        check(fit)
        if len(optimizers_of(model)) > 1:
            raise ValueError(
                f"LRRangeTest: the model {model.name!r} has several optimizers, of which each may "
                "need a rate of its own. Compile it with one of them to test that one's."
            )
        build(model, fit["x"])
        trainings = RangeTestRunner(self, model, fit)
        try:
            return trainings.result()
        finally:
            trainings.close()

    # Inside a fit -----------------------------------------------------------------------------

    @property
    def result(self) -> RangeTestResult:
        """What the last test inside a fit found, in a fit that this one goes on from too.

        Raises:
            AttributeError: If there was none.
        """
        if not self.results:
            raise AttributeError(
                "LRRangeTest: the state that the fit went on from holds rates, but no result"
                if self._outcomes
                else "LRRangeTest: no fit has run this test yet"
            )
        return self.results[max(self.results)]

    def join_fit(self, session: FitSession) -> None:
        if not self.restore:
            raise self.invalid("restore", "True inside a fit, which goes on with its model")
        self._session = session
        self._parameter = find_hyperparameter(optimizer_of(session.model), LEARNING_RATE)
        self._timeline = Timeline(
            (self.params or {}).get("steps"), (self.params or {}).get("epochs")
        )
        self._evaluators: dict[str, ScheduleEvaluator] = {}
        optimizer = self._parameter.optimizer
        for name in {} if self.auto is None else self.auto.hyperparameter_schedules(optimizer):
            session.control(
                self,
                find_hyperparameter(optimizer, name),
                functools.partial(self._values, name),
                functools.partial(self._peak_of, name),
            )
        if self.apply or self.auto is not None:
            session.adjust(self._parameter, self._scaled)
        session.events.on_fit_start.append(self._start)
        session.events.on_epoch_start.append(self._open)

    def _values(self, name: str, first: int, count: int) -> NDArray[np.float64]:
        return self._evaluators[name].values(first, count)

    def _peak_of(self, name: str) -> float:
        return self._evaluators[name].peak()

    def _start(self, epoch: int) -> None:
        """Take up what earlier tests of the training found."""
        if epoch and self.state_path is not None and not self._outcomes:
            self._load(epoch)
        kept = self._outcomes if epoch else {}
        self._outcomes = {tested: one for tested, one in kept.items() if tested <= epoch}
        self.results = {
            tested: result for tested, result in self.results.items() if tested in self._outcomes
        }
        self._follow(Outcome())
        if self._outcomes:
            last = max(self._outcomes)
            self._follow(self._outcomes[last])
            if last == epoch:
                # The checkpoint may be from just before that test.
                self._set(self._outcomes[last])

    def _open(self, epoch: int) -> None:
        """Test before an epoch, where it is time to."""
        again = self.every is not None and epoch % self.every == 0
        if epoch in self._outcomes or (self._outcomes and not again):
            return
        session = self._session
        arguments = arguments_of_fit(session.model)
        with session.suspended():
            result = self._measure(session.model, arguments)
        self.results[epoch] = result
        self._outcomes[epoch] = self._outcome(result, epoch)
        if self.verbose:
            say(f"\nBefore epoch {epoch + 1}: {result.report()}")
        if self.state_path is not None and session.chief:
            StateFile.of(self).save(self._states())
        self._set(self._outcomes[epoch])

    def _outcome(self, result: RangeTestResult, epoch: int) -> Outcome:
        """Return what follows from a result, and let the schedules follow it."""
        before = self._outcomes[max(self._outcomes)] if self._outcomes else Outcome()
        try:
            outcome = Outcome(result.suggestion, result.bounds)
        except NoSuggestion:
            if self.auto is not None and not self._outcomes:
                raise
            if self.apply or self.auto is not None:
                self._warn("no suggestion", epoch)
            return dataclasses.replace(before, suggestion=None)
        self._follow(outcome)
        channels = self._tracks()
        if outcome.suggestion and channels and not hasattr(self.auto, "max_lr"):
            peak = _peak(channels[0])
            if peak == 0.0 and (self.apply or self.auto is not None):
                self._warn("a schedule that ends at zero", epoch)
            scale = outcome.suggestion / peak if peak else before.scale
            outcome = dataclasses.replace(outcome, scale=scale)
            self._follow(outcome)
        return outcome

    def _warn(self, has: str, epoch: int) -> None:
        warnings.warn(
            f"LRRangeTest has {has} before epoch {epoch + 1}; the learning rate stays as it is.",
            stacklevel=2,
        )

    def _follow(self, outcome: Outcome) -> None:
        """Let the schedules of the fit follow an outcome."""
        self._scale = outcome.scale
        if self.auto is None:
            return
        optimizer = self._parameter.optimizer
        for name, schedule in (
            _between(self.auto, outcome.bounds).hyperparameter_schedules(optimizer).items()
        ):
            schedule.timeline = self._timeline
            start_schedule(
                schedule, self._session, find_hyperparameter(optimizer, name), self._session.epoch
            )
            self._evaluators[name] = ScheduleEvaluator(schedule, self._timeline, self._session)

    def _set(self, outcome: Outcome) -> None:
        """Set the rate where no schedule drives it."""
        if self.apply and outcome.suggestion is not None and not self._tracks():
            self._session.write_rate(self._parameter, outcome.suggestion)

    def _scaled(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._scale * values

    def _tracks(self) -> list[HyperparameterTrack]:
        """Return what drives the rate in this fit."""
        key = self._parameter.key
        return [track for track in self._session.tracks if track.parameter.key == key]

    # The state --------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"results": self.results, "_outcomes": self._outcomes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.results, self._outcomes = dict(state["results"]), dict(state["_outcomes"])

    def state_dict(self) -> dict[str, Any]:
        """Return what the tests of the fit found as plain data, for a checkpoint of one's own.

        >>> LRRangeTest().state_dict()
        {'outcomes': {}}
        """
        return {"outcomes": {str(tested): state for tested, state in self._states().items()}}

    def load_state_dict(self, state: dict[str, Any], epoch: int) -> None:
        """Let a fit that begins at ``initial_epoch=epoch`` go on from a state.

        Args:
            state: What `state_dict` returned.
            epoch: The epoch at which the fit goes on.

        Raises:
            ValueError: If ``state`` is no such state.
        """
        try:
            states = {int(tested): one for tested, one in state["outcomes"].items()}
            self._take({tested: one for tested, one in states.items() if tested <= epoch})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"LRRangeTest: argument `state` must be what state_dict() returned: {error}. "
                f"Received: state={reprlib.repr(state)}"
            ) from error

    def _states(self) -> dict[int, dict[str, Any]]:
        """Return what each test found as plain data."""
        states = {tested: dataclasses.asdict(one) for tested, one in self._outcomes.items()}
        for tested in states.keys() & self.results.keys():
            states[tested]["result"] = self.results[tested].to_dict()
        return states

    def _take(self, states: dict[int, dict[str, Any]]) -> None:
        """Take what `_states` returned for what this test found; a result may be missing."""
        outcomes, results = {}, {}
        for tested, state in states.items():
            rest = dict(state)
            if "result" in rest:
                results[tested] = RangeTestResult.from_dict(rest.pop("result"))
            outcomes[tested] = Outcome(**rest)
        self._outcomes, self.results = outcomes, results

    def _load(self, epoch: int) -> None:
        """Read the file, which must hold the last test before ``epoch``."""
        assert self.state_path is not None
        known = StateFile.of(self).load()
        last = (epoch - 1) // self.every * self.every if self.every else 0
        if not any(last <= tested <= epoch for tested in known):
            raise unusable(
                self.state_path,
                f"the fit begins at epoch {epoch}, and the file has tests before the epochs "
                f"{', '.join(map(str, known)) or 'none'}",
            )
        try:
            self._take(known)
        except (TypeError, ValueError) as error:
            raise unusable(self.state_path, f"another version wrote it ({error})") from error


def _between(schedule: Schedule, bounds: tuple[float, float] | None) -> Schedule:
    """Return a schedule with its rates moved to ``bounds``, as far as it has such rates."""
    if bounds is None or not hasattr(schedule, "max_lr"):
        return schedule
    low, high = bounds
    rates: dict[str, float] = {"max_lr": high}
    if hasattr(schedule, "base_lr"):
        rates["base_lr"] = low
    elif hasattr(schedule, "div"):
        rates["div"] = high / low
    return dataclasses.replace(schedule, **rates)


def _peak(track: HyperparameterTrack) -> float:
    """Return the highest rate to come, as all but this test leave it."""
    peak = 0.0 if track.peak is None else track.peak()
    for adjustment in track.adjust:
        peak = float(adjustment(np.array([peak]))[0])
    return peak
