"""`LRRangeTest`: find the learning rate by trying, and leave the model as it was."""

from __future__ import annotations

import math
from typing import Annotated, Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr.fields import (
    Choice,
    Configurable,
    Flag,
    Kind,
    Number,
    Optional,
    PositiveRate,
    Text,
    configured,
)
from keras_lr.hyperparameters import optimizers_of
from keras_lr.probes import goes_up
from keras_lr.ramp import NO_DATA, Ramp
from keras_lr.range_result import RangeTestResult
from keras_lr.range_rules import RULES, NoSuggestion
from keras_lr.range_search import search
from keras_lr.snapshot import Snapshot
from keras_lr.timeline import Timeline, length_schema, parse_length

SEARCH = "search"
GRADIENT_STEPS = ("SGD", "Ftrl")
"""Optimizers whose step shrinks with the gradient."""


class Steps(Kind):
    """A number of batches, or a length that says its unit."""

    expected = "a number of batches of at least 10, or a length such as '2 epochs'"

    def convert(self, value: Any) -> int | str:
        if isinstance(value, str):
            if parse_length(value)[1] not in ("steps", "epochs"):
                raise ValueError(self.expected)
            return value
        return int(Number(minimum=10, whole=True).convert(value))

    def schema(self) -> dict[str, Any]:
        words = length_schema("steps?|epochs?")["anyOf"][1]
        return {"anyOf": [Number(minimum=10, whole=True).schema(), words]}


@configured
class LRRangeTest(Configurable):
    """Try rates from low to high on the model and its data, and say which to train at.

    ``run`` ramps the rate up batch by batch, watches each batch's own loss, and then, by the
    default rule, tries a few constant rates for a short while, because what a ramp cannot show is
    how a rate does when it stays. Every run starts from the same state, and afterwards the model is
    bit for bit what it was: weights, statistics, optimizer, metrics, random states, compiled
    functions.

    Args:
        min_lr: Lowest rate of the ramp.
        max_lr: Highest rate of the ramp.
        steps: Batches of the ramp, or a length such as ``"2 epochs"``; short data are cycled
            through.
        shape: ``"exponential"``: a constant factor per batch; ``"linear"``: a constant difference.
        rule: ``"search"``: the ramp and short runs at constant rates; or read from the ramp alone:
            ``"edge"``, ``"minimum"``, ``"steepest"``, ``"valley"``, ``"slide"``.
        budget: Training steps that ``"search"`` may take in all, the ramp included.
        monitor: What to watch: ``"loss"``, a metric, or a validation metric such as ``"val_loss"``.
        mode: ``"min"``, ``"max"``, or ``"auto"`` for the metric's own direction.
        validate_every: Batches between two validations, for a validation metric.
        stop_factor: How many times the best smoothed loss ends the ramp; above 1.
        repeats: Ramps with different orders of the batches; the curve is their median.
        restore: Whether to put the model back; otherwise it keeps what the last run left.
        verbose: 1 shows a progress bar with the rate and the smoothed loss, 0 nothing.

    Raises:
        TypeError: If an argument has the wrong type or is unknown.
        ValueError: If a number is out of range.

    Source: Smith 2017, Cyclical Learning Rates (arXiv:1506.01186), sec. 3.3.

    >>> keras.utils.set_random_seed(0)
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(), "mse")
    >>> x = np.random.default_rng(0).normal(size=(512, 4))
    >>> y = x.sum(1, keepdims=True)
    >>> result = LRRangeTest(verbose=0).run(model, x, y, batch_size=16)
    >>> 0.02 < result.suggestion < 0.5
    True
    >>> int(model.optimizer.iterations)
    0
    """

    min_lr: PositiveRate = 1e-6
    max_lr: PositiveRate = 10.0
    steps: Annotated[int | str, Steps()] = 60
    shape: Annotated[str, Choice(("exponential", "linear"))] = "exponential"
    rule: Annotated[str, Choice((SEARCH, *RULES))] = SEARCH
    budget: Annotated[int, Number(minimum=34, whole=True)] = 300
    monitor: Annotated[str, Text()] = "loss"
    mode: Annotated[str, Choice(("auto", "min", "max"))] = "auto"
    validate_every: Annotated[int | None, Optional(Number(minimum=1, whole=True))] = None
    stop_factor: Annotated[float, Number(above=1.0)] = 4.0
    repeats: Annotated[int, Number(minimum=1, whole=True)] = 1
    restore: Annotated[bool, Flag()] = True
    verbose: Annotated[int, Number(minimum=0, whole=True)] = 1

    def validate(self) -> None:
        if self.max_lr <= self.min_lr:
            raise self.invalid("max_lr", f"above min_lr={self.min_lr}")
        if self.monitor.startswith("val_") and self.validate_every is None:
            raise self.invalid("validate_every", f"a number of batches for {self.monitor!r}")

    def run(self, model: Any, x: Any = None, y: Any = None, **fit: Any) -> RangeTestResult:
        """Run the test.

        Args:
            model: A compiled model.
            x: Inputs: whatever ``fit`` takes.
            y: Targets, likewise.
            **fit: Further arguments of ``fit``, such as ``batch_size``, ``sample_weight`` or
                ``validation_data``; not ``epochs`` and ``initial_epoch``, which the test decides.

        Returns:
            The curve and what it suggests.

        Raises:
            ValueError: If the model is not compiled or cannot be built from the data.
        """
        for name in ("epochs", "initial_epoch"):
            if name in fit:
                raise TypeError(
                    f"LRRangeTest.run: argument `{name}` is decided by the test; pass `steps` to "
                    f"LRRangeTest instead. Received: {name}={fit[name]!r}"
                )
        optimizers_of(model)
        build(model, x)
        trainings = _Trainings(self, model, {"x": x, "y": y, **fit})
        try:
            return trainings.result()
        finally:
            trainings.close()


