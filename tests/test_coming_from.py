"""The tables of docs/guides/coming-from.md: both columns of each row give the same curve."""

import functools
import pathlib
import re
import types

import keras
import numpy as np
import pytest
from models import COMPILE, mean_prediction

import keras_lr

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "guides" / "coming-from.md"
OURS = {name: getattr(keras_lr, name) for name in keras_lr.__all__}
OURS |= {"keras_lr": keras_lr, "schedules": keras.optimizers.schedules}
NUMBERS = {"lr": 0.4, "n": 10, "k": 13, "g": 0.3, "p": 2.5, "low": 0.01, "high": 0.5}
NUMBERS["f"] = lambda epoch: 0.9**epoch
SIZES = {"OneCycleLR": {"n": 40}, "linear_onecycle": {"n": 40}}
SIZES |= {name: {"n": 20, "k": 6} for name in ("warmup_cosine", "sgdr")}
"""Where the numbers above do not fit: shares must be whole, and warmups shorter than the whole."""


def rows(column):
    """Return the first two cells of each row of the table whose first heading is ``column``."""
    table = re.search(
        rf"^\| {re.escape(column)} \| here \| what differs \|\n\|[-|]+\n((?:\|.*\n)+)",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    lines = table[1].splitlines()
    return [tuple(cell.strip("|` ") for cell in line.split(" | ")[:2]) for line in lines]


def numbers(theirs):
    return NUMBERS | next((more for name, more in SIZES.items() if name in theirs), {})


def curve(ours, steps, names):
    return eval(ours, names | OURS).values(epochs=steps, steps_per_epoch=1)


@pytest.mark.oracle
@pytest.mark.parametrize(("theirs", "ours"), rows("PyTorch"))
def test_pytorch(theirs, ours):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4, momentum=0.9)
    schedulers = torch.optim.lr_scheduler
    names = {
        name: functools.partial(getattr(schedulers, name), optimizer) for name in schedulers.__all__
    }
    names["ChainedScheduler"] = functools.partial(schedulers.ChainedScheduler, optimizer=optimizer)
    steps = 11 if theirs.startswith("CosineAnnealingLR") else 40  # it rises again
    names |= numbers(theirs)
    scheduler, rates = eval(theirs, names), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(curve(ours, steps, names), rates, rtol=1e-9, atol=1e-15)


@pytest.mark.oracle
@pytest.mark.parametrize(("theirs", "ours"), rows("optax"))
def test_optax(theirs, ours):
    optax = pytest.importorskip("optax")
    names = numbers(theirs)
    schedule = eval(theirs, vars(optax) | names)
    rates = [float(schedule(step)) for step in range(40)]
    np.testing.assert_allclose(curve(ours, 40, names), rates, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(("theirs", "ours"), rows("`keras.optimizers.schedules`"))
def test_keras(theirs, ours):
    schedule = eval(theirs, vars(keras.optimizers.schedules) | NUMBERS)
    rates = [float(schedule(step)) for step in range(40)]
    np.testing.assert_allclose(curve(ours, 40, NUMBERS), rates, rtol=2e-6, atol=1e-7)


def classes():
    """Return what is here for each class of PyTorch and Keras, by its name."""
    found = {}
    for theirs, ours in (*rows("PyTorch"), *rows("`keras.optimizers.schedules`")):
        name = re.search(r"\w+(?=\()", theirs)[0]
        if name not in OURS:
            found.setdefault(name, ours)
    return found


@pytest.mark.parametrize("name", classes())
def test_the_name_of_a_class_leads_to_the_one_here(name):
    with pytest.raises(AttributeError, match="Did you mean") as caught:
        getattr(keras_lr, name)
    meant = re.search(r"mean `(\w+)`", str(caught.value))[1]
    assert {"Sequence": ">>", "Product": "*"}.get(meant, meant) in classes()[name]


# Parts of a model ---------------------------------------------------------------------------------

PARTS = ("body", "neck", "head")


def rates_of_parts(callbacks, parts=PARTS, epochs=1, steps_per_epoch=40, optimizer=None):
    """Train a model whose parts have a weight for each step, and return the rates they moved by."""
    steps = epochs * steps_per_epoch
    x = keras.Input((steps,))
    branches = [
        keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name=name)(x)
        for name in parts
    ]
    model = keras.Model(x, keras.layers.add(branches))
    optimizer = optimizer or keras.optimizers.SGD(NUMBERS["lr"])
    model.compile(optimizer, mean_prediction, **COMPILE)
    model.fit(
        ((row[None], np.zeros((1, 1))) for row in np.eye(steps)),
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )
    return np.array([-model.get_layer(name).get_weights()[0][:, 0] for name in parts])


