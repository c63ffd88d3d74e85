"""How good is the advice of a range test for a training of some length and schedule?

It reads what `range_truth.py` measured: the best rate of each training on each problem, and what
range tests found there. The numbers in `keras_lr/range_test/advice/extrapolation.py` are fitted on
the problems `TUNED` and `FITTED`, and checked on the problems `HELD_OUT`.

    python benchmarks/range_advice.py                 # the tables, by the numbers in the package
    python benchmarks/range_advice.py --fit           # the numbers, from TUNED and FITTED

It needs JAX and SciPy, and no data.

The regret is the validation loss at a rate over the lowest of all rates that were measured, both
the mean of the seeds. Between two measured rates the logarithm of the loss is interpolated over the
logarithm of the rate. Outside of them it goes on along the last two, by a factor of two or more a
decade below and of three or more above, up to the loss without training.
"""

import argparse
import functools
import itertools
import json
import os
from dataclasses import dataclass

os.environ["KERAS_BACKEND"] = "jax"

import numpy as np
from numpy.typing import NDArray
from range_problems import EXTREME, FITTED, HELD_OUT, TUNED, Problem
from range_truth import BUDGETS, FILE, HORIZONS, SCHEDULES
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import minimize
from scipy.special import erf

from keras_lr.range_test.advice.conditions import FADING, FIXED, GRADIENT, Conditions
from keras_lr.range_test.advice.extrapolation import (
    SAME,
    extrapolate,
    spread_terms_of,
    terms_of,
)
from keras_lr.range_test.advice.rehearsal import Rehearsal, rehearsal_length
from keras_lr.range_test.advice.training import Training
from keras_lr.range_test.trials import NUM_CONSTANT_RUNS

STEEPEST_KNOWN = np.log(2.0), np.log(3.0)
"""Least slopes of the logarithm of the loss outside of the measured rates, below and above."""

GRID = np.arange(-8.0, 3.001, 0.05)
"""Logarithms of rates at which losses are tabulated, to fit."""

WORST = 1.5
"""Logarithm of the regret above which a worse one counts the same, to fit."""

BLUR = 4.0
"""Steps of the grid over which the regret is blurred, to fit: it is measured with few seeds."""

KINDS = GRADIENT, FIXED, FADING
SHARED, OWN = (0.1, 0.02, 0.02, 0.02), (1.0, 0.3, 0.3, 0.3)
"""Penalties on the numbers that all kinds of optimizers share, and on those of one kind."""

PENALTY = 0.03
FEW = 13
"""Batches of an epoch up to which the data are shown as small."""

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
    """A range test, and a training that asks it for a rate."""

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

    @property
    def advice(self) -> tuple[float, float]:
        """The logarithm of the rate, and the confidence in it."""
        run, agreement = self.test["run"], self.test["agreement"]
        moved = extrapolate(self.conditions, run, agreement, self.training)
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
class Fit:
    """Cases as arrays, and the numbers that fit them."""

    cases: list[Case]

    def __post_init__(self) -> None:
        kinds = [case.problem.step_size for case in self.cases]
        self.design = np.array(
            [
                np.concatenate([case.features, *(case.features * (kind == k) for k in KINDS)])
                for case, kind in zip(self.cases, kinds, strict=True)
            ]
        )
        self.best = np.log10([case.test["best"] for case in self.cases])
        self.truth = np.array([case.measured.best for case in self.cases])
        self.names = np.array([case.problem.name for case in self.cases])
        _, own, count = np.unique(self.names, return_inverse=True, return_counts=True)
        self.weights = 1.0 / count[own]
        regrets = [[case.measured.regret(log) for log in GRID] for case in self.cases]
        self.regrets = gaussian_filter1d(np.minimum(regrets, WORST), BLUR, mode="nearest")

    def numbers(self, chosen: NDArray) -> NDArray:
        """Return the numbers that make the regret of the chosen cases least.

        Those of a kind of optimizers are what all kinds share plus its own, and both are kept
        small.
        """
        penalty = PENALTY * np.concatenate([SHARED, *[OWN] * len(KINDS)])
        design, best, tables = self.design[chosen], self.best[chosen], self.regrets[chosen]
        weight = self.weights[chosen] / self.weights[chosen].sum()
        step, rows = GRID[1] - GRID[0], np.arange(len(best))

        def cost(numbers: NDArray) -> tuple[float, NDArray]:
            place = np.clip((best + design @ numbers - GRID[0]) / step, 0.0, len(GRID) - 1.001)
            left = place.astype(int)
            part, low, high = place - left, tables[rows, left], tables[rows, left + 1]
            regret = weight @ (low + part * (high - low)) + penalty @ numbers**2 / 2
            return regret, design.T @ (weight * (high - low) / step) + penalty * numbers

        normal = design.T @ (weight[:, None] * design) + np.diag(2.0 * penalty)
        start = np.linalg.solve(normal, design.T @ (weight * (self.truth[chosen] - best)))
        return minimize(cost, start, jac=True, method="L-BFGS-B").x

    def left_out(self) -> NDArray:
        """Return the logarithm of the rate for each case by numbers fitted without its problem."""
        found = np.empty(len(self.cases))
        for name in np.unique(self.names):
            numbers = self.numbers(np.flatnonzero(self.names != name))
            out = self.names == name
            found[out] = self.best[out] + self.design[out] @ numbers
        return found

    def chances(self, spreads: NDArray) -> NDArray:
        """Return the chance that the rate for each case is within a factor of two of the best."""
        terms = [
            spread_terms_of(case.conditions, case.test["agreement"], case.features[1])
            for case in self.cases
        ]
        return erf(SAME / np.sqrt(2.0 * (np.array(terms) ** 2 @ spreads**2)))

    def spreads(self, errors: NDArray) -> NDArray:
        """Return the spreads by which as many rates are within a factor of two as were.

        Args:
            errors: Decades between the rate for each, by numbers fitted without it, and the best.
        """
        right = np.abs(errors) <= SAME + 1e-9

        def cost(numbers: NDArray) -> float:
            chance = self.chances(numbers)
            return -np.average(np.log(np.where(right, chance, 1.0 - chance)), weights=self.weights)

        options = {"maxiter": 4000}
        return np.abs(minimize(cost, np.full(4, 0.3), method="Nelder-Mead", options=options).x)


