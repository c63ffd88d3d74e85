"""`LRRangeTest`: find the learning rate by training, and leave the model as it was."""

from __future__ import annotations

import dataclasses
import inspect
import reprlib
from typing import TYPE_CHECKING, Annotated, Any

from keras_lr._fields.configurable import Configurable, configurable
from keras_lr._fields.kinds import (
    Bool,
    Choice,
    Number,
    OptimizerReference,
    Optional,
    Path,
    PositiveRate,
    Text,
    check_optimizer_is_named,
)
from keras_lr._fields.lengths import Batches, WholeEpochs
from keras_lr._fields.timeline import Timeline
from keras_lr._fit.session import FitSession
from keras_lr._hints import refuse_unknown_arguments, with_article
from keras_lr._keras.fits.callback_list import given_callbacks, refuse_classes
from keras_lr._keras.fits.fit_data import build_model
from keras_lr._keras.fits.fit_frame import arguments_of_fit
from keras_lr._keras.rates.optimizers import optimizer_of
from keras_lr._keras.state.callback_state import unfit_for_trials
from keras_lr._state import StateFile, check_state_path, unusable
from keras_lr.callback import LearningRateCallback, print_or_log
from keras_lr.callbacks.layer_rates import LayerRates
from keras_lr.range_test.rules import RULES, SEARCH
from keras_lr.schedules.base import Schedule, ScheduleField

# The modules that run a test are imported when one runs: ``import keras_lr`` needs only the class,
# and would otherwise take a quarter longer.
if TYPE_CHECKING:
    from keras_lr.range_test.advice import Training
    from keras_lr.range_test.in_fit import Outcome
    from keras_lr.range_test.result import RangeTestResult

DECIDED = ("epochs", "initial_epoch")
"""Arguments of ``fit`` that ``steps`` of the test replaces."""

VERBOSE = {0: 0, 1: 1, 2: 2, "auto": 1}
"""Values of ``verbose`` that ``fit`` accepts, and their meaning here."""


