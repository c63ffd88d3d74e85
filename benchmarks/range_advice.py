"""How good is the advice of a range test for a training run of some length and schedule?

It reads what `range_truth.py` measured: the best rate of each run on each problem, and what
range tests found there. The numbers in `keras_lr/range_test/advice/extrapolation.py` are fitted on
the problems `TUNED` and `FITTED`, and checked on the problems `HELD_OUT`.

    python benchmarks/range_advice.py                 # the tables, by the numbers in the package
    python benchmarks/range_advice.py --fit           # the numbers, from TUNED and FITTED

It needs JAX and SciPy, and no data.

The regret is the validation loss at a rate over the lowest of all rates that were measured, both
the mean of the seeds. Between two measured rates the logarithm of the loss is interpolated over the
logarithm of the rate. Outside of them it continues along the last two, by a factor of two or more a
decade below and of three or more above, up to the loss without training.
"""

import argparse
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

os.environ["KERAS_BACKEND"] = "jax"

import numpy as np
from numpy.typing import NDArray
from range_cases import BUDGET, Case, Rehearsed, read, read_rehearsed, rehearsed_of
from range_problems import EXTREME, FITTED, HELD_OUT, TUNED
from range_truth import BUDGETS, FILE, HORIZONS, REHEARSALS, SCHEDULES
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import minimize, minimize_scalar
from scipy.special import erf

from keras_lr.range_test.advice.conditions import FADING, FIXED, GRADIENT
from keras_lr.range_test.advice.extrapolation import (
    SAME,
    SPREADS,
    spread_terms_of,
)

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
        self.weights = weights_of(self.cases)
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
        right = are_right(errors)

        def cost(numbers: NDArray) -> float:
            return surprise(self.chances(numbers), right, self.weights)

        options = {"maxiter": 4000}
        return np.abs(minimize(cost, np.full(4, 0.3), method="Nelder-Mead", options=options).x)


def weights_of(cases: Sequence[Case]) -> NDArray:
    """Return a weight for each case, so that every problem counts the same."""
    names = [case.problem.name for case in cases]
    _, own, count = np.unique(names, return_inverse=True, return_counts=True)
    return 1.0 / count[own]


def are_right(errors: NDArray) -> NDArray:
    """Return which rates are within a factor of two, from the decades to the best."""
    return np.abs(errors) <= SAME + 1e-9


def surprise(chances: NDArray, right: NDArray, weights: NDArray) -> float:
    """Return the mean of minus the logarithm of the chance of what happened."""
    return -np.average(np.log(np.where(right, chances, 1.0 - chances)), weights=weights)


def judged(cases: Sequence[Case]) -> str:
    """Return the cells of a table: the regret, the mean confidence and the share that is right."""
    logs, said = np.array([case.advice for case in cases]).T
    regrets = [case.measured.regret(log) for case, log in zip(cases, logs, strict=True)]
    right = are_right(logs - [case.measured.best for case in cases])
    return f"{three(np.array(regrets))} | {said.mean():.2f} | {right.mean():.2f}"


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
    right = are_right(logs - [case.measured.best for case in cases])
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
        print(f"| {budget:,} steps | {silent} | {judged(cases)} |")


def share_left(cases: list[Rehearsed]) -> float:
    """Return the share of the spread that rehearsals leave, by how many answers were right."""
    here = np.array([case.extrapolated(case.rehearsal).spread for case in cases])
    beyond = SPREADS[1] * np.array([case.growth for case in cases])
    right = are_right(np.array([case.advice[0] - case.measured.best for case in cases]))
    weights = weights_of(cases)

    def cost(share: float) -> float:
        chances = erf(SAME / np.sqrt(2.0 * ((share * here) ** 2 + beyond**2)))
        return surprise(chances, right, weights)

    return float(minimize_scalar(cost, bounds=(0.1, 2.0)).x)


def by_rehearsal(every: dict, kind: str) -> None:
    """Print how good advice is after rehearsals, by the budget, with one seed each.

    Args:
        every: What the file holds.
        kind: Of `REHEARSALS`.
    """
    print(
        f"\n{kind}\n| budget | problems | regret | confidence, mean | within a factor of two |"
        "\n|---|---|---|---|---|"
    )
    cases: dict[int, list[Case]] = {}
    for name, problems in {"tuning": [*TUNED, *FITTED], "held out": HELD_OUT}.items():
        known = [p for p in problems if any(every.get(p.name, {}).get(f"{kind}s", {}).values())]
        cases = read_rehearsed(known, every, kind)
        for budget, of_budget in cases.items():
            print(f"| {budget:,} steps | {len(known)} for {name} | {judged(of_budget)} |")
    rehearsed = rehearsed_of(cases)
    logs, said = np.array([case.advice for case in rehearsed]).T
    print("\nHELD_OUT, after a rehearsal:")
    calibration(rehearsed, logs, said)


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
        rehearsed = rehearsed_of(read_rehearsed([*TUNED, *FITTED], every))
        print(f"LEFT_BY_REHEARSAL = {share_left(rehearsed):.2f}")
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
    for kind in REHEARSALS:
        by_rehearsal(every, kind)
    few_batches(every)


if __name__ == "__main__":
    main()