def three(regrets: NDArray) -> str:
    values = np.exp([np.median(regrets), np.quantile(regrets, 0.9), regrets.max()])
    return " / ".join(f"{value:.2f}" for value in values)


def table(title: str, cases: list[Case], columns: dict[str, NDArray]) -> None:
    """Print median, 90 % and worst of the regret for each schedule and length."""
    print(f"\n{title}: {len({case.problem.name for case in cases})} problems")
    print(f"| training | {' | '.join(columns)} |")
    print("|---|" + "---|" * len(columns))
    regrets = {
        name: np.array([case.measured.regret(log) for case, log in zip(cases, logs, strict=True)])
        for name, logs in columns.items()
    }
    for schedule in SCHEDULES:
        for steps in HORIZONS:
            chosen = np.array([(c.schedule, c.steps) == (schedule, steps) for c in cases])
            if chosen.any():
                shown = " | ".join(three(regret[chosen]) for regret in regrets.values())
                print(f"| {schedule}, {steps:,} steps | {shown} |")
    print(f"| all | {' | '.join(three(regret) for regret in regrets.values())} |")
    failures = [
        sum(
            r > 0.9 * (c.measured.untrained - c.measured.losses.min()) and r > np.log(1.5)
            for c, r in zip(cases, regret, strict=True)
        )
        for regret in regrets.values()
    ]
    print(f"| hardly trained | {' | '.join(map(str, failures))} |")


def calibration(cases: list[Case], logs: NDArray, said: NDArray) -> None:
    """Print what share of the answers of each confidence are within a factor of two of the best."""
    print(
        "\n| confidence said | answers | within a factor of two | regret up to 1.1 |"
        "\n|---|---|---|---|"
    )
    right = np.abs(logs - [case.measured.best for case in cases]) <= SAME + 1e-9
    good = np.array(
        [c.measured.regret(log) <= np.log(1.1) for c, log in zip(cases, logs, strict=True)]
    )
    edges = [0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0]
    for low, high in itertools.pairwise(edges):
        chosen = (low <= said) & (said < high)
        if chosen.any():
            print(
                f"| {low:.1f} to {high:.1f}, mean {said[chosen].mean():.2f} | {chosen.sum()} | "
                f"{right[chosen].mean():.2f} | {good[chosen].mean():.2f} |"
            )


def by_budget(every: dict) -> None:
    """Print how good the advice of range tests of several budgets is, with one seed each."""
    print("\n| budget | without an answer | regret | confidence, mean | within a factor of two |")
    print("|---|---|---|---|---|")
    for budget in sorted(BUDGETS):
        cases, silent = read([*TUNED, *FITTED, *HELD_OUT], budget, every, most=1)
        logs, said = np.array([case.advice for case in cases]).T
        regrets = [case.measured.regret(log) for case, log in zip(cases, logs, strict=True)]
        right = np.abs(logs - [case.measured.best for case in cases]) <= SAME + 1e-9
        shown = f"{three(np.array(regrets))} | {said.mean():.2f} | {right.mean():.2f}"
        print(f"| {budget:,} steps | {silent} | {shown} |")


