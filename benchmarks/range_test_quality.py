"""How good are the rates that the rules of a range test suggest?

Each problem is trained for a fixed budget at every half decade of rate, with three seeds: the
truth. A rule's regret is the final validation loss at the rate it suggests, over the best of that
grid. A rule that suggests nothing, and a training that ends worse than it began, count as if they
had not trained.

    python benchmarks/range_test_quality.py [--small] [--cache DIR] [--held-out | --tuned]

It needs JAX, scikit-learn and mlxtend (``pip install 'jax[cpu]' scikit-learn mlxtend``), and for
the problems on Fashion-MNIST its IDX files (Debian's package ``dataset-fashion-mnist``).

Every third problem is held out, with seeds of its own: no constant was chosen by looking at it.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import numpy as np
from numpy.typing import NDArray
from range_problems import HELD_OUT, PROBLEMS, Problem, Runner

from keras_lr.range_rules import RULES, Curve, NoSuggestion, Smoother
from keras_lr.range_search import search

GRID = 10.0 ** np.arange(-5.0, 1.01, 0.5)
SEEDS, SEEDS_HELD_OUT = (0, 1, 2), (10, 11, 12)
RAMP = 1e-7, 10.0, 100


class Trainings:
    """A problem's trainings, each done once and kept in a file where a folder is given."""

    def __init__(self, problem: Problem, folder: Path | None) -> None:
        self.problem = problem
        self.seeds = SEEDS_HELD_OUT if problem in HELD_OUT else SEEDS
        self.runner = Runner(problem)
        self.path = folder and folder / f"{problem.name.replace(' ', '_')}.json"
        known = self.path is not None and self.path.exists()
        self.known: dict[str, float] = json.loads(self.path.read_text()) if known else {}

    def final(self, rate: float) -> float:
        """Validation loss at a rate (a twentieth of a decade apart), mean over the seeds."""
        rate = 10.0 ** (round(20 * np.log10(rate)) / 20)
        return float(np.mean([min(self.one(s, rate), self.untrained(s)) for s in self.seeds]))

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


class FromOneState:
    """The runs of a range test: each from the same state, on the same batches."""

    def __init__(self, runner: Runner, seed: int) -> None:
        self.runner, self.state, self.order = runner, runner.state(seed), 2000 + seed

    def ramp(self, min_lr: float, max_lr: float, steps: int) -> NDArray:
        losses = self.runner.losses(self.state, np.geomspace(min_lr, max_lr, steps), self.order)[1]
        smoother, best = Smoother(), np.inf
        for i, loss in enumerate(losses):
            level = smoother.update(np.geomspace(min_lr, max_lr, steps)[i], float(loss))
            best = min(best, level)
            if not np.isfinite(loss) or (i > 10 and level > 4 * best):
                return losses[: i + 1]
        return losses

    def hold(self, rate: float, steps: int) -> NDArray:
        losses = self.runner.losses(self.state, np.full(steps, rate), self.order)[1]
        broken = ~np.isfinite(losses)
        return losses[: broken.argmax() + 1] if broken.any() else losses


def as_published(rates: NDArray, losses: NDArray) -> dict[str, Callable[[], float]]:
    """The rules of the field the way their packages have them, on the same curve."""

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


def suggestions(trainings: Trainings, seed: int) -> tuple[dict[str, float], int]:
    """What every rule suggests (NaN for nothing), and what the search cost."""
    runs = FromOneState(trainings.runner, seed)
    normalizes = trainings.problem.optimizer not in ("SGD", "momentum", "nesterov")
    result, cost = {}, 0
    try:
        found = search(runs, normalizes=normalizes)
        result["search"], cost = found.suggestion, found.steps
        result["(search: top bound)"] = found.bounds[1]
    except NoSuggestion:
        result["search"] = result["(search: top bound)"] = np.nan
    losses = runs.ramp(*RAMP)
    rates = np.geomspace(*RAMP)[: len(losses)]
    finite = np.isfinite(losses)
    rules: dict[str, Callable[[], float]] = {
        name: lambda rule=rule: rule(Curve.read(rates, losses)) for name, rule in RULES.items()
    }
    rules |= as_published(rates[finite], losses[finite])
    for name, rule in rules.items():
        try:
            result[name] = rule()
        except NoSuggestion:
            result[name] = np.nan
    return result, cost


