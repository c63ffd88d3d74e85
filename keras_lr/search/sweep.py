"""`LRSweep`: train at many rates, and find the valley of each optimizer."""

from __future__ import annotations

from typing import Annotated, Any

from keras_lr._fields.configurable import Configurable, configurable
from keras_lr._fields.kinds import Choice, Number, Optional, Path, PositiveRate, Text
from keras_lr.callback import print_or_log
from keras_lr.search.arguments import (
    check_callbacks,
    check_epochs,
    check_fit,
    check_logged,
    check_readable_twice,
    check_schedule,
    default_monitor,
    named_builds,
)
from keras_lr.search.engines import engine_of
from keras_lr.search.engines.base import Engine
from keras_lr.search.fields import FunctionField, OptimizersField, TargetField
from keras_lr.search.halving import rate_grid, rung_stops
from keras_lr.search.identity.fingerprint import fingerprint
from keras_lr.search.progress import ProgressLine
from keras_lr.search.record import SweepRecord
from keras_lr.search.results.result import SweepResult
from keras_lr.search.results.rows import Criterion
from keras_lr.search.running import SweepRun
from keras_lr.search.trials.continued import check_callbacks_of_stretches
from keras_lr.search.trials.description import Trial
from keras_lr.search.trials.problem import Build, Callbacks, Problem
from keras_lr.search.trials.target import Target


