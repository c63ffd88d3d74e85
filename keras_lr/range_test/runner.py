"""`RangeTestRunner`: the short trainings of one range test, each from the restored state."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr._fields.lengths import parse_length
from keras_lr._fields.timeline import Timeline
from keras_lr._fit.train_function import make_way
from keras_lr._keras.fit_frame import check_data_last
from keras_lr._keras.host_values import to_numpy
from keras_lr._keras.hyperparameters import optimizers_of
from keras_lr._keras.metrics import goes_up
from keras_lr._keras.random_state import is_of_keras, set_seed
from keras_lr._keras.snapshot import Snapshot
from keras_lr.callback import LearningRateCallback
from keras_lr.range_test.curve import NoSuggestion
from keras_lr.range_test.ramp import NO_DATA, Ramp
from keras_lr.range_test.result import RangeTestResult
from keras_lr.range_test.search import search

if TYPE_CHECKING:
    from keras_lr.range_test.callback import LRRangeTest

SEARCH = "search"
DECIDED = {"epochs": "steps", "initial_epoch": "steps", "verbose": "verbose"}
"""Arguments of ``fit`` that the test decides, each with the one of the test that stands for it."""
GRADIENT_STEPS = ("SGD", "Ftrl")
"""Optimizers whose step shrinks with the gradient."""


class RangeTestRunner:
    """The short trainings of one test, each from the restored state."""

    def __init__(self, test: LRRangeTest, model: Any, fit: dict[str, Any]) -> None:
        """Keep the state of a built model to begin from.

        Args:
            test: The test.
            model: A built model.
            fit: What to pass to its ``fit``.
        """
        self.test = test
        self.model = model
        self.fit: dict[str, Any] = {**fit, "verbose": 0}
        self.callbacks = keras.tree.flatten(self.fit.pop("callbacks", None) or [])
        self.validation: dict[str, Any] = {
            name: self.fit.pop(name)
            for name in ("validation_data", "validation_split", "validation_steps")
            if name in self.fit
        }
        make_way(model)
        self.snapshot = Snapshot(model)
        self.data = {"x": self.fit["x"], "validation_data": self.validation.get("validation_data")}
        self.keep_kernels = all(
            map(is_of_keras, _called(model, self.callbacks, *self.data.values()))
        )
        self.single: dict[str, Any] = {}
        """What Keras needs in order to run one step at a time, each at a rate of its own."""
        steps = getattr(model, "steps_per_execution", 1)
        if isinstance(steps, int) and steps > 1:  # legacy Keras has a variable
            self.single = {"train_function": None, "test_function": None, "steps_per_execution": 1}
        self.own = {name: getattr(model, name) for name in self.single}
        self.ramps: list[Ramp] = []
        self.offsets: dict[int, NDArray[np.float64]] = {}
        bar = {"stateful_metrics": ["rate", test.monitor], "verbose": test.verbose}
        self.bar = keras.utils.Progbar(None, **bar) if test.verbose else None
        self.taken = 0

    def result(self) -> RangeTestResult:
        """Run the test and read it."""
        test = self.test
        steps = self.steps()
        spent = self.still_steps(steps)
        budget = max(test.budget - spent, steps + 24)
        searches = (test.rule, test.monitor, test.shape) == (SEARCH, "loss", "exponential")
        if self.bar is not None:
            self.bar.target = self.most(steps, spent, budget if searches else 0)
        self.look(spent)
        found, reason = None, None
        try:
            if searches:
                normalizes = all(
                    kind.__name__ not in GRADIENT_STEPS
                    for optimizer in optimizers_of(self.model)
                    for kind in type(optimizer).__mro__
                )
                found = search(
                    self,
                    test.min_lr,
                    test.max_lr,
                    steps,
                    budget=budget,
                    normalizes=normalizes,
                    epoch=_batches(self.fit) or math.inf,
                )
            else:
                self.ramp(test.min_lr, test.max_lr, steps)
        except NoSuggestion as error:
            reason = str(error)
        if self.bar is not None:
            self.bar.target = self.taken
        rule = "edge" if test.rule == SEARCH else test.rule
        return RangeTestResult.of(self.ramps, found, reason, rule, self.up, test.monitor)

    def steps(self) -> int:
        """Return the length of the ramp in batches."""
        length = self.test.steps
        if isinstance(length, int):
            return length
        amount, unit = parse_length(length)
        if unit == "steps":
            return int(amount)
        per_epoch = self.fit.get("steps_per_epoch") or _batches(self.fit)
        if per_epoch is None:
            raise ValueError(
                "LRRangeTest: the number of batches in an epoch is not known. Pass steps as a "
                f"number of batches, or `steps_per_epoch` to run. Received: steps={length!r}"
            )
        return max(int(Timeline(per_epoch, 1).steps(length)), 10)

    @functools.cached_property
    def up(self) -> bool:
        """Whether more of the monitored value is better; known after the first step."""
        return goes_up("LRRangeTest", self.model, self.test.monitor, self.test.mode)

    def most(self, steps: int, still: int, budget: int) -> int:
        """Return the most points that the test may take.

        Args:
            steps: Steps of the ramp.
            still: Steps of the run at the lowest rate.
            budget: What a search may take besides; 0 without one.
        """
        test = self.test
        if test.monitor.startswith("val_"):
            return test.repeats * -(-steps // (test.validate_every or 1))
        if not budget:
            return test.repeats * (still + steps)
        # A search may ramp a second time, half as long; only ramps are repeated.
        return still + budget + (test.repeats - 1) * (still + steps + steps // 2)

    def still_steps(self, steps: int) -> int:
        """Return the length of the run at the lowest rate; 0 for a model not trained before."""
        test = self.test
        before = [to_numpy(optimizer.iterations) for optimizer in optimizers_of(self.model)]
        if test.monitor.startswith("val_") or not any(before):
            return 0
        # The runs at constant rates are no longer than this.
        return steps if test.rule != SEARCH else max(steps, -(-(test.budget - steps) // 5))

    def look(self, steps: int) -> None:
        """See what the batches do at the lowest rate where the model was trained before.

        There the loss has little left to fall, and batches differ by more than that. Momentum from
        before goes on by itself. A run at a rate too low to train shows both alone, batch by batch,
        and what it shows is taken out of every other run on the same batches.
        """
        test = self.test
        for number in range(test.repeats if steps else 0):
            still = self.train(np.full(steps, test.min_lr), math.inf, number).curve()[1]
            if len(still) == steps and np.isfinite(still).all():
                self.offsets[number] = still.mean() - still

    def ramp(self, min_lr: float, max_lr: float, steps: int) -> NDArray[np.float64]:
        """Train along rising rates, as often as the test says, and return the median losses."""
        space = np.geomspace if self.test.shape == "exponential" else np.linspace
        rates = space(min_lr, max_lr, steps)
        self.ramps = []
        for number in range(self.test.repeats):
            self.ramps.append(self.train(rates, self.test.stop_factor, number))
        return RangeTestResult.median(self.ramps)[1]

    def hold(self, rate: float, steps: int) -> NDArray[np.float64]:
        """Train at one rate and return the losses."""
        return self.train(np.full(steps, rate), math.inf, 0).curve()[1]

    def train(self, rates: NDArray[np.float64], stop_factor: float, number: int) -> Ramp:
        """Train one batch at each rate, from the restored state."""
        self.snapshot.restore()
        # One order of the batches for every run; the states are put back in the end.
        set_seed(number, self.keep_kernels)
        self.become(self.single)
        test = self.test
        again = functools.partial(check_data_last, **self.data)
        offset = self.offsets.get(number)
        ramp = Ramp(rates, test.monitor, lambda: self.up, stop_factor, self.show, offset, again)
        fit = {**self.fit, "epochs": len(rates)}
        if test.monitor.startswith("val_"):
            fit |= {"epochs": 1, "steps_per_epoch": test.validate_every, **self.validation}
        seen = -1
        while ramp.reason == NO_DATA and len(ramp.points) > seen:
            seen = len(ramp.points)
            again()
            if getattr(self.model, "_initial_epoch", None):
                # Keras never resets the epoch at which a restored fit went on.
                self.model._initial_epoch = None
            ramp.begun = False
            try:
                self.model.fit(**fit, callbacks=[*self.callbacks, ramp])
            except (IndexError, ValueError):
                if not ramp.begun:
                    # Of a generator that ends here Keras says that it never gave anything, and
                    # older versions fail to say it.
                    again()
                raise
        self.single = {name: getattr(self.model, name) for name in self.single}
        if not ramp.points:
            raise no_batch(self.fit["x"])
        return ramp

    def become(self, attributes: dict[str, Any]) -> None:
        """Set attributes of the model."""
        for name, value in attributes.items():
            setattr(self.model, name, value)

    def show(self, rate: float, value: float) -> None:
        """Show where the test stands."""
        self.taken += 1
        if self.bar is not None:
            shown = [("rate", rate), (self.test.monitor, value)]
            self.bar.update(self.taken, shown, finalize=False)

    def close(self) -> None:
        """Put the model back, whatever happened."""
        session = vars(self.model).get("_keras_lr_session")
        try:
            if session is not None:
                session.end()
        finally:
            try:
                if self.test.restore:
                    self.snapshot.put_back()
            finally:
                self.become(self.own)
        if self.bar is not None and self.taken:
            self.bar.update(self.taken, finalize=True)


def check(fit: dict[str, Any]) -> None:
    """Refuse arguments of a ``fit`` that a test can do nothing with.

    Raises:
        TypeError: If it is one that the test decides.
        ValueError: If there are no data, or a callback drives what the test drives.
    """
    for name, own in DECIDED.items():
        if name in fit:
            raise TypeError(
                f"LRRangeTest.run: argument `{name}` is decided by the test; pass `{own}` to "
                f"LRRangeTest instead. Received: {name}={fit[name]!r}"
            )
    given = keras.tree.flatten(fit.get("callbacks") or [])
    driving = [one for one in given if isinstance(one, LearningRateCallback)]
    if driving:
        raise ValueError(
            "LRRangeTest.run: argument `callbacks` must hold none that drives a rate or another "
            f"hyperparameter, which the test does. Received: callbacks={driving!r}"
        )
    if fit["x"] is None or _batches(fit) == 0:
        raise no_batch(fit["x"])


def no_batch(x: Any) -> ValueError:
    """Return the error for data that hold nothing."""
    return ValueError(
        f"LRRangeTest: argument `x` must hold at least one batch to train on. Received: x={x!r}"
    )


def build(model: Any, x: Any) -> None:
    """Build a model that does not know its input's shape yet, from the data.

    Raises:
        ValueError: If the data do not show the shape without being used up.
    """
    if model.built:
        return
    batch = None
    if isinstance(x, keras.utils.PyDataset):
        batch = x[0]
    elif hasattr(x, "element_spec"):
        batch = next(iter(x))
    elif hasattr(x, "shape") or isinstance(x, dict | list | tuple):
        batch = (keras.tree.map_structure(lambda array: array[:1], x),)
    if batch is None:
        raise ValueError(
            f"The model {model.name!r} is not built and its data cannot be looked at. Give it an "
            "Input, call it on a batch, or call model.build(input_shape) first."
        )
    model(batch[0] if isinstance(batch, list | tuple) else batch)


def _batches(fit: dict[str, Any]) -> int | None:
    """Return the number of batches in an epoch; None where nobody knows."""
    x = fit["x"]
    if _are_arrays(x):
        return math.ceil(len(keras.tree.flatten(x)[0]) / (fit.get("batch_size") or 32))
    try:
        return len(x)
    except TypeError:
        return None


def _are_arrays(x: Any) -> bool:
    leaves = keras.tree.flatten(x)
    return bool(leaves) and all(hasattr(a, "shape") for a in leaves if a is not None)


def _called(model: Any, callbacks: list[Any], *data: Any) -> list[Any]:
    """Return what a fit calls: what a model is made of and compiled with, callbacks and data."""
    compiled = getattr(getattr(model, "_compile_config", None), "config", {})
    given = [one for one in keras.tree.flatten(compiled) if callable(one)]
    loaders = [one for one in data if not _are_arrays(one)]
    return [*model._flatten_layers(), *optimizers_of(model), *given, *callbacks, *loaders]
