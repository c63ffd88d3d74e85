"""Measure a whole curve against as many steps of PyTorch's scheduler.

    python -m benchmarks.curves [--small] [--pairs N] [--json FILE]

``values()`` of a million steps is compared with as many calls of ``scheduler.step()``. A twentieth
of these is timed, because every step costs the same. It needs PyTorch. The floor of the slowest
shapes is the formula alone in numpy, in pieces that stay in the processor's cache.
"""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import PAIRS, Effort, Row, main, once, pairs
from keras_lr import (
    Constant,
    CosineDecay,
    CosineRestarts,
    ExponentialDecay,
    InverseSqrtDecay,
    LinearDecay,
    OneCycle,
    PiecewiseConstant,
    PolynomialDecay,
    Schedule,
    StepDecay,
    TimeDecay,
    TriangularCLR,
    WarmupStableDecay,
)

EPOCHS = 100
PART = 20

NEST = (
    (StepDecay(1.0, every=10) * TriangularCLR(0.5, 1.0))
    .clip(min=1e-6)
    .scale(0.1)
    .warmup(5)
    .lasting(40)
    >> CosineDecay(0.1).lasting(20).repeat(2).per_epoch()
    >> LinearDecay(0.1)
)
"""Schedules inside one another, ten in all."""


PIECE = 1 << 14
"""Values that numpy computes at once."""


def half_cosine(x: NDArray) -> NDArray:
    """Fall from 1 to 0."""
    return 0.5 * (1.0 + np.cos(np.pi * x))


def nest(x: NDArray) -> NDArray:
    """Compute `NEST` over a hundred epochs."""
    epoch = 100.0 * x
    later = epoch - 5.0
    triangle = 1.0 - np.abs(later % 8.0 / 4.0 - 1.0)
    cycles = 0.5 ** np.floor(later / 10.0) * (0.5 + 0.5 * triangle)
    waves = half_cosine((np.floor(epoch + 1e-9) - 40.0) % 20.0 / 20.0)
    parts = [0.05 * epoch / 5.0, 0.1 * np.maximum(cycles, 1e-6), 0.1 * waves]
    return np.select([epoch < 5.0, epoch < 40.0, epoch < 80.0], parts, 0.1 * (5.0 - epoch / 20.0))


FORMULAS: dict[type[Schedule], Callable[[NDArray], NDArray]] = {
    PiecewiseConstant: lambda x: np.select([x < 0.3, x < 0.6], [0.1, 0.01], 1e-3),
    StepDecay: lambda x: 0.1 * 0.5 ** np.floor(10.0 * x),
    LinearDecay: lambda x: 0.1 * (1.0 - x),
    ExponentialDecay: lambda x: 0.1 * 0.96 ** (100.0 * x),
    CosineDecay: lambda x: 0.1 * half_cosine(x),
    TriangularCLR: lambda x: 0.01 + 0.09 * (1.0 - np.abs(25.0 * x % 2.0 - 1.0)),
    CosineRestarts: lambda x: (
        0.1
        * half_cosine(
            (x - np.select([x < 0.1, x < 0.3, x < 0.7], [0.0, 0.1, 0.3], 0.7))
            / np.select([x < 0.1, x < 0.3, x < 0.7], [0.1, 0.2, 0.4], 0.8)
        )
    ),
    OneCycle: lambda x: np.where(
        x < 0.3,
        0.004 + 0.096 * half_cosine(1.0 - x / 0.3),
        4e-7 + (0.1 - 4e-7) * half_cosine((x - 0.3) / 0.7),
    ),
    type(NEST): nest,
}
"""Formulas of some of the `schedulers`, over the share of the fit that is done."""


def in_pieces(formula: Callable[[NDArray], NDArray], steps: int) -> NDArray:
    """Evaluate a formula with numpy alone."""
    curve = np.empty(steps)
    for first in range(0, steps, PIECE):
        step = np.arange(first, min(first + PIECE, steps), dtype=float)
        curve[first : first + PIECE] = formula(step / steps)
    return curve


