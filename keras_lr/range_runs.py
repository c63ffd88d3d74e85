"""`Trainings`: the short trainings of one range test, each from the restored state."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lr.hyperparameters import host_value, optimizers_of
from keras_lr.probes import goes_up
from keras_lr.ramp import NO_DATA, Ramp
from keras_lr.random_states import is_of_keras, set_seed
from keras_lr.range_result import RangeTestResult
from keras_lr.range_rules import NoSuggestion
from keras_lr.range_search import search
from keras_lr.snapshot import Snapshot
from keras_lr.timeline import Timeline, parse_length

if TYPE_CHECKING:
    from keras_lr.range_test import LRRangeTest

SEARCH = "search"
GRADIENT_STEPS = ("SGD", "Ftrl")
"""Optimizers whose step shrinks with the gradient."""


class Trainings:
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
        self.fit: dict[str, Any] = {"verbose": 0, **fit}
        self.callbacks = list(self.fit.pop("callbacks", None) or [])
        self.validation: dict[str, Any] = {
            name: self.fit.pop(name)
            for name in ("validation_data", "validation_split", "validation_steps")
            if name in self.fit
        }
        self.snapshot = Snapshot(model)
        data = self.fit["x"], self.validation.get("validation_data")
        self.keep_kernels = all(map(is_of_keras, _called(model, self.callbacks, *data)))
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
        spent = self.look(steps)
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
                    budget=max(test.budget - spent, steps + 24),
                    normalizes=normalizes,
                    epoch=_batches(self.fit) or math.inf,
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

    @functools.cached_property
    def up(self) -> bool:
        """Whether more of the monitored value is better; known after the first step."""
        return goes_up("LRRangeTest", self.model, self.test.monitor, self.test.mode)

    def look(self, steps: int) -> int:
        """See what the batches do at the lowest rate where the model was trained before.

        There the loss has little left to fall, and batches differ by more than that. Momentum from
        before goes on by itself. A run at a rate too low to train shows both alone, batch by batch,
        and what it shows is taken out of every other run on the same batches.

        Returns:
            The steps that this took for one order of the batches.
        """
        test = self.test
        before = [host_value(optimizer.iterations) for optimizer in optimizers_of(self.model)]
        if test.monitor.startswith("val_") or not any(before):
            return 0
        # The runs at constant rates are no longer than this.
        most = steps if test.rule != SEARCH else max(steps, -(-(test.budget - steps) // 5))
        for number in range(test.repeats):
            still = self.train(np.full(most, test.min_lr), math.inf, number).curve()[1]
            if len(still) == most and np.isfinite(still).all():
                self.offsets[number] = still.mean() - still
        return most

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
        offset = self.offsets.get(number)
        ramp = Ramp(rates, test.monitor, lambda: self.up, stop_factor, self.show, offset)
        fit = {**self.fit, "epochs": len(rates)}
        if test.monitor.startswith("val_"):
            fit |= {"epochs": 1, "steps_per_epoch": test.validate_every, **self.validation}
        seen = -1
        while ramp.reason == NO_DATA and len(ramp.points) > seen:
            seen = len(ramp.points)
            if getattr(self.model, "_initial_epoch", None):
                # Keras never resets the epoch at which a restored fit went on.
                self.model._initial_epoch = None
            self.model.fit(**fit, callbacks=[*self.callbacks, ramp])
        self.single = {name: getattr(self.model, name) for name in self.single}
        return ramp

    def become(self, attributes: dict[str, Any]) -> None:
        """Set attributes of the model."""
        for name, value in attributes.items():
            setattr(self.model, name, value)

    def show(self, rate: float, value: float) -> None:
        """Show where the test stands."""
        self.taken += 1
        if self.bar is not None:
            self.bar.update(self.taken, [("rate", rate), (self.test.monitor, value)])

    def close(self) -> None:
        """Put the model back, whatever happened."""
        drive = vars(self.model).get("_keras_lr_drive")
        if drive is not None:
            drive.end()
        if self.test.restore:
            self.snapshot.restore()
        self.become(self.own)
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
