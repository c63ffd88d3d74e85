"""The tables of docs/guides/coming-from.md: both columns of each row give the same curve."""

import functools
import pathlib
import re

import keras
import numpy as np
import pytest

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
