"""`PopulationBasedTraining`: train several models, the worst of which copy the best."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from keras_lr._fields.configurable import Configurable, configurable
from keras_lr._fields.kinds import Choice, ListOf, Number, Optional, Path, Text
from keras_lr._fields.lengths import WholeEpochs
from keras_lr.callback import print_or_log
from keras_lr.search.arguments import (
    check_callbacks,
    check_epochs,
    check_fit,
    check_logged,
    check_readable_twice,
    default_monitor,
    named_builds,
)
from keras_lr.search.engines import engine_of
from keras_lr.search.engines.base import Engine, Rehearsal
from keras_lr.search.fields import describe_optimizer
from keras_lr.search.identity.fingerprint import fingerprint
from keras_lr.search.population.fields import OptimizerField, ParametersField
from keras_lr.search.population.line import Line, LineDriver
from keras_lr.search.population.progress import PopulationProgress
from keras_lr.search.population.record import PopulationRecord
from keras_lr.search.population.results.result import PopulationResult
from keras_lr.search.population.rounds import PopulationRun, round_stops
from keras_lr.search.population.rule import Parameter, PopulationRule
from keras_lr.search.population.winner import model_of
from keras_lr.search.results.rows import Criterion
from keras_lr.search.trials.continued import check_callbacks_of_stretches
from keras_lr.search.trials.problem import Build, Callbacks, Problem, Search

POPULATION = Search(
    "PopulationBasedTraining",
    "population",
    forgetting="remembers earlier epochs, decides the rate or writes checkpoints: every member has "
    "new callbacks in every round, and the population chooses among members.",
    shares_files=True,
)

UNUSED = ("halving", "subset", "until", "schedule")
"""Entries of a sweep's fingerprint that a population does not have."""


