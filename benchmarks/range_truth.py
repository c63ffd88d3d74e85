"""Measure the best rate of each training run, by which the advice of a range test is judged.

Every problem of `range_problems` is trained for 100, 300, 1,000 and 3,000 steps, at a constant rate
and with the rate of `CosineDecay` and of `OneCycle`. (The momentum of a `OneCycle` stays as it is.)
The rates are half decades until the lowest validation loss lies inside, and quarter decades around
it; of several seeds the mean decides. A constant run of 3,000 steps gives the losses of all four
lengths.

    python benchmarks/range_truth.py CACHE [--seeds N] [--reach N] [--problem NAME ...]
                                           [--schedule NAME ...]
    python benchmarks/range_truth.py CACHE --export

The first form may be interrupted: each finished training is kept in the folder. The second writes
`range_truth.json`, which `range_advice.py` reads. It needs what `range_test_quality.py` needs.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import numpy as np
from numpy.typing import NDArray
from range_problems import EXTREME, FITTED, HELD_OUT, TUNED, Problem, Runner
from range_test_quality import SEEDS, SEEDS_HELD_OUT, FromOneState, searched, until_broken

from keras_lr import Constant, CosineDecay, OneCycle
from keras_lr.range_test.advice import (
    Training,
    give_advice,
    rehearsal_length,
    rehearse,
    rows_to_hold_out,
)
from keras_lr.range_test.search import ADVISED_RUN, find_early_best
from keras_lr.range_test.trials import NUM_CONSTANT_RUNS, Trials

HORIZONS = 100, 300, 1000, 3000
SCHEDULES = {"constant": Constant, "cosine": CosineDecay, "one-cycle": OneCycle}
BUDGETS = {300: 3, 100: 1, 1000: 1, 3000: 1}
"""Steps of a range test, and with how many seeds each is run."""

REHEARSED = 1000, 3000
"""Budgets of the range tests that also rehearse the training, with one seed."""

FIRST_SEED = 100
"""The range tests themselves run with other seeds."""

LOWEST, HIGHEST = -24, 8
"""Rates to try at most, in quarter decades: 1e-6 to 100."""

EXPENSIVE = "mlp", "linear", "tanh", "embedding", "attention", "cnn", "resnet"
"""Models, the fastest first."""

FILE = Path(__file__).with_name("range_truth.json")


def rates_of(schedule: str, peak: float, steps: int) -> NDArray:
    """Return the rate at each step of a training run."""
    return SCHEDULES[schedule](peak).values(epochs=1, steps_per_epoch=steps)


def lengths_of(problem: Problem) -> tuple[int, ...]:
    """Return the lengths to train for."""
    most = problem.steps if problem in EXTREME else HORIZONS[-1]
    return tuple(steps for steps in HORIZONS if steps <= most)


class OnSplitData(FromOneState):
    """Makes rehearsals without validation data, as a range test does: it holds out some rows."""

    def __init__(self, runner: Runner, seed: int, held_out: int) -> None:
        super().__init__(runner, seed)
        order = np.random.default_rng(0).permutation(len(runner.data[0]))
        self.held_out, self.kept = np.sort(order[:held_out]), np.sort(order[held_out:])

    @classmethod
    def of(cls, runner: Runner, seed: int) -> "OnSplitData | None":
        """Return the runs; None if the data have too few rows."""
        held_out = rows_to_hold_out(len(runner.data[0]), runner.problem.batch)
        return cls(runner, seed, held_out) if held_out else None

    def follow(self, rates: NDArray) -> NDArray:
        rows = self.runner.rows(self.order, len(rates), self.kept)
        self.last, losses = self.runner.losses_of(self.state, rates, rows)
        return until_broken(losses)

    def validate(self) -> float:
        return self.runner.validation(self.last, self.held_out)


REHEARSALS: dict[str, Callable[[Runner, int], Any]] = {
    "rehearsal": FromOneState,
    "split-rehearsal": OnSplitData.of,
}
"""Kinds of rehearsals: with validation data, and with a part of the training data instead."""


class Truth:
    """The validation losses of one problem, by schedule, length, rate and seed."""

    def __init__(self, problem: Problem, folder: Path) -> None:
        self.problem = problem
        self.path = folder / f"{problem.name.replace(' ', '_')}.json"
        known = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.known: dict[str, Any] = known
        self.runner: Runner | None = None
        self.states: dict[int, tuple] = {}

    def state(self, seed: int) -> tuple:
        """Return the first state of a seed; the problem is compiled when one is needed."""
        if self.runner is None:
            self.runner = Runner(self.problem)
        if seed not in self.states:
            self.states[seed] = self.runner.state(seed)
            self.known.setdefault(f"{seed}", self.runner.validation(self.states[seed]))
        return self.states[seed]

    def loss(self, schedule: str, steps: int, quarter: int, seed: int) -> float:
        """Return the loss of one training run; infinite if it diverged."""
        key = f"{schedule} {steps} {quarter} {seed}"
        if key not in self.known:
            peak = 10.0 ** (quarter / 4)
            if schedule == "constant":
                ends = lengths_of(self.problem)
                self.train(schedule, ends, quarter, seed, rates_of(schedule, peak, ends[-1]))
            else:
                self.train(schedule, (steps,), quarter, seed, rates_of(schedule, peak, steps))
        loss = self.known[key]
        return np.inf if loss is None else loss

    def train(self, schedule: str, ends: tuple, quarter: int, seed: int, rates: NDArray) -> None:
        """Train along the rates and note the loss at each of ``ends``."""
        state, before = self.state(seed), 0
        assert self.runner is not None
        rows = self.runner.rows(seed, len(rates))
        for end in ends:
            loss = np.inf
            for first in range(before, end, 100):
                if before and self.known[f"{schedule} {before} {quarter} {seed}"] is None:
                    break
                part = slice(first, min(first + 100, end))
                state, losses = self.runner.losses_of(state, rates[part], rows[part])
                if not np.isfinite(losses).all():
                    break
            else:
                loss = self.runner.validation(state)
            self.known[f"{schedule} {end} {quarter} {seed}"] = loss if np.isfinite(loss) else None
            before = end

    def mean(self, schedule: str, steps: int, quarter: int, seeds: range) -> float:
        """Return the mean loss, where a run that ends worse than it began counts as none."""
        losses = [
            min(self.loss(schedule, steps, quarter, seed), self.untrained(seed)) for seed in seeds
        ]
        return float(np.mean(losses))

    def untrained(self, seed: int) -> float:
        if f"{seed}" not in self.known:
            self.state(seed)
        loss = self.known[f"{seed}"]
        assert loss is not None
        return loss

    def explore(self, schedule: str, steps: int, start: int, seeds: range, reach: int) -> int:
        """Measure the rates around the best and return it, in quarter decades.

        Args:
            schedule: The schedule.
            steps: The length of the training.
            start: The rate to begin with.
            seeds: The seeds.
            reach: Half decades to measure beyond the best on each side.
        """
        tried: dict[int, float] = {}

        def measure(quarter: int) -> None:
            if quarter not in tried and LOWEST <= quarter <= HIGHEST:
                tried[quarter] = self.mean(schedule, steps, quarter, seeds)

        measure(2 * (start // 2))
        best = None
        while best != min(tried, key=tried.__getitem__):
            best = min(tried, key=tried.__getitem__)
            for near in range(1, reach + 1):
                measure(2 * (best // 2) - 2 * near)
                measure(2 * (best // 2) + 2 * near)
            if best == min(tried, key=tried.__getitem__):
                measure(best - 1)
                measure(best + 1)
        return best

    def search(self, seed: int, budget: int) -> None:
        """Note what a range test finds, and the losses of its runs at constant rates."""
        key = f"search {budget} {seed}"
        if key in self.known:
            return
        if self.runner is None:
            self.runner = Runner(self.problem)
        epoch = self.runner.epoch
        found = searched(FromOneState(self.runner, seed), epoch, budget)
        self.known[key] = found and {
            "suggestion": found.suggestion,
            "bounds": found.bounds,
            "confidence": found.confidence,
            "epoch": epoch,
            "steps": found.steps,
            "lowest": float(found.rates[found.losses.argmin()]),
            "holds": {
                f"{rate:.6g}": np.round(one, 5).tolist() for rate, one in found.holds.items()
            },
        }

    def rehearse(self, seed: int, kind: str) -> None:
        """Note the best rate of the rehearsals for each training run, by schedule and by length.

        Args:
            seed: The seed.
            kind: Of `REHEARSALS`.
        """
        missing = [
            (schedule, budget)
            for schedule in SCHEDULES
            for budget in REHEARSED
            if f"{kind} {schedule} {budget} {seed}" not in self.known
        ]
        if not missing:
            return
        if self.runner is None:
            self.runner = Runner(self.problem)
        found = searched(FromOneState(self.runner, seed), self.runner.epoch)
        runs = REHEARSALS[kind](self.runner, seed)
        conditions = self.problem.conditions(self.runner.epoch)
        for schedule, budget in missing:
            best: dict[str, float | None] = {}
            left = budget - found.steps if found and runs is not None else 0
            lengths = {rehearsal_length(left, steps) for steps in lengths_of(self.problem)}
            for length in lengths - {0}:
                training = Training.plan(length, SCHEDULES[schedule](1.0))
                center = give_advice(found, conditions, training).rate
                one = rehearse(runs, center, training, left)
                best[f"{length}"] = one and one.best
            self.known[f"{kind} {schedule} {budget} {seed}"] = best

    def measure(self, seeds: range, reach: int, schedules: Iterable[str]) -> None:
        """Run the range tests, and measure some schedules at all lengths."""
        test_seeds = SEEDS_HELD_OUT if self.problem in HELD_OUT else SEEDS
        for budget, count in BUDGETS.items():
            for seed in test_seeds[:count]:
                self.search(seed, budget)
        for kind in REHEARSALS:
            self.rehearse(test_seeds[0], kind)
        lengths = lengths_of(self.problem)
        best = {0: -8 if self.problem.optimizer in ("RMSprop", "Adam", "AdamW", "Lion") else -4}
        for schedule in schedules:
            for steps in lengths:
                start = best.get((steps, "constant"), best[0])
                found = self.explore(schedule, steps, start, seeds, reach)
                best[steps, schedule] = found
                best[0] = found
                self.path.write_text(json.dumps(self.known))


def cost(problem: Problem) -> int:
    return max(i for i, part in enumerate(EXPENSIVE) if part in problem.model)


def best_of(test: dict[str, Any]) -> float:
    """Return the best rate of the short runs of a range test, from which advice follows."""
    holds = {float(rate): np.array(losses) for rate, losses in test["holds"].items()}
    trials = Trials(NoRuns(), NUM_CONSTANT_RUNS * max(map(len, holds.values())), test["epoch"])
    trials.losses = holds
    early = find_early_best(trials)
    return test["bounds"][1] if early is None else early


class NoRuns:
    """Runs of which none is left to do."""

    def ramp(self, min_lr: float, max_lr: float, steps: int) -> NDArray:
        raise NotImplementedError

    hold = ramp


def export(folder: Path) -> None:
    """Write what the folder holds into one file."""
    every = {}
    for problem in [*TUNED, *FITTED, *HELD_OUT, *EXTREME]:
        truth = Truth(problem, folder)
        runs: dict[str, dict] = {"tests": {}}
        for key, loss in truth.known.items():
            schedule, *rest = key.split()
            if schedule in REHEARSALS:
                rehearsed = {length: best and float(f"{best:.4g}") for length, best in loss.items()}
                runs.setdefault(f"{schedule}s", {})[" ".join(rest)] = rehearsed
                continue
            if schedule == "search":
                runs["tests"][" ".join(rest)] = loss and {
                    "best": float(f"{best_of(loss):.4g}"),
                    "suggestion": float(f"{loss['suggestion']:.4g}"),
                    "agreement": loss["confidence"],
                    "run": min(max(map(len, loss["holds"].values())), ADVISED_RUN),
                    "batches": loss["epoch"],
                }
                continue
            loss = None if loss is None else float(f"{loss:.4g}")
            if not rest:
                runs.setdefault("untrained", {})[schedule] = loss
                continue
            steps, quarter, seed = rest
            runs.setdefault(f"{schedule} {steps}", {}).setdefault(quarter, {})[seed] = loss
        if len(runs) > 2:
            every[problem.name] = runs
    lines = [f"{json.dumps(name)}: {json.dumps(runs)}" for name, runs in every.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cache", type=Path, help="folder that keeps finished trainings")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--reach", type=int, default=1, help="half decades beyond the best")
    parser.add_argument("--problem", nargs="+", help="only these, in this order")
    parser.add_argument("--schedule", nargs="+", choices=SCHEDULES, default=[*SCHEDULES])
    parser.add_argument("--export", action="store_true", help=f"write {FILE.name}")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    if options.export:
        export(options.cache)
        return
    started = time.monotonic()
    every = sorted([*TUNED, *FITTED, *HELD_OUT, *EXTREME], key=cost)
    named = {problem.name: problem for problem in every}
    for problem in [named[name] for name in options.problem or named]:
        truth = Truth(problem, options.cache)
        seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
        truth.measure(seeds, options.reach, options.schedule)
        print(f"{time.monotonic() - started:7.0f} s  {problem.name}", flush=True)


if __name__ == "__main__":
    main()