@configurable
class LRRangeTest(Configurable, LearningRateCallback):
    """Try rates from low to high on a model and its data, and suggest one to train at.

    ``run`` raises the rate batch by batch and watches each batch's own loss. By the default rule it
    then tries a few constant rates for a short while, because a ramp cannot show how a rate does
    when it is kept. Every run starts from the same state. Afterwards the model is bit for bit as it
    was: weights, statistics, optimizer, metrics, random states, compiled functions.

    In a model that was trained before, the batches differ by more than any rate can still change,
    and momentum keeps moving the weights. One more run, at ``min_lr``, shows these two effects
    alone. They are subtracted from the losses of the other runs, batch by batch.

    As a callback of ``fit`` it does the same with the data of the fit, before the first epoch and,
    with ``every``, before later ones. It does not affect the training around it, unless ``apply``
    or ``auto`` makes it train at the rate that was found. The last result is ``test.result``.

    Args:
        min_lr: Lowest rate of the ramp.
        max_lr: Highest rate of the ramp. Where the loss still falls there, or rises from the first
            rate on, ``"search"`` ramps once more, higher or lower.
        steps: Length of the ramp in batches, or a length such as ``"2 epochs"``. Data that are
            shorter are repeated.
        shape: ``"exponential"``: a constant factor per batch; ``"linear"``: a constant difference,
            for which ``"search"`` reads the ramp alone, as ``"edge"`` does.
        rule: ``"search"``: the ramp and short runs at constant rates. These read the ramp alone:
            ``"edge"``, ``"minimum"``, ``"steepest"``, ``"valley"``, ``"slide"``.
        budget: Training steps that ``"search"`` may take, including the ramp; after a long ramp it
            takes 24 more in any case. From 700 on, the steps beyond 300 rehearse the training: a
            few runs near the advised rate, under its schedule and as long as it or as the budget
            allows, compared by their validation loss or, on arrays, by that of rows held out.
        monitor: What to watch: ``"loss"``, a metric, or a validation metric such as ``"val_loss"``.
        mode: ``"min"``, ``"max"``, or ``"auto"`` for the metric's own direction.
        validate_every: Batches between two validations, for a validation metric.
        stop_factor: How many times the best smoothed loss ends the ramp; above 1.
        repeats: Number of ramps, with different orders of the batches; the curve is their median.
            Ramps after the first do not count towards ``budget``. Data other than arrays must
            shuffle themselves; if they do not, there is a warning.
        restore: Whether to put the model back; otherwise it keeps the state that the last run left.
        verbose: 1 shows a progress bar with the rate and the smoothed loss, and then a report in
            words; 0 shows nothing.
        every: Epochs between two tests of a fit; by default there is one, before its first epoch.
        apply: Whether the suggestion becomes the rate. Where schedules drive the rate, they are
            multiplied so that their highest value from there on is the suggestion. With
            ``"search"`` it is the rate for what is left of the fit under that schedule.
        auto: A schedule to train by, for which no other callback is needed. The bounds of the test
            replace its ``base_lr`` and ``max_lr``; ``OneCycle`` begins at the lower one. Any other
            schedule is multiplied as with ``apply``.
        state_path: File for what the tests of a fit found. A fit that begins at ``initial_epoch``,
            or that ``BackupAndRestore`` resumes, continues from it.
        optimizer: The optimizer to test, or the name of the model's attribute that holds it (which
            a config can say); the model's own by default. Of a ``MultiOptimizer`` the highest rate
            is tested, and the others keep their ratios to it.

    Raises:
        TypeError: If an argument has the wrong type or is unknown.
        ValueError: If a number is out of range.
        NoSuggestion: In a fit with ``auto``, if its first test supports no suggestion.
        StateError: If a fit that continues finds no state of the test before it.

    Source: Smith 2017, Cyclical Learning Rates (arXiv:1506.01186), sec. 3.3.

    >>> import keras
    >>> import numpy as np
    >>> keras.utils.set_random_seed(0)
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(), "mse")
    >>> x = np.random.default_rng(0).normal(size=(512, 4))
    >>> y = x.sum(1, keepdims=True)
    >>> result = LRRangeTest(verbose=0).run(model, x, y, batch_size=16)
    >>> 0.002 < result.suggestion < 0.5
    True
    >>> result.suggest(epochs=20) < result.suggest(epochs=20, schedule="CosineDecay")
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
    optimizer: Annotated[Any, Optional(OptimizerReference())] = None

    def validate(self) -> None:
        if self.max_lr <= self.min_lr:
            raise self.invalid("max_lr", f"above min_lr={self.min_lr}")
        if self.monitor.startswith("val_") and self.validate_every is None:
            raise self.invalid("validate_every", f"a number of batches for {self.monitor!r}")
        if self.state_path is not None and not isinstance(self.optimizer, str | None):
            raise self.invalid("optimizer", "the name of the model's attribute with state_path")
        self.results: dict[int, RangeTestResult] = {}
        """The result of each test of the fit, by the epoch before which it ran."""
        self._outcomes: dict[int, Outcome] = {}

    def run(self, model: Any, x: Any = None, y: Any = None, **fit: Any) -> RangeTestResult:
        """Run the test and return its result.

        Args:
            model: A compiled model.
            x: Inputs: whatever ``fit`` takes.
            y: Targets: whatever ``fit`` takes.
            **fit: Further arguments of ``fit``, such as ``batch_size``, ``sample_weight`` or
                ``validation_split``, whose rows are left out. ``verbose`` applies to this run.
                ``epochs`` and ``initial_epoch`` are not allowed, because the test decides them. For
                callbacks, every short training run of the test is a fit, from ``on_train_begin`` to
                ``on_train_end``; none of them may drive the rate or write checkpoints. A
                `LayerRates` among them keeps the ratios of the layers' rates, with the factors of
                the first step: the test finds one rate for the whole. Afterwards Keras's own
                callbacks are as they were. A ``History``, an `LRHistory` and your own callbacks
                keep what they saw; pass a copy of any that a later fit uses.

        Returns:
            The curve and what it suggests.

        Raises:
            TypeError: If ``model`` is not a model, or an argument is one that the test decides.
            ValueError: If the model is not compiled or cannot be built from the data, the data hold
                no batch or end too early, a callback drives a hyperparameter or writes checkpoints,
                the test has an argument that acts only inside ``fit``, or the optimizer makes no
                update.
        """
        if not callable(getattr(model, "fit", None)):
            raise TypeError(
                "LRRangeTest.run: argument `model` must be a compiled model; the data follow it. "
                f"Received: model={reprlib.repr(model)}, {with_article(type(model).__name__)}"
            )
        for name in ("every", "apply", "auto"):
            if getattr(self, name):
                raise self.invalid(name, "left out for run(): it acts in fit(callbacks=[...])")
        verbose = fit.pop("verbose", self.verbose)
        if verbose not in [*VERBOSE, self.verbose]:
            raise ValueError(
                "LRRangeTest.run: argument `verbose` must be 0, 1, 2 or 'auto'. "
                f"Received: verbose={verbose!r}"
            )
        verbose = VERBOSE.get(verbose, verbose)
        check_arguments(model, fit)
        result = self._measure(model, {"x": x, "y": y, **fit}, verbose)
        if verbose:
            print_or_log(result.report())
        return result

    def _measure(
        self,
        model: Any,
        fit: dict[str, Any],
        verbose: int,
        epoch: int = 0,
        timeline: Timeline | None = None,
        training: Training | None = None,
    ) -> RangeTestResult:
        """Return the result of a test on the data that the arguments of a fit name.

        Args:
            model: The model.
            fit: The arguments.
            verbose: What to show.
            epoch: The epoch whose first factors a `LayerRates` keeps.
            timeline: The size of the fit; None for a test outside of a fit.
            training: The training that the test is for, if it is known.
        """
        from keras_lr.range_test.runner import RangeTestRunner, RangeTestSettings

        settings = dataclasses.replace(RangeTestSettings.of(self), verbose=verbose)
        callbacks = [
            one.held_at(*first_step(epoch, timeline)) if isinstance(one, LayerRates) else one
            for one in given_callbacks(fit)
        ]
        fit = fit | {"callbacks": callbacks}
        if fit["x"] is not None:
            build_model(model, fit["x"])
        runner = RangeTestRunner(settings, model, fit, training)
        try:
            return runner.run_test()
        finally:
            runner.restore_model()

    @property
    def result(self) -> RangeTestResult:
        """The result of the last test inside a fit, or in an earlier fit that this one continues.

        Raises:
            AttributeError: If there was none.
        """
        if not self.results:
            raise AttributeError(
                "LRRangeTest: the state from which the fit resumed holds rates, but no result"
                if self._outcomes
                else "LRRangeTest: no fit has run this test yet"
            )
        return self.results[max(self.results)]

    def _repr_html_(self) -> str | None:
        """Return the last result; None before there is one."""
        return self.result._repr_html_() if self.results else None

    def join_fit(self, session: FitSession) -> None:
        from keras_lr.range_test.in_fit import FitRates

        if not self.restore:
            raise self.invalid("restore", "True inside a fit, which needs its model back")
        if session.chief:
            check_state_path(self, session)
        self._session = session
        optimizer = optimizer_of(session.model, self.optimizer)
        self._rates = FitRates(self, session, optimizer, session.timeline, self.auto, self.apply)
        session.events.on_fit_start.append(self._restore_outcomes)
        session.events.on_epoch_start.append(self._test_before_epoch)

    def _restore_outcomes(self, epoch: int) -> None:
        """Continue from what earlier tests of the training found."""
        from keras_lr.range_test.in_fit import Outcome

        if self.state_path is not None and epoch and not self._outcomes:
            self._load_outcomes(epoch)
        elif self.state_path is not None:
            # The file of another callback must not be replaced.
            StateFile.of(self).load()
        known = self._outcomes if epoch else {}
        self._outcomes = {tested: one for tested, one in known.items() if tested <= epoch}
        self.results = {
            tested: result for tested, result in self.results.items() if tested in self._outcomes
        }
        self._rates.follow(Outcome())
        if self._outcomes:
            last = max(self._outcomes)
            self._rates.follow(self._outcomes[last])
            if last == epoch:
                # The checkpoint may be from just before that test.
                self._apply_outcome(last)

    def _test_before_epoch(self, epoch: int) -> None:
        """Run the test before an epoch, where it is due."""
        is_due = self.every is not None and epoch % self.every == 0
        if epoch in self._outcomes or (self._outcomes and not is_due):
            return
        session = self._session
        layers = [one for one in session.controllers if isinstance(one, LayerRates)]
        arguments = arguments_of_fit(session.model) | {"callbacks": layers}
        training = self._rates.training_from(epoch)
        with session.suspended():
            result = self._measure(
                session.model, arguments, self.verbose, epoch, session.timeline, training
            )
        if result.found is not None and result.conditions and not result.conditions.trained:
            result = dataclasses.replace(result, training=training)
        self.results[epoch] = result
        before = self._outcomes[max(self._outcomes)] if self._outcomes else None
        self._outcomes[epoch] = self._rates.follow_result(result, before, epoch)
        if self.verbose:
            print_or_log(f"\nBefore epoch {epoch + 1}: {result.report()}")
        if self.state_path is not None and session.chief:
            from keras_lr.range_test.in_fit import to_plain

            StateFile.of(self).save(to_plain(self._outcomes, self.results))
        self._apply_outcome(epoch)

    def _apply_outcome(self, epoch: int) -> None:
        """Set the rate to what the test before an epoch suggests, where no schedule drives it."""
        if self.apply:
            self._rates.write_rate(self._outcomes[epoch].suggestion)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments as plain data.

        Raises:
            ValueError: If ``optimizer`` is an object; name the attribute of the model that holds
                it.
        """
        check_optimizer_is_named("LRRangeTest", self.optimizer)
        config = super().get_config()
        if self.optimizer is None:
            # State files of 0.1.0 do not have this argument.
            del config["optimizer"]
        return config

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"results": self.results, "_outcomes": self._outcomes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.results, self._outcomes = dict(state["results"]), dict(state["_outcomes"])

    def state_dict(self) -> dict[str, Any]:
        """Return what the tests of the fit found as plain data, to put into your own checkpoint.

        >>> LRRangeTest().state_dict()
        {'outcomes': {}}
        """
        from keras_lr.range_test.in_fit import to_plain

        states = to_plain(self._outcomes, self.results)
        return {"outcomes": {str(tested): state for tested, state in states.items()}}

    def load_state_dict(self, state: dict[str, Any], epoch: int) -> None:
        """Make a fit that begins at ``initial_epoch=epoch`` continue from a state.

        Args:
            state: What `state_dict` returned.
            epoch: The epoch at which the fit begins.

        Raises:
            ValueError: If ``state`` is not such a state.
        """
        from keras_lr.range_test.in_fit import from_plain

        try:
            states = {int(tested): one for tested, one in state["outcomes"].items()}
            known = {tested: one for tested, one in states.items() if tested <= epoch}
            self._outcomes, self.results = from_plain(known)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"LRRangeTest: argument `state` must be what state_dict() returned: {error}. "
                f"Received: state={reprlib.repr(state)}"
            ) from error

    def _load_outcomes(self, epoch: int) -> None:
        """Read the state file, which must hold the last test before ``epoch``."""
        from keras_lr.range_test.in_fit import from_plain

        assert self.state_path is not None
        known = StateFile.of(self).load()
        last = (epoch - 1) // self.every * self.every if self.every else 0
        if not any(last <= tested <= epoch for tested in known):
            raise unusable(
                self.state_path,
                f"the fit begins at epoch {epoch}, but the tests in the file are before the epochs "
                f"{', '.join(map(str, known)) or 'none'}",
            )
        try:
            self._outcomes, self.results = from_plain(known)
        except (TypeError, ValueError) as error:
            raise unusable(self.state_path, f"another version wrote it ({error})") from error


