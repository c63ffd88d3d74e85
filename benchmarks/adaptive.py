"""What a start at a wrong rate costs, with a rule and without.

python benchmarks/adaptive.py [--problems N] [--seeds N] [--markdown FILE]

Each problem is trained by ``fit`` at a grid of rates. Then it starts 0.01, 0.1, 1 and 10 times at
the best of them: as it is, and with `HypergradientDescent`. `Prodigy` and `DistanceOverGradients`
start from no rate. So does the range test, whose suggestion is then the peak of a cosine or a fixed
rate. The measure is the regret: the validation loss over that of the best fixed rate of the grid.
A loss that is not finite, or above the one of the untrained model, is a failure.
"""

import argparse
import os
import time
import warnings
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from range_data import load
from range_problems import MODELS

from keras_lr import (
    CosineDecay,
    DistanceOverGradients,
    HypergradientDescent,
    LRRangeTest,
    NoSuggestion,
    Prodigy,
)

PROBLEMS = [
    ("digits", "mlp", "adam", 500),
    ("digits", "mlp", "sgd", 500),
    ("digits", "mlp", "momentum", 500),
    ("breast_cancer", "deep tanh", "adam", 300),
    ("breast_cancer", "mlp", "sgd", 300),
    ("diabetes", "mlp", "momentum", 300),
    ("diabetes", "mlp", "adam", 300),
    ("wine", "mlp", "sgd", 200),
]
GRIDS = {
    "adam": np.geomspace(1e-4, 1e-1, 7),
    "sgd": np.geomspace(1e-3, 1.0, 7),
    "momentum": np.geomspace(1e-4, 1e-1, 7),
}
OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(),
    "sgd": lambda: keras.optimizers.SGD(),
    "momentum": lambda: keras.optimizers.SGD(momentum=0.9),
}
STARTS = 0.01, 0.1, 1.0, 10.0


class Runner:
    """One problem whose model is compiled once and put back before each training run."""

    def __init__(self, data: str, model: str, optimizer: str, steps: int) -> None:
        x, y, *self.valid = load(data)
        classes = np.issubdtype(y.dtype, np.integer)
        outputs = int(y.max()) + 1 if classes else y.shape[1]
        inputs = keras.Input(x.shape[1:], dtype=x.dtype)
        self.data, self.kind, self.steps = (x, y), optimizer, steps
        self.model = keras.Model(inputs, MODELS[model](inputs, outputs))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True) if classes else "mse"
        self.model.compile(OPTIMIZERS[optimizer](), loss)
        self.model.optimizer.build(self.model.trainable_variables)
        self.slots = [keras.ops.convert_to_numpy(one) for one in self.model.optimizer.variables]

    def start(self, seed: int, rate: float) -> None:
        """Put the model at the beginning of a training run."""
        keras.utils.set_random_seed(seed)
        fresh = keras.models.clone_model(self.model)
        self.model.set_weights(fresh.get_weights())
        for variable, value in zip(self.model.optimizer.variables, self.slots, strict=True):
            variable.assign(value)
        self.model.optimizer.learning_rate = rate
        keras.utils.set_random_seed(seed)

    def train(self, seed: int, rate: float, *callbacks: keras.callbacks.Callback) -> float:
        """Return the validation loss after a training run."""
        self.start(seed, rate)
        first = self.model.evaluate(*self.valid, verbose=0)
        epochs = max(1, round(self.steps / np.ceil(len(self.data[0]) / 32)))
        self.model.fit(*self.data, epochs=epochs, verbose=0, callbacks=[*callbacks])
        loss = self.model.evaluate(*self.valid, verbose=0)
        return loss if np.isfinite(loss) and loss < first else np.inf

    def suggestion(self, seed: int) -> float:
        """Return what the range test suggests."""
        self.start(seed, 1e-3)
        test = LRRangeTest(verbose=0)
        return float(test.run(self.model, *self.data, batch_size=32).suggestion)