def judge(problem: Problem, folder: Path | None, seeds: int) -> dict:
    """The regret of every rule on one problem, one number for each seed."""
    trainings = Trainings(problem, folder)
    truth = np.array([trainings.final(rate) for rate in GRID])
    best = truth.min()
    untrained = float(np.mean([trainings.untrained(s) for s in trainings.seeds]))
    regret: dict[str, list[float]] = {}
    trains: dict[str, list[bool]] = {}
    rates: dict[str, list[float]] = {}
    costs = []
    for seed in trainings.seeds[:seeds]:
        found, cost = suggestions(trainings, seed)
        costs.append(cost)
        for rule, rate in found.items():
            loss = trainings.final(rate) if np.isfinite(rate) else untrained
            regret.setdefault(rule, []).append(loss / best)
            trains.setdefault(rule, []).append(bool(loss < untrained - 0.1 * (untrained - best)))
            rates.setdefault(rule, []).append(rate)
    return {
        "regret": regret,
        "trains": trains,
        "rates": rates,
        "costs": costs,
        "best": GRID[truth.argmin()],
    }


def table(title: str, results: dict[str, dict]) -> None:
    """Print the summary: one line a rule."""
    print(f"\n{title}")
    head = f"{'rule':22s} {'median':>7s} {'90 %':>7s} {'worst':>7s} {'no answer':>10s} untrained"
    print(f"{head}   worst at")
    first = next(iter(results.values()))
    lines = []
    for rule in first["regret"]:
        regrets = np.concatenate([r["regret"][rule] for r in results.values()])
        silent = sum(np.isnan(r["rates"][rule]).sum() for r in results.values())
        failed = sum(np.sum(~np.array(r["trains"][rule])) for r in results.values()) - silent
        ninety = np.quantile(regrets, 0.9)
        text = f"{rule:22s} {np.median(regrets):7.2f} {ninety:7.2f} {regrets.max():7.2f}"
        where = max(results, key=lambda name: max(results[name]["regret"][rule]))
        lines.append((ninety, f"{text} {silent:10d} {failed:3d} of {len(regrets)}   {where}"))
    print("\n".join(line for _, line in sorted(lines)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="three problems, one seed")
    parser.add_argument("--cache", type=Path, help="folder that keeps finished trainings")
    parser.add_argument("--held-out", action="store_true", help="only the problems held out")
    parser.add_argument("--tuned", action="store_true", help="only the other problems")
    options = parser.parse_args()
    if options.cache:
        options.cache.mkdir(parents=True, exist_ok=True)
    problems = [p for p in PROBLEMS if not (options.held_out and p not in HELD_OUT)]
    problems = [p for p in problems if not (options.tuned and p in HELD_OUT)]
    if options.small:
        problems = [p for p in problems if p.data in ("digits", "photo") and "mlp" in p.model][:3]
    results = {}
    for problem in problems:
        result = results[problem.name] = judge(problem, options.cache, 1 if options.small else 3)
        mark = "*" if problem in HELD_OUT else " "
        print(f"{mark} {problem.name:32s} best {result['best']:.0e}", end="  ")
        print("  ".join(f"{k} {np.median(v):.2f}" for k, v in result["regret"].items()), flush=True)
    held = {p.name for p in HELD_OUT}
    for title, names in (
        ("Problems used for tuning", [n for n in results if n not in held]),
        ("Problems held out (*)", [n for n in results if n in held]),
    ):
        if names:
            table(title, {n: results[n] for n in names})
    costs = np.concatenate([r["costs"] for r in results.values()])
    print(f"\nThe search took {np.median(costs):.0f} steps, at most {costs.max():.0f};")
    print(f"every other rule reads one ramp of {RAMP[2]} steps.")


if __name__ == "__main__":
    main()