def assert_same_rates(ours, expected, names=NUMBERS, **sizes):
    callbacks = eval(ours, names | OURS)
    np.testing.assert_allclose(rates_of_parts(callbacks, **sizes), expected, rtol=2e-6, atol=1e-8)


@pytest.mark.oracle
@pytest.mark.parametrize(("theirs", "ours"), rows("PyTorch's parameter groups"))
def test_groups_of_pytorch(theirs, ours):
    torch = pytest.importorskip("torch")
    names = NUMBERS | {"n": 20} | {part: [torch.zeros(1, requires_grad=True)] for part in PARTS}
    made = eval(theirs, vars(torch.optim) | vars(torch.optim.lr_scheduler) | names)
    optimizer = getattr(made, "optimizer", made)
    rates = []
    for _ in range(20):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        if made is not optimizer:
            made.step()
    assert_same_rates(ours, np.transpose(rates), names, epochs=20, steps_per_epoch=1)


class Learner:
    """The rates of three layer groups, by the formulas of fastai 2.8.12; four batches an epoch."""

    def __init__(self):
        self.frozen = 0
        self.rates = []

    def freeze_to(self, n):
        self.frozen = n % len(PARTS)

    def fit_one_cycle(self, n, lr_max, div=25.0, div_final=1e5, pct_start=0.25):
        if not isinstance(lr_max, slice):
            peaks = [lr_max] * 3
        elif lr_max.start:  # fastcore's even_mults
            step = (lr_max.stop / lr_max.start) ** (1 / 2)
            peaks = [lr_max.start * step**group for group in range(3)]
        else:
            peaks = [lr_max.stop / 10] * 2 + [lr_max.stop]
        peaks = np.array(peaks) * (np.arange(3) >= self.frozen)
        for step in range(4 * n):
            place = step / (4 * n)
            if place < pct_start:
                start, end, share = peaks / div, peaks, place / pct_start
            else:
                start, end = peaks, peaks / div_final
                share = (place - pct_start) / (1 - pct_start)
            self.rates.append(start + (1 + np.cos(np.pi * (1 - share))) * (end - start) / 2)

    def fine_tune(self, epochs, base_lr):
        self.freeze_to(-1)
        self.fit_one_cycle(1, slice(base_lr), pct_start=0.99)
        self.freeze_to(0)
        rates = slice(base_lr / 2 / 100, base_lr / 2)
        self.fit_one_cycle(epochs, rates, pct_start=0.3, div=5.0)


@pytest.mark.parametrize(("theirs", "ours"), rows("fastai's layer groups"))
def test_groups_of_fastai(theirs, ours):
    learn = Learner()
    exec(theirs, NUMBERS | {"learn": learn})
    expected = np.transpose(learn.rates)
    assert_same_rates(ours, expected, epochs=len(learn.rates) // 4, steps_per_epoch=4)


@pytest.mark.parametrize(("theirs", "ours"), rows("timm's `layer_decay`"))
def test_layer_decay_of_timm(theirs, ours):
    """The layers that timm 1.0.31 counts in a ViT: stem 0, blocks 1 to 3, head 4."""
    arguments = eval(f"dict({theirs})", dict(NUMBERS))
    scales = [arguments["layer_decay"] ** (4 - layer) for layer in range(5)]
    low, n = arguments.get("min_lr", NUMBERS["lr"]), arguments.get("num_epochs", 1)
    cosine = (1 + np.cos(np.pi * np.arange(n) / n)) / 2
    rates = low + (NUMBERS["lr"] - low) * cosine
    parts = ("stem", "blocks_0", "blocks_1", "blocks_2", "head")
    assert_same_rates(ours, np.outer(scales, rates), parts=parts, epochs=n, steps_per_epoch=1)


@pytest.mark.parametrize(("theirs", "ours"), rows("`MultiOptimizer`"))
def test_an_optimizer_for_each_part(theirs, ours):
    def addons(pairs):
        """Return Keras's optimizer for the pairs of optimizers and layers that Addons takes."""
        (first, layer), (rest, _) = pairs
        return kinds.MultiOptimizer(kinds.OptimizerMap(rest, {f"{layer}/.*": first}))

    kinds = keras.optimizers
    names = vars(kinds) | NUMBERS | {part: part for part in PARTS} | {"keras": kinds}
    names["tfa"] = types.SimpleNamespace(MultiOptimizer=addons)
    optimizer = eval(theirs, names)
    assert_same_rates(ours, rates_of_parts([], optimizer=optimizer))