def rehearsed(case: Case, best_rates: dict) -> tuple[float, float] | None:
    """Return the logarithm of the rate after a rehearsal and the confidence; None without one.

    Args:
        case: The case, with the short runs of the same seed.
        best_rates: The best rate of the rehearsals, by their length.
    """
    longest = max(map(int, best_rates), default=0)
    length = rehearsal_length(NUM_CONSTANT_RUNS * longest, case.steps)
    best = best_rates.get(f"{length}")
    if best is None:
        return None
    short, confidence = case.advice
    run, agreement = case.test["run"], case.test["agreement"]
    there, here = (
        extrapolate(case.conditions, run, agreement, training).factor
        for training in (case.training, Training(length))
    )
    rate = Rehearsal(best, length, {}).correct(10.0**short, there / here)
    return float(np.log10(rate)), confidence


def by_rehearsal(every: dict) -> None:
    """Print how good advice is with validation data, by the budget, with one seed each."""
    print(
        "\n| budget | problems | regret | confidence, mean | within a factor of two |"
        "\n|---|---|---|---|---|"
    )
    for name, problems in {"TUNED, FITTED": [*TUNED, *FITTED], "HELD_OUT": HELD_OUT}.items():
        answers: dict[str, list] = {f"{BUDGET}": []}
        for problem in problems:
            found = every.get(problem.name, {}).get("rehearsals", {})
            cases = read([problem], BUDGET, every, most=1)[0] if found else []
            answers[f"{BUDGET}"] += [(case, *case.advice) for case in cases]
            for key, best_rates in found.items():
                answers.setdefault(key.split()[0], []).extend(
                    (case, *(rehearsed(case, best_rates) or case.advice)) for case in cases
                )
        for budget, rows in answers.items():
            regrets = np.array([case.measured.regret(log) for case, log, _ in rows])
            right = np.mean([abs(log - c.measured.best) <= SAME + 1e-9 for c, log, _ in rows])
            said = np.mean([confidence for *_, confidence in rows])
            shown = f"{three(regrets)} | {said:.2f} | {right:.2f}"
            print(f"| {int(budget):,} steps | {name} | {shown} |")


def few_batches(every: dict) -> None:
    """Print the regret on each problem with few batches, or with batches of other sizes."""
    print("\n| problem | batches | without a length | advice | confidence |\n|---|---|---|---|---|")
    for problem in [*TUNED, *HELD_OUT, *EXTREME]:
        cases, silent = read([problem], BUDGET, every)
        if not cases or (problem not in EXTREME and cases[0].test["batches"] > FEW):
            continue
        cells = [
            three(
                np.array([case.measured.regret(log) for case, log in zip(cases, logs, strict=True)])
            )
            for logs in (
                [np.log10(case.test["suggestion"]) for case in cases],
                [case.advice[0] for case in cases],
            )
        ]
        said = np.mean([case.advice[1] for case in cases])
        name = f"{problem.name}{' (held out)' * (problem in HELD_OUT)}"
        none = f", {silent} of 3 tests without an answer" * bool(silent)
        print(f"| {name}{none} | {cases[0].test['batches']} | {' | '.join(cells)} | {said:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fit", action="store_true", help="fit the numbers and print them")
    options = parser.parse_args()
    every = json.loads(FILE.read_text())
    if options.fit:
        cases, silent = read([*TUNED, *FITTED], BUDGET, every)
        fitted = Fit(cases)
        numbers = fitted.numbers(np.arange(len(cases)))
        shared, *own = numbers.reshape(1 + len(KINDS), -1)
        for kind, more in zip(KINDS, own, strict=True):
            print(f"{kind}: Drift({', '.join(f'{number:.2f}' for number in shared + more)})")
        without = fitted.left_out()
        spreads = fitted.spreads(without - fitted.truth)
        print(f"SPREADS = {', '.join(f'{number:.2f}' for number in spreads)}")
        logs = {
            "the suggestion without a length": np.log10([c.test["suggestion"] for c in cases]),
            "left out": without,
            "fitted": fitted.best + fitted.design @ numbers,
        }
        table(f"TUNED and FITTED ({silent} tests without an answer)", cases, logs)
        calibration(cases, without, fitted.chances(spreads))
        return
    for title, problems in {"TUNED and FITTED": [*TUNED, *FITTED], "HELD_OUT": HELD_OUT}.items():
        cases, silent = read(problems, BUDGET, every)
        rates, said = np.array([case.advice for case in cases]).T
        suggestions = np.log10([case.test["suggestion"] for case in cases])
        columns = {"the suggestion without a length": suggestions, "advice": rates}
        table(f"{title} ({silent} tests without an answer)", cases, columns)
        calibration(cases, rates, said)
    by_budget(every)
    by_rehearsal(every)
    few_batches(every)


if __name__ == "__main__":
    main()
