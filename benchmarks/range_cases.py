"""`Case`: a range test and a training run whose best rate was measured, from `range_truth.json`."""

import dataclasses
import functools
import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from range_problems import Problem
from range_truth import HORIZONS, REHEARSED, SCHEDULES

from keras_lr.range_test.advice.conditions import Conditions
from keras_lr.range_test.advice.extrapolation import Extrapolation, extrapolate, terms_of
from keras_lr.range_test.advice.rehearsal import Rehearsal, rehearsal_length
from keras_lr.range_test.advice.training import Training
from keras_lr.range_test.trials import NUM_CONSTANT_RUNS

STEEPEST_KNOWN = np.log(2.0), np.log(3.0)
"""Least slopes of the logarithm of the loss outside of the measured rates, below and above."""

BUDGET = 300
"""Budget of the range tests that the numbers are fitted on."""


@dataclass
class Measured:
    """The losses of one problem under one schedule for one length."""

    logs: NDArray
    losses: NDArray
    untrained: float
    seeds: int

    @classmethod
    def read(cls, runs: dict, untrained: dict) -> "Measured":
        """Return the means of the rates that have every seed."""
        count = max(map(len, runs.values()))
        whole = sorted(int(quarter) for quarter, seeds in runs.items() if len(seeds) == count)
        means = [
            np.mean([min(np.inf if v is None else v, untrained[s]) for s, v in seeds.items()])
            for seeds in (runs[str(quarter)] for quarter in whole)
        ]
        seeds = runs[str(whole[0])]
        start = float(np.mean([untrained[seed] for seed in seeds]))
        return cls(np.array(whole) / 4, np.log(means), float(np.log(start)), len(seeds))

    @property
    def best(self) -> float:
        """The logarithm of the best rate."""
        return float(self.logs[self.losses.argmin()])

    def regret(self, log: float) -> float:
        """Return the logarithm of the regret at a rate."""
        slope = np.diff(self.losses) / np.diff(self.logs)
        loss = np.interp(log, self.logs, self.losses)
        loss += max(-slope[0], STEEPEST_KNOWN[0]) * max(0.0, self.logs[0] - log)
        loss += max(slope[-1], STEEPEST_KNOWN[1]) * max(0.0, log - self.logs[-1])
        return float(min(loss, self.untrained) - self.losses.min())


@dataclass
class Case:
    """A range test, and a training run that asks it for a rate."""

    problem: Problem
    test: dict
    schedule: str
    steps: int
    measured: Measured

    @property
    def conditions(self) -> Conditions:
        return self.problem.conditions(self.test["batches"])

    @property
    def training(self) -> Training:
        return Training.plan(self.steps, SCHEDULES[self.schedule](1.0))

    def extrapolated(self, training: Training) -> Extrapolation:
        """Return how the best rate of a training run differs from that of the short runs."""
        return extrapolate(self.conditions, self.test["run"], self.test["agreement"], training)

    @property
    def advice(self) -> tuple[float, float]:
        """The logarithm of the rate, and the confidence in it."""
        moved = self.extrapolated(self.training)
        return float(np.log10(self.test["best"] * moved.factor)), moved.confidence()

    @functools.cached_property
    def features(self) -> NDArray:
        """What the numbers of a `Drift` are multiplied by."""
        one, decades, _, repeats = terms_of(self.conditions, self.test["run"], self.training)
        # A full decay is what a cosine and one cycle are, however few their steps.
        return np.array([one, decades, float(self.schedule != "constant"), repeats])


def read(
    problems: list[Problem], budget: int, every: dict, most: int = 3
) -> tuple[list[Case], int]:
    """Return the cases of all problems that were measured, and the tests without an answer.

    Args:
        problems: The problems.
        budget: Steps of the range tests.
        every: What the file holds.
        most: Range tests of each problem to read at most.
    """
    cases, silent = [], 0
    for problem in problems:
        runs = every.get(problem.name)
        if runs is None:
            continue
        tests = [test for key, test in runs["tests"].items() if int(key.split()[0]) == budget][
            :most
        ]
        silent += sum(test is None for test in tests)
        for schedule in SCHEDULES:
            for steps in HORIZONS:
                if f"{schedule} {steps}" in runs:
                    measured = Measured.read(runs[f"{schedule} {steps}"], runs["untrained"])
                    cases += [Case(problem, t, schedule, steps, measured) for t in tests if t]
    return cases, silent


@dataclass
class Rehearsed(Case):
    """A range test that rehearsed, and a training run that asks it for a rate."""

    best: float
    rehearsal: Training

    @property
    def growth(self) -> float:
        """The logarithm of the length of the training over that of the rehearsal."""
        return float(np.log10(self.steps / self.rehearsal.steps))

    @property
    def advice(self) -> tuple[float, float]:
        there, here = self.extrapolated(self.training), self.extrapolated(self.rehearsal)
        rehearsal = Rehearsal(self.best, self.rehearsal, {})
        rate = rehearsal.correct(self.test["best"] * there.factor, there.factor / here.factor)
        return float(np.log10(rate)), there.after_rehearsal(here, self.growth).confidence()


def read_rehearsed(
    problems: list[Problem], every: dict, kind: str = "rehearsal"
) -> dict[int, list[Case]]:
    """Return the cases with rehearsals by the budget, with one seed each.

    Args:
        problems: The problems.
        every: What the file holds.
        kind: Of `REHEARSALS`.
    """
    cases: dict[int, list[Case]] = {BUDGET: []}
    for problem in problems:
        found = every.get(problem.name, {}).get(f"{kind}s", {})
        short = read([problem], BUDGET, every, most=1)[0] if found else []
        cases[BUDGET] += short
        for budget in REHEARSED if found else ():
            after = cases.setdefault(budget, [])
            after += [_rehearsed(case, found, budget) for case in short]
    return cases


def _rehearsed(case: Case, found: dict, budget: int) -> Case:
    """Return a case after the rehearsal under its schedule; the same if there was none."""
    prefix = f"{case.schedule} {budget} "
    best_rates = next((rates for key, rates in found.items() if key.startswith(prefix)), {})
    longest = max(map(int, best_rates), default=0)
    length = rehearsal_length(NUM_CONSTANT_RUNS * longest, case.steps)
    best = best_rates.get(f"{length}")
    if best is None:
        return case
    fields = {field.name: getattr(case, field.name) for field in dataclasses.fields(case)}
    return Rehearsed(**fields, best=best, rehearsal=case.training.of_length(length))


def rehearsed_of(cases: dict[int, list[Case]]) -> list[Rehearsed]:
    """Return the cases whose budget was enough for a rehearsal."""
    every = itertools.chain.from_iterable(cases.values())
    return [case for case in every if isinstance(case, Rehearsed)]