def regrets(runner: Runner, seed: int) -> dict[str, list[float]]:
    """Return the regrets of each way on one problem."""
    losses = {rate: runner.train(seed, rate) for rate in GRIDS[runner.kind]}
    best = min(losses, key=losses.__getitem__)
    found = defaultdict(list)

    def add(way: str, loss: float) -> None:
        found[way].append(loss / losses[best] - 1.0)

    for factor in STARTS:
        add(f"fixed, {factor:g} times the best", runner.train(seed, factor * best))
        rule = HypergradientDescent()
        add(f"hypergradient, {factor:g} times", runner.train(seed, factor * best, rule))
    if runner.kind == "adam":
        add("Adam's default 0.001", runner.train(seed, 1e-3))
        add("Prodigy", runner.train(seed, 1.0, Prodigy()))
        add("Prodigy, cosine", runner.train(seed, 1.0, Prodigy(), CosineDecay(1.0)))
    if runner.kind == "sgd":
        for name, options in {"DoG": {}, "L-DoG": {"layer_wise": True}}.items():
            add(name, runner.train(seed, 1.0, DistanceOverGradients(**options)))
            add(
                f"{name}, cosine",
                runner.train(seed, 1.0, DistanceOverGradients(**options), CosineDecay(1.0)),
            )
    try:
        rate = runner.suggestion(seed)
    except NoSuggestion:
        rate = np.nan
    known = np.isfinite(rate)
    add("range test, fixed", runner.train(seed, rate) if known else np.inf)
    add("range test, cosine", runner.train(seed, rate, CosineDecay(rate)) if known else np.inf)
    return found


def table(found: dict[str, list[float]]) -> list[str]:
    """Return the rows of the table of regrets."""
    rows = ["| way | trainings | median | 90 % | worst | failures |", "|---|---|---|---|---|---|"]
    for way, values in found.items():
        some = np.sort(values)
        shown = [np.median(some), some[int(np.ceil(0.9 * len(some))) - 1], some[-1]]
        cells = " | ".join(f"{one:+.2f}" if np.isfinite(one) else "failed" for one in shown)
        rows.append(f"| {way} | {len(some)} | {cells} | {np.isinf(some).sum()} |")
    return rows


def costs(steps: int = 400, rounds: int = 15) -> list[str]:
    """Return the rows of the table of costs of each rule.

    They are the processor time of a step over that of one without callbacks, and the bytes of the
    state.
    """
    rows = [
        "| rule | optimizer | CPU time of a step | state | over the weights |",
        "|---|---|---|---|---|",
    ]
    x = np.random.default_rng(0).normal(size=(32 * steps, 64)).astype("float32")
    y = x[:, :1]
    for rule, kind in (
        (HypergradientDescent(), "adam"),
        (DistanceOverGradients(), "sgd"),
        (DistanceOverGradients(layer_wise=True), "sgd"),
        (Prodigy(), "adam"),
    ):
        inputs = keras.Input((64,))
        model = keras.Model(inputs, MODELS["mlp dropout"](inputs, 1))
        model.compile(OPTIMIZERS[kind](), "mse")
        taken: dict[bool, list[float]] = {True: [], False: []}
        for number in range(rounds + 1):
            for on in (True, False):
                begin = time.process_time()
                model.fit(x, y, shuffle=False, verbose=0, callbacks=[rule] if on else [])
                if number:
                    taken[on].append(time.process_time() - begin)
        ratio = np.median(np.divide(taken[True], taken[False]))
        size = sum(one.nbytes for one in rule.state_dict().values())
        over = size / sum(one.nbytes for one in model.get_weights())
        rows.append(f"| `{rule!r}` | {kind} | {ratio:.2f} | {size:,} bytes | {over:.4f} |")
    return rows


def main() -> None:
    """Print and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--problems", type=int, default=len(PROBLEMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    found, text = defaultdict(list), ""
    for problem in PROBLEMS[: options.problems]:
        runner = Runner(*problem)
        for seed in range(options.seeds):
            for way, values in regrets(runner, seed).items():
                found[way] += values
        print(*problem, flush=True)
        text = "\n".join(table(found))
        if options.markdown:
            options.markdown.write_text(text + "\n", encoding="utf-8")
    text = "\n".join([text, "", *costs()])
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