def schedulers(steps: int) -> list[tuple[Schedule, str, dict[str, Any]]]:
    """Return each shape, with PyTorch's name and arguments for the same or the nearest curve."""
    tenth = steps // 10
    return [
        (Constant(0.1), "ConstantLR", {}),
        (
            PiecewiseConstant([30, 60], [0.1, 0.01, 1e-3]),
            "MultiStepLR",
            {"milestones": [3 * tenth, 6 * tenth]},
        ),
        (StepDecay(0.1), "StepLR", {"step_size": tenth}),
        (LinearDecay(0.1), "LinearLR", {"total_iters": steps}),
        (PolynomialDecay(0.1), "PolynomialLR", {"total_iters": steps}),
        (TimeDecay(0.1, 0.1), "LambdaLR", {"lr_lambda": lambda t: 1.0 / (1.0 + 1e-3 * t)}),
        (ExponentialDecay(0.1), "ExponentialLR", {"gamma": 0.999999}),
        (
            InverseSqrtDecay(0.1, 1),
            "LambdaLR",
            {"lr_lambda": lambda t: (1e3 / (1e3 + t)) ** 0.5},
        ),
        (CosineDecay(0.1), "CosineAnnealingLR", {"T_max": steps}),
        (
            TriangularCLR(0.01, 0.1),
            "CyclicLR",
            {"base_lr": 0.01, "max_lr": 0.1, "cycle_momentum": False},
        ),
        (CosineRestarts(0.1), "CosineAnnealingWarmRestarts", {"T_0": tenth}),
        (OneCycle(0.1), "OneCycleLR", {"max_lr": 0.1, "total_steps": steps + 1}),
        (WarmupStableDecay(0.1), "SequentialLR", {"stages": 3}),
        (NEST, "SequentialLR", {"stages": 10}),
    ]


def stepper(name: str, arguments: dict[str, Any], steps: int) -> Callable[[], float]:
    """Return a function that steps a PyTorch scheduler and returns the seconds it took."""
    import torch

    kinds = torch.optim.lr_scheduler

    def run() -> float:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        warnings.simplefilter("ignore")  # that nothing is trained between the steps
        if stages := arguments.get("stages"):
            each = steps // stages
            scheduler: Any = kinds.SequentialLR(
                optimizer,
                [kinds.LinearLR(optimizer, total_iters=each) for _ in range(stages)],
                [each * (i + 1) for i in range(stages - 1)],
            )
        else:
            scheduler = getattr(kinds, name)(optimizer, **arguments)
        begun = time.perf_counter()
        for _ in range(steps):
            scheduler.step()
        return time.perf_counter() - begun

    return run


def rows(effort: Effort) -> list[Row]:
    """Measure every shape and the nest."""
    steps, count = 10_000 if effort.small else 1_000_000, effort.pairs(PAIRS)
    part = steps // PART
    found, floors = [], []
    for schedule, name, arguments in schedulers(steps):
        new = functools.partial(schedule.values, epochs=EPOCHS, steps_per_epoch=steps // EPOCHS)
        old = stepper(name, arguments, part)
        ratios = [PART * old() / once(new)[0] for _ in range(count)]
        what = "a nest of ten" if schedule is NEST else type(schedule).__name__
        found.append(Row(f"{what}: times as fast", name, ratios, goal=500.0, least=True))
        if type(schedule) in FORMULAS:
            alone = functools.partial(in_pieces, FORMULAS[type(schedule)], steps)
            np.testing.assert_allclose(new(), alone(), rtol=1e-9, atol=1e-15)
            ratios, cpu = pairs(new, alone, count)
            floors.append(Row(f"{what}: times as long as", "its formula in numpy", ratios, cpu))
    return found + floors


if __name__ == "__main__":
    main(rows, __doc__)