def first_step(epoch: int, timeline: Timeline | None) -> tuple[int, Timeline]:
    """Return the first step of an epoch, and the timeline that turns lengths into steps.

    Outside of a fit, this is always step 0.
    """
    if timeline is None:
        return 0, Timeline(1, 1)
    if timeline.steps_per_epoch is None:
        return epoch, Timeline.by_epoch(timeline.epochs)
    return int(epoch * timeline.steps_per_epoch), timeline


def check_arguments(model: Any, fit: dict[str, Any]) -> None:
    """Refuse arguments of ``fit`` that a test cannot use.

    Raises:
        TypeError: If the test itself decides one of them, ``fit`` of the model has no such
            argument, or a class stands for a callback.
        ValueError: If a callback drives what the test drives.
    """
    for name in DECIDED:
        if name in fit:
            raise TypeError(
                f"LRRangeTest.run: argument `{name}` is decided by the test; pass `steps` to "
                f"LRRangeTest instead. Received: {name}={fit[name]!r}"
            )
    taken = inspect.signature(model.fit).parameters
    if not any(one.kind is one.VAR_KEYWORD for one in taken.values()):
        known = [name for name in taken if name not in DECIDED]
        refuse_unknown_arguments("LRRangeTest.run", fit, known)
    refuse_classes(given_callbacks(fit))
    driving = [
        one
        for one in given_callbacks(fit)
        if isinstance(one, LearningRateCallback) and not isinstance(one, LayerRates)
    ]
    if driving:
        raise ValueError(
            "LRRangeTest.run: argument `callbacks` must hold none that drives a rate or another "
            f"hyperparameter, which the test does. Received: callbacks={driving!r}"
        )
    if unfit := [type(one).__name__ for one in unfit_for_trials(given_callbacks(fit))]:
        raise ValueError(
            "LRRangeTest.run: argument `callbacks` must hold none that drives the rate, which the "
            "test does, or writes checkpoints, which would be of the test's short runs. "
            f"Received: callbacks=[{', '.join(unfit)}]"
        )
