"""The one list of schedules: every shape, its variants, and compositions of them.

A new shape is one row here, and every law of the other files then holds for it too.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import keras

from keras_lr import (
    Constant,
    CosineDecay,
    CosineRestarts,
    ExponentialDecay,
    Function,
    InverseSqrtDecay,
    LinearDecay,
    OneCycle,
    PiecewiseConstant,
    PolynomialDecay,
    Product,
    Schedule,
    Sequence,
    StepDecay,
    TimeDecay,
    TriangularCLR,
    WarmupStableDecay,
)

EPOCHS = 6
STEPS = 10
"""The fit in which `Shape.first` and `Shape.end` hold."""


class Shape(NamedTuple):
    """A schedule and what is known of it without evaluating it."""

    make: Callable[[], Schedule]
    low: float
    """No value is below this, in any fit."""
    high: float
    """No value is above this, in any fit."""
    first: float
    """The value at t = 0."""
    end: float | None = None
    """The value held from the end of the fit on; None where the schedule continues."""


@keras.saving.register_keras_serializable(package="tests")
def by_epoch(epoch):
    return 0.5 / (epoch + 1)


@keras.saving.register_keras_serializable(package="tests")
def by_epoch_and_lr(epoch, lr):
    return lr * 0.5 if epoch else lr


@keras.saving.register_keras_serializable(package="tests")
def one_over(number):
    return 1.0 / number


SHAPES = {
    "Constant": Shape(lambda: Constant(0.1), 0.1, 0.1, 0.1, 0.1),
    "Constant-zero": Shape(lambda: Constant(0.0), 0.0, 0.0, 0.0, 0.0),
    "PiecewiseConstant-epochs": Shape(
        lambda: PiecewiseConstant([1, 2.5], [0.1, 0.4, 0.01]), 0.01, 0.4, 0.1, 0.01
    ),
    "PiecewiseConstant-steps": Shape(
        lambda: PiecewiseConstant(["7 steps", "31 steps"], [0.1, 0.4, 0.01]), 0.01, 0.4, 0.1, 0.01
    ),
    "PiecewiseConstant-shares": Shape(
        lambda: PiecewiseConstant(["25%", "75%"], [0.5, 0.0, 0.2]), 0.0, 0.5, 0.5, 0.2
    ),
    "PiecewiseConstant-one": Shape(lambda: PiecewiseConstant([], [0.3]), 0.3, 0.3, 0.3, 0.3),
    "StepDecay": Shape(lambda: StepDecay(0.5, every=2), 0.0, 0.5, 0.5),
    "StepDecay-steps": Shape(lambda: StepDecay(0.5, 0.1, "13 steps"), 0.0, 0.5, 0.5),
    "StepDecay-share": Shape(lambda: StepDecay(0.5, 1.0, "20%"), 0.5, 0.5, 0.5, 0.5),
    "StepDecay-up": Shape(
        lambda: StepDecay(0.01, 2.0, every=1, final_lr=0.2), 0.01, 0.2, 0.01, 0.2
    ),
    "LinearDecay": Shape(lambda: LinearDecay(0.3), 0.0, 0.3, 0.3, 0.0),
    "LinearDecay-up": Shape(lambda: LinearDecay(0.0, 0.7, over=2.5), 0.0, 0.7, 0.0, 0.7),
    "LinearDecay-steps": Shape(
        lambda: LinearDecay(0.3, 0.01, over="17 steps"), 0.01, 0.3, 0.3, 0.01
    ),
    "LinearDecay-endpoint": Shape(
        lambda: LinearDecay(0.3, 0.01, endpoint=True), 0.01, 0.3, 0.3, 0.01
    ),
    "PolynomialDecay": Shape(lambda: PolynomialDecay(0.3), 0.0, 0.3, 0.3, 0.0),
    "PolynomialDecay-root": Shape(
        lambda: PolynomialDecay(0.3, 0.07, power=0.5, over="50%"), 0.07, 0.3, 0.3, 0.07
    ),
    "TimeDecay": Shape(lambda: TimeDecay(0.1, rate=0.5), 0.0, 0.1, 0.1),
    "TimeDecay-steps": Shape(lambda: TimeDecay(0.1, 1e-2, every="1 steps"), 0.0, 0.1, 0.1),
    "TimeDecay-compounding": Shape(
        lambda: TimeDecay(0.1, rate=0.1, every=0.5, compounding=True), 0.0, 0.1, 0.1
    ),
    "ExponentialDecay": Shape(lambda: ExponentialDecay(0.2), 0.0, 0.2, 0.2),
    "ExponentialDecay-share": Shape(lambda: ExponentialDecay(0.2, 0.1, "50%"), 0.002, 0.2, 0.2),
    "ExponentialDecay-floor": Shape(
        lambda: ExponentialDecay(0.2, 0.1, "50%", final_lr=0.01), 0.01, 0.2, 0.2, 0.01
    ),
    "ExponentialDecay-up": Shape(
        lambda: ExponentialDecay(0.01, 10.0, "25%", final_lr=0.3), 0.01, 0.3, 0.01, 0.3
    ),
    "InverseSqrtDecay": Shape(lambda: InverseSqrtDecay(0.2, timescale=1), 0.0, 0.2, 0.2),
    "CosineDecay": Shape(lambda: CosineDecay(0.3), 0.0, 0.3, 0.3, 0.0),
    "CosineDecay-endpoint": Shape(
        lambda: CosineDecay(0.3, over="90%", endpoint=True), 0.0, 0.3, 0.3, 0.0
    ),
    "CosineDecay-floor": Shape(lambda: CosineDecay(0.3, 0.01, over="90%"), 0.01, 0.3, 0.3, 0.01),
    "CosineDecay-up": Shape(lambda: CosineDecay(0.01, 0.3, over="1 steps"), 0.01, 0.3, 0.01, 0.3),
    "TriangularCLR": Shape(lambda: TriangularCLR(0.01, 0.3, step_size=1), 0.01, 0.3, 0.01),
    "TriangularCLR-triangular2": Shape(
        lambda: TriangularCLR(0.01, 0.3, "3 steps", mode="triangular2"), 0.01, 0.3, 0.01
    ),
    "TriangularCLR-exp_range": Shape(
        lambda: TriangularCLR(0.01, 0.3, 0.5, mode="exp_range", gamma=0.99), 0.01, 0.3, 0.01
    ),
    "TriangularCLR-asymmetric": Shape(
        lambda: TriangularCLR(0.0, 0.3, "2 steps", step_size_down="15%"), 0.0, 0.3, 0.0
    ),
    "TriangularCLR-scale": Shape(
        lambda: TriangularCLR(0.01, 0.3, 1, scale=one_over, momentum=(0.85, 0.95)), 0.01, 0.3, 0.01
    ),
    "TriangularCLR-scale-by-a-schedule": Shape(
        lambda: TriangularCLR(0.0, 0.3, 0.5, scale=CosineDecay(1.0, over=4) >> Constant(0.5)),
        0.0,
        0.3,
        0.0,
    ),
    "TriangularCLR-scale-by-step": Shape(
        lambda: TriangularCLR(0.01, 0.3, "3 steps", scale=LinearDecay(1.0), scale_by="step"),
        *(0.01, 0.3, 0.01, 0.01),
    ),
    "CosineRestarts": Shape(lambda: CosineRestarts(0.3, 0.01, first_cycle=1), 0.01, 0.3, 0.3),
    "CosineRestarts-even": Shape(
        lambda: CosineRestarts(0.3, 0.0, "7 steps", cycle_mult=1, lr_mult=0.5), 0.0, 0.3, 0.3
    ),
    "CosineRestarts-three": Shape(
        lambda: CosineRestarts(0.3, 0.0, "10%", cycle_mult=3), 0.0, 0.3, 0.3
    ),
    "CosineRestarts-up": Shape(
        lambda: CosineRestarts(0.1, 0.01, "7 steps", cycle_mult=1, lr_mult=1.5, highest_lr=0.3),
        *(0.01, 0.3, 0.1),
    ),
    "OneCycle": Shape(lambda: OneCycle(0.5), 2e-6, 0.5, 0.02, 2e-6),
    "OneCycle-linear": Shape(
        lambda: OneCycle(0.5, "80%", "10%", div=10, final_div=10, momentum=None, shape="linear"),
        *(0.005, 0.5, 0.05, 0.005),
    ),
    "OneCycle-endpoint": Shape(
        lambda: OneCycle(0.5, warmup="20%", shape="linear", endpoint=True),
        *(2e-6, 0.5, 0.02, 2e-6),
    ),
    "WarmupStableDecay": Shape(lambda: WarmupStableDecay(0.2), 0.0, 0.2, 0.0, 0.0),
    "WarmupStableDecay-cosine": Shape(
        lambda: WarmupStableDecay(0.2, "30%", "70%", "cosine"), 0.0, 0.2, 0.0, 0.0
    ),
    "WarmupStableDecay-sqrt": Shape(
        lambda: WarmupStableDecay(0.2, "10%", "50%", "sqrt"), 0.0, 0.2, 0.0, 0.0
    ),
    "WarmupStableDecay-square": Shape(
        lambda: WarmupStableDecay(0.2, "10%", "50%", "square"), 0.0, 0.2, 0.0, 0.0
    ),
    "Function-epoch": Shape(lambda: Function(by_epoch), 0.0, 0.5, 0.5),
    "Function-epoch-and-lr": Shape(lambda: Function(by_epoch_and_lr, 0.8), 0.0, 0.8, 0.8),
    "Function-keras": Shape(
        lambda: Function(keras.optimizers.schedules.ExponentialDecay(0.25, 10, 0.5)),
        *(0.0, 0.25, 0.25),
    ),
    # Compositions.
    "Sequence": Shape(
        lambda: LinearDecay(0.0, 0.1, over=2) >> CosineDecay(0.1), 0.0, 0.1, 0.0, 0.0
    ),
    "Sequence-of-one": Shape(lambda: Sequence([LinearDecay(0.1)]), 0.0, 0.1, 0.1, 0.0),
    "Sequence-longer-than-the-fit": Shape(
        lambda: Constant(0.2).lasting(9) >> CosineDecay(0.1),
        *(0.0, 0.2, 0.2),
    ),
    "Warmup": Shape(lambda: CosineDecay(0.1).warmup(1), 0.0, 0.1, 0.0, 0.0),
    "Warmup-share": Shape(lambda: InverseSqrtDecay(0.1, 1).warmup("10%", start=0.2), 0.0, 0.2, 0.2),
    "Warmup-cosine": Shape(lambda: CosineDecay(0.1).warmup(1, shape="cosine"), 0.0, 0.1, 0.0, 0.0),
    "Warmup-masks": Shape(
        lambda: CosineDecay(0.1).warmup("20%", 0.01, "square", shift=False), 0.0, 0.1, 0.01, 0.0
    ),
    "Lasting": Shape(lambda: LinearDecay(0.4).lasting("50%"), 0.0, 0.4, 0.4, 0.0),
    "Lasting-cut-off": Shape(
        lambda: LinearDecay(0.5, 0.0, over="4 steps").lasting("2 steps"), 0.25, 0.5, 0.5, 0.25
    ),
    "Scaled": Shape(lambda: 4 * LinearDecay(0.25, 0.125), 0.5, 1.0, 1.0, 0.5),
    "Product": Shape(
        lambda: LinearDecay(0.5, 0.25) * LinearDecay(1.0, 0.5, over=2), 0.125, 0.5, 0.5, 0.125
    ),
    "Sum": Shape(
        lambda: LinearDecay(0.5, 0.25) + StepDecay(0.5, every="50%") + 0.25,
        *(0.5, 1.25, 1.25),
    ),
    "Sum-of-differences": Shape(
        lambda: LinearDecay(0.5, 0.25) - LinearDecay(0.25, 0.125) - 0.125,
        *(0.0, 0.125, 0.125, 0.0),
    ),
    "Clip": Shape(lambda: CosineDecay(0.3).clip(0.01, 0.2), 0.01, 0.2, 0.2, 0.01),
    "Clip-floor": Shape(lambda: CosineDecay(0.3).clip(min=0.1), 0.1, 0.3, 0.3, 0.1),
    "Repeat": Shape(lambda: CosineDecay(0.5, 0.125).repeat(3), 0.125, 0.5, 0.5, 0.125),
    "Repeat-stretched": Shape(
        lambda: LinearDecay(0.5, 0.25, over="4 steps").repeat(3, stretch=2, scale=0.5),
        *(0.0625, 0.5, 0.5, 0.0625),
    ),
    "PerEpoch": Shape(lambda: CosineDecay(0.3).per_epoch(), 0.0, 0.3, 0.3, 0.0),
    "Nested": Shape(
        lambda: (
            (2 * (LinearDecay(0.25, over="30%") * Constant(0.5)).warmup("3 steps")).lasting(2)
            >> (CosineDecay(0.1, over=0.5) >> StepDecay(0.2, every="25%")).per_epoch()
        ).clip(max=0.2),
        *(0.0, 0.2, 0.0),
    ),
    "Nested-repeats": Shape(
        lambda: (
            (
                OneCycle(0.5).repeat(2, scale=0.5).lasting("40%")
                >> WarmupStableDecay(0.2).lasting("rest")
            )
            * TriangularCLR(0.5, 1.0, "3 steps").repeat(2)
        ),
        *(0.0, 0.5, 0.01),
    ),
    "Nested-functions": Shape(
        lambda: (
            Function(by_epoch).lasting(2).repeat(2)
            >> Product([Function(by_epoch_and_lr, 1.0), LinearDecay(0.1, 0.05)])
        ),
        *(0.0, 0.5, 0.5),
    ),
}


def written(value: object) -> str:
    """Return a name for a test's argument that is the same in every process."""
    return "" if isinstance(value, list) else re.sub(r" at 0x[0-9a-f]+", "", repr(value))