@configurable
class LRSweep(Configurable):
    """Train at rates from low to high, and see which work well, for each of several optimizers.

    Each trial is a separate training from new weights, with the same result as a program that sets
    a seed, builds a model with this rate and calls ``fit``. But each optimizer has only one model,
    which is compiled once, and whose initial state is put back for every trial. A trial that
    diverges or fails is a gap with a reason, and the others continue.

    Args:
        min_lr: Lowest rate.
        max_lr: Highest rate.
        per_decade: Rates in a factor of ten, evenly spaced on a log axis.
        seeds: Training runs at each rate, each from other initial weights and with another order of
            the batches. Two or more show how far chance moves the best rate.
        optimizers: The optimizers to compare, each at its own best rate: Keras's names, or objects,
            whose rate is ignored. A dict gives them names.
        monitor: Logged value by which trials are compared, at the last epoch; by default
            ``"val_loss"`` with validation data and ``"loss"`` without.
        mode: ``"min"``, ``"max"``, or ``"auto"`` for the metric's own direction.
        until: A target such as ``"accuracy >= 0.97"``. A trial ends with the first epoch that meets
            it, and fewer steps to it are better.
        schedule: A function of the rate that returns the callback to train with, such as
            ``lambda lr: OneCycle(lr)``. The rate on the axis is the argument of the function.
        halving: Share of the epochs after which the worse half of each optimizer's rates is
            dropped; again after twice as many epochs, and so on. The other training runs continue,
            with new callbacks.
        refine: Further rates in each of the two gaps next to the best, once the others are done.
        subset: Share of the rows to train on, with the steps shortened in proportion.
        directory: Folder in which every outcome is stored. A sweep that was killed resumes from it,
            and a wider sweep reuses what it has in common with an earlier one.
        verbose: 1 shows a line with the trials done, the best so far and the time left, and then a
            report; 0 shows nothing.

    Raises:
        TypeError: If an argument has the wrong type or is unknown.
        ValueError: If a number is out of range, or the range is empty.

    >>> import keras
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    >>> def build(optimizer):
    ...     model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    ...     model.compile(optimizer, "mse")
    ...     return model
    >>> sweep = LRSweep(1e-3, 10.0, per_decade=1, optimizers=["sgd"], verbose=0)
    >>> result = sweep.run(build, x, x.sum(1, keepdims=True), epochs=4)
    >>> result.best.learning_rate
    0.1
    """

    min_lr: PositiveRate = 1e-5
    max_lr: PositiveRate = 1.0
    per_decade: Annotated[int, Number(minimum=1, whole=True)] = 2
    seeds: Annotated[int, Number(minimum=1, whole=True)] = 2
    optimizers: Annotated[Any, OptimizersField()] = ("sgd", "adam")
    monitor: Annotated[str | None, Optional(Text())] = None
    mode: Annotated[str, Choice(("auto", "min", "max"))] = "auto"
    until: Annotated[str | None, Optional(TargetField())] = None
    schedule: Annotated[Any, Optional(FunctionField())] = None
    halving: Annotated[float | None, Optional(Number(above=0.0, below=1.0))] = None
    refine: Annotated[int, Number(minimum=0, whole=True)] = 0
    subset: Annotated[float | None, Optional(Number(above=0.0, maximum=1.0))] = None
    directory: Annotated[str | None, Optional(Path("the path of a folder"))] = None
    verbose: Annotated[int, Number(minimum=0, maximum=1, whole=True)] = 1

    def validate(self) -> None:
        if self.max_lr <= self.min_lr:
            raise self.invalid("max_lr", f"above min_lr={self.min_lr}")

    def run(
        self,
        build: Build | dict[str, Build],
        x: Any = None,
        y: Any = None,
        *,
        epochs: int,
        callbacks: Callbacks | None = None,
        test_data: tuple[Any, ...] | None = None,
        engine: str | Engine = "local",
        **fit: Any,
    ) -> SweepResult:
        """Train all trials, and return what they show.

        Args:
            build: A function of an optimizer that returns a new compiled model; or a dict of such
                functions by name, of models of several sizes.
            x: Inputs: whatever ``fit`` takes and can be read again.
            y: Targets: whatever ``fit`` takes and can be read again.
            epochs: Epochs of a trial that is trained to its end.
            callbacks: Callbacks for the trials, each of which gets its own copies; or a function of
                the trial that returns them. None of them may decide the rate.
            test_data: ``(x, y)`` on which each trial that is trained to its end is evaluated. They
                influence nothing, so they show how good the choice is.
            engine: ``"local"``, which trains in this process; ``"ray"``, which trains on all cores;
                or a `RayEngine`, for GPUs and clusters.
            **fit: Further arguments of ``fit``, such as ``batch_size`` or ``validation_data``.

        Returns:
            The result. Ctrl-C ends the sweep with what is finished.

        Raises:
            TypeError: If an argument is unknown or has the wrong type, ``build`` does not return a
                model, or ``schedule`` does not return a callback.
            ValueError: If the data cannot be read again, ``build`` returns a model that is not
                compiled with the given optimizer, an epoch does not log the value that ``monitor``
                or ``until`` names, or with ``halving`` a callback remembers earlier epochs.
            StateError: If the directory holds a sweep of another model, other data or arguments.
        """
        problem = self._problem(build, epochs, callbacks, test_data, {"x": x, "y": y, **fit})
        with engine_of(engine) as chosen:
            result = self._train_on_engine(problem, chosen)
        if self.verbose:
            print_or_log(result.report())
        return result

    def _problem(
        self,
        build: Any,
        epochs: int,
        callbacks: Any,
        test_data: tuple[Any, ...] | None,
        fit: dict[str, Any],
    ) -> Problem:
        """Return the problem, from the arguments of `run`."""
        check_epochs(epochs)
        builds = named_builds(build)
        arguments = check_fit(fit, self.subset)
        check_readable_twice("test_data", test_data)
        check_schedule(self.schedule, self.min_lr)
        problem = Problem(
            builds,
            self.optimizers,
            arguments,
            epochs,
            self.monitor or default_monitor(arguments),
            self.mode,
            Target.parse(self.until) if self.until else None,
            self.schedule,
            check_callbacks(callbacks),
            test_data,
            in_stretches=len(rung_stops(epochs, self.halving)) > 1,
        )
        check_callbacks_of_stretches(problem, self._first_trials(problem))
        return problem

    @property
    def _grid(self) -> list[float]:
        """The rates that are tried first."""
        return rate_grid(self.min_lr, self.max_lr, self.per_decade)

    def _first_trials(self, problem: Problem) -> list[Trial]:
        """Return the trials at these rates."""
        return [
            Trial(*group, rate, seed)
            for group in problem.groups
            for rate in self._grid
            for seed in range(self.seeds)
        ]

    def _train_on_engine(self, problem: Problem, engine: Engine) -> SweepResult:
        """Train all trials on an engine."""
        record = SweepRecord.open_to_write(self.directory)
        rehearsal = engine.start(problem)
        check_logged(self, problem, rehearsal)
        criterion = Criterion(problem.monitor, rehearsal.up, self.until or "", problem.epochs)
        progress = ProgressLine(criterion, bool(self.verbose))
        stops = rung_stops(problem.epochs, self.halving)
        if record is not None:
            decisive = fingerprint(problem, rehearsal, stops, self.subset)
            record.write_header(decisive, criterion, problem.groups)
        run = SweepRun(engine, criterion, self.seeds, stops, record, progress)
        rates = dict.fromkeys(problem.groups, self._grid)

        def train() -> None:
            run.train_trials(rates, halve=self.halving is not None)
            if self.refine:
                run.train_trials(run.finer(rates, self.refine), halve=False)

        interrupted = progress.watch(run, train)
        return SweepResult(tuple(run.rows), criterion, tuple(problem.groups), interrupted)