class _Trainings:
    """The short trainings of one test, each from the restored state."""

    def __init__(self, test: LRRangeTest, model: Any, fit: dict[str, Any]) -> None:
        self.test = test
        self.model = model
        self.fit: dict[str, Any] = {"verbose": 0, **fit}
        self.callbacks = list(self.fit.pop("callbacks", None) or [])
        self.validation: dict[str, Any] = {
            name: self.fit.pop(name)
            for name in ("validation_data", "validation_split", "validation_steps")
            if name in self.fit
        }
        self.snapshot = Snapshot(model)
        self.ramps: list[Ramp] = []
        self.holding = False
        bar = {"stateful_metrics": ["rate", test.monitor], "verbose": test.verbose}
        self.bar = keras.utils.Progbar(None, **bar) if test.verbose else None
        self.taken = 0

    def result(self) -> RangeTestResult:
        """Run the test and read it."""
        test = self.test
        steps = self.steps()
        plain = test.monitor == "loss" and test.shape == "exponential"
        found, reason = None, None
        try:
            if test.rule == SEARCH and plain:
                normalizes = all(
                    type(optimizer).__name__ not in GRADIENT_STEPS
                    for optimizer in optimizers_of(self.model)
                )
                found = search(
                    self,
                    test.min_lr,
                    test.max_lr,
                    steps,
                    budget=max(test.budget, steps + 24),
                    normalizes=normalizes,
                )
            else:
                self.ramp(test.min_lr, test.max_lr, steps)
        except NoSuggestion as error:
            reason = str(error)
        rule = "edge" if test.rule == SEARCH else test.rule
        return RangeTestResult.of(self.ramps, found, reason, rule, self.up, test.monitor)

    def steps(self) -> int:
        """Return the length of the ramp in batches."""
        length = self.test.steps
        if isinstance(length, int):
            return length
        amount, unit = parse_length(length)
        if unit == "steps":
            return max(int(amount), 10)
        per_epoch = self.fit.get("steps_per_epoch") or _batches(self.fit)
        if per_epoch is None:
            raise ValueError(
                "LRRangeTest: the number of batches in an epoch is not known. Pass steps as a "
                f"number of batches, or `steps_per_epoch` to run. Received: steps={length!r}"
            )
        return max(int(Timeline(per_epoch, 1).steps(length)), 10)

    @property
    def up(self) -> bool:
        """Whether more of the monitored value is better."""
        return goes_up("LRRangeTest", self.model, self.test.monitor, self.test.mode)

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
        if number:
            # Another order of the batches; the random states are put back in the end.
            keras.utils.set_random_seed(number)
        test = self.test
        ramp = Ramp(rates, test.monitor, self.up, stop_factor, self.show)
        fit = {**self.fit, "epochs": len(rates)}
        if test.monitor.startswith("val_"):
            fit |= {"epochs": 1, "steps_per_epoch": test.validate_every, **self.validation}
        seen = -1
        while ramp.reason == NO_DATA and len(ramp.points) > seen:
            seen = len(ramp.points)
            self.model.fit(**fit, callbacks=[*self.callbacks, ramp])
        return ramp

    def show(self, rate: float, value: float) -> None:
        """Show where the test stands."""
        self.taken += 1
        if self.bar is not None:
            self.bar.update(self.taken, [("rate", rate), (self.test.monitor, value)])

    def close(self) -> None:
        """Put the model back, whatever happened."""
        drive = vars(self.model).get("_keras_lr_drive")
        if drive is not None:
            drive.detach()
        if self.test.restore:
            self.snapshot.restore()
        if self.bar is not None:
            self.bar.update(self.taken, finalize=True)


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
    arrays = [a for a in keras.tree.flatten(x) if hasattr(a, "shape")]
    if arrays and not hasattr(x, "element_spec"):
        return math.ceil(len(arrays[0]) / (fit.get("batch_size") or 32))
    try:
        return len(x)
    except TypeError:
        return None