@configurable
class PopulationBasedTraining(Configurable):
    """Train a population of models; after each round the worst copy the best and try other rates.

    Every member begins with its own initial weights, and with its own hyperparameters, drawn evenly
    on a log axis. After each round, the members with the worst scores copy the weights and the
    optimizer state of some of the best. They multiply each hyperparameter by one of the factors
    ``perturb``, or draw it again. So one run of the population finds a rate for each part of a
    training. A member that diverges, fails or is stopped is also replaced by a copy.

    Members share one compiled model, into which the state of each is put for its turn, as in
    `LRSweep`.

    Args:
        parameters: The range of each hyperparameter, by name: ``learning_rate``, and any other that
            `ParamScheduler` moves, such as ``weight_decay`` or ``momentum``. For ``momentum``,
            ``beta_1``, ``beta_2`` and ``rho``, the distance from 1 is drawn and multiplied. A copy
            may leave the range.
        population: Number of members.
        every: Length of a round in whole epochs, such as 2 or ``"2 epochs"``.
        quantile: Share of the members that are replaced after a round, and of those that they copy.
        perturb: Factors, one of which multiplies each hyperparameter of a copy.
        resample: Probability with which a hyperparameter of a copy is drawn again instead.
        optimizer: The optimizer with which ``build`` is called: Keras's name, or an object, whose
            rate is ignored.
        monitor: Logged value by which members are compared, at the last epoch of a round; by
            default ``"val_loss"`` with validation data and ``"loss"`` without.
        mode: ``"min"``, ``"max"``, or ``"auto"`` for the metric's own direction.
        seed: Seed of all draws: hyperparameters, initial weights, batches, who copies whom.
        directory: Folder in which every outcome is stored, with the states of the members. A run
            that was killed resumes from it, and ends as it would have without the kill.
        verbose: 1 shows a line with the rounds done, the best so far and the time left, and then a
            report; 0 shows nothing.

    Raises:
        TypeError: If an argument has the wrong type or is unknown.
        ValueError: If a number is out of range.

    Source: Jaderberg et al. 2017, Population Based Training of Neural Networks (arXiv:1711.09846),
    with truncation selection.

    >>> import keras
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    >>> def build(optimizer):
    ...     model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    ...     model.compile(optimizer, "mse")
    ...     return model
    >>> training = PopulationBasedTraining(
    ...     {"learning_rate": (1e-3, 0.1)}, population=4, optimizer="sgd", verbose=0
    ... )
    >>> result = training.run(build, x, x.sum(1, keepdims=True), epochs=4)
    >>> len(result.rows), result.schedule.values(epochs=4, steps_per_epoch=2).shape
    (16, (8,))
    """

    parameters: Annotated[dict[str, tuple[float, float]], ParametersField()]
    population: Annotated[int, Number(minimum=2, whole=True)] = 8
    every: Annotated[int | str, WholeEpochs()] = 1
    quantile: Annotated[float, Number(above=0.0, maximum=0.5)] = 0.25
    perturb: Annotated[tuple[float, ...], ListOf(Number(above=0.0), at_least=1)] = (0.8, 1.2)
    resample: Annotated[float, Number(minimum=0.0, maximum=1.0)] = 0.1
    optimizer: Annotated[Any, OptimizerField()] = "adam"
    monitor: Annotated[str | None, Optional(Text())] = None
    mode: Annotated[str, Choice(("auto", "min", "max"))] = "auto"
    seed: Annotated[int, Number(minimum=0, whole=True)] = 0
    directory: Annotated[str | None, Optional(Path("the path of a folder"))] = None
    verbose: Annotated[int, Number(minimum=0, maximum=1, whole=True)] = 1

    def run(
        self,
        build: Build,
        x: Any = None,
        y: Any = None,
        *,
        epochs: int,
        callbacks: Callbacks | None = None,
        test_data: tuple[Any, ...] | None = None,
        engine: str | Engine = "local",
        **fit: Any,
    ) -> PopulationResult:
        """Train the population, and return the result.

        Args:
            build: A function of an optimizer that returns a new compiled model.
            x: Inputs: whatever ``fit`` takes and can be read again.
            y: Targets: whatever ``fit`` takes and can be read again.
            epochs: Epochs of each member; more than a round has.
            callbacks: Callbacks for the members, which get new copies in each round; or a function
                of the member's line that returns them. None of them may decide the rate.
            test_data: ``(x, y)`` on which each member is evaluated after the last round. They
                influence nothing, so they show how good the choice is.
            engine: ``"local"``, which trains in this process, or an engine.
            **fit: Further arguments of ``fit``, such as ``batch_size`` or ``validation_data``.

        Returns:
            The result. Ctrl-C ends the training with what is finished.

        Raises:
            TypeError: If an argument is unknown or has the wrong type, or ``build`` does not return
                a model.
            ValueError: If the data cannot be read again, ``build`` returns a model that is not
                compiled with the given optimizer, the optimizer lacks a hyperparameter, or an epoch
                does not log the value that ``monitor`` names.
            StateError: If the directory holds a population of another model, other data or
                arguments.
        """
        problem = self._problem(build, epochs, callbacks, test_data, {"x": x, "y": y, **fit})
        with engine_of(engine, POPULATION) as chosen:
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
        check_epochs(epochs, POPULATION)
        if epochs <= self._round:
            raise ValueError(
                f"PopulationBasedTraining.run: argument `epochs` must be more than the "
                f"{self._round} of a round, after which members copy. Received: epochs={epochs}"
            )
        builds = named_builds(build, POPULATION)
        if len(builds) > 1:
            raise TypeError(
                "PopulationBasedTraining.run: argument `build` must be one function, since members "
                f"copy weights from one another. Received: build={build!r}"
            )
        arguments = check_fit(fit, search=POPULATION)
        check_readable_twice("test_data", test_data, POPULATION)
        problem = Problem(
            builds,
            {describe_optimizer(self.optimizer): self.optimizer},
            arguments,
            epochs,
            self.monitor or default_monitor(arguments),
            self.mode,
            None,
            LineDriver(tuple(self.parameters), self._round),
            check_callbacks(callbacks, POPULATION),
            test_data,
            POPULATION,
            in_stretches=True,
        )
        check_callbacks_of_stretches(problem, self._first_lines(problem))
        return problem

    @property
    def _round(self) -> int:
        """Epochs of a round."""
        return int(self.every)

    def _first_lines(self, problem: Problem) -> list[Line]:
        """Return the lines with which the members begin."""
        rule, (group,) = self._rule(), problem.groups
        return [
            Line.of_one_round(group, rule.first_values(member), rule.seed_of(member))
            for member in range(self.population)
        ]

    def _train_on_engine(self, problem: Problem, engine: Engine) -> PopulationResult:
        """Train the population on an engine."""
        record = PopulationRecord.open_to_write(self.directory)
        rehearsal = engine.start(problem)
        check_logged(self, problem, rehearsal)
        criterion = Criterion(problem.monitor, rehearsal.up, "", problem.epochs)
        (group,) = problem.groups
        stops = round_stops(problem.epochs, self._round)
        rule = self._rule()
        if record is not None:
            record.write_header(self._fingerprint(problem, rehearsal), criterion, problem.groups)
        progress = PopulationProgress(criterion, self.population, len(stops), bool(self.verbose))
        run = PopulationRun(engine, rule, group, criterion, stops, record, progress)
        interrupted = progress.watch(run, run.train_rounds)
        rows = sorted(run.rows, key=lambda row: (row.round, row.member))
        result = PopulationResult(tuple(rows), criterion, rule, self._round, interrupted)
        if all(row.is_lost for row in result.last_round):
            return result
        line = result.best.line
        winner = model_of(problem, line, stops[: result.best.round], run.state_of(line))
        return dataclasses.replace(result, winner=winner)

    def _rule(self) -> PopulationRule:
        parameters = tuple(Parameter(name, *ends) for name, ends in self.parameters.items())
        return PopulationRule(
            parameters, self.population, self.quantile, self.perturb, self.resample, self.seed
        )

    def _fingerprint(self, problem: Problem, rehearsal: Rehearsal) -> dict[str, Any]:
        """Return the fingerprint of a population."""
        decisive = fingerprint(problem, rehearsal, (), None)
        decided = {name: value for name, value in decisive.items() if name not in UNUSED}
        return decided | {"every": self._round, **dataclasses.asdict(self._rule())}
