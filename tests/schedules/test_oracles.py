"""The curves of PyTorch's, optax's and Keras's own schedulers, where those are installed.

PyTorch and optax count as this package does: a boundary at ``b`` takes effect at ``t = b``. Keras's
``PiecewiseConstantDecay`` keeps the old value at ``t = b`` and changes one step later.
"""

import keras
import numpy as np
import pytest

from keras_lr import (
    Constant,
    CosineDecay,
    CosineRestarts,
    ExponentialDecay,
    Function,
    LinearDecay,
    OneCycle,
    PiecewiseConstant,
    PolynomialDecay,
    StepDecay,
    TimeDecay,
    TriangularCLR,
)

oracle = pytest.mark.oracle


def curve(schedule, steps):
    return schedule.values(epochs=steps, steps_per_epoch=1)


# PyTorch, whose schedulers are stepped once an epoch here. They compute in float64 and some of them
# recursively, so that rounding adds up.

TORCH = {
    "StepLR": (
        lambda torch: (torch.StepLR, {"step_size": 7, "gamma": 0.3}),
        StepDecay(0.4, 0.3, every=7),
    ),
    "MultiStepLR": (
        lambda torch: (torch.MultiStepLR, {"milestones": [3, 8, 20], "gamma": 0.1}),
        PiecewiseConstant([3, 8, 20], [0.4, 0.04, 0.004, 0.0004]),
    ),
    "LambdaLR": (
        lambda torch: (torch.LambdaLR, {"lr_lambda": lambda epoch: 0.95**epoch}),
        0.4 * Function(lambda epoch: 0.95**epoch),
    ),
    "ConstantLR": (
        lambda torch: (torch.ConstantLR, {"factor": 0.25, "total_iters": 5}),
        Constant(0.1).lasting(5) >> Constant(0.4),
    ),
    "LinearLR": (
        lambda torch: (torch.LinearLR, {"start_factor": 0.25, "total_iters": 5}),
        LinearDecay(0.1, 0.4, over=5),
    ),
    "ExponentialLR": (
        lambda torch: (torch.ExponentialLR, {"gamma": 0.9}),
        ExponentialDecay(0.4, 0.9),
    ),
    "PolynomialLR": (
        lambda torch: (torch.PolynomialLR, {"total_iters": 20, "power": 0.9}),
        PolynomialDecay(0.4, power=0.9, over=20),
    ),
    "CosineAnnealingLR": (
        lambda torch: (torch.CosineAnnealingLR, {"T_max": 40, "eta_min": 0.01}),
        CosineDecay(0.4, 0.01),
    ),
    "CyclicLR-triangular": (
        lambda torch: (torch.CyclicLR, cyclic(step_size_up=4)),
        TriangularCLR(0.01, 0.4, step_size=4),
    ),
    "CyclicLR-triangular2": (
        lambda torch: (torch.CyclicLR, cyclic(step_size_up=4, mode="triangular2")),
        TriangularCLR(0.01, 0.4, step_size=4, mode="triangular2"),
    ),
    "CyclicLR-exp_range": (
        lambda torch: (torch.CyclicLR, cyclic(step_size_up=4, mode="exp_range", gamma=0.97)),
        TriangularCLR(0.01, 0.4, step_size=4, mode="exp_range", gamma=0.97),
    ),
    "CyclicLR-scale_fn-by-cycle": (
        lambda torch: (
            torch.CyclicLR,
            cyclic(step_size_up=4, scale_fn=lambda x: 1 / x**0.5, scale_mode="cycle"),
        ),
        TriangularCLR(0.01, 0.4, step_size=4, scale=lambda x: 1 / x**0.5),
    ),
    "CyclicLR-scale_fn-by-iteration": (
        lambda torch: (
            torch.CyclicLR,
            cyclic(step_size_up=4, scale_fn=lambda x: 0.9**x, scale_mode="iterations"),
        ),
        TriangularCLR(0.01, 0.4, step_size=4, scale=lambda x: 0.9**x, scale_by="step"),
    ),
    "CyclicLR-asymmetric": (
        lambda torch: (torch.CyclicLR, cyclic(step_size_up=3, step_size_down=7)),
        TriangularCLR(0.01, 0.4, step_size=3, step_size_down=7),
    ),
    "CyclicLR-asymmetric-triangular2": (
        lambda torch: (
            torch.CyclicLR,
            cyclic(step_size_up=5, step_size_down=2, mode="triangular2"),
        ),
        TriangularCLR(0.01, 0.4, step_size=5, step_size_down=2, mode="triangular2"),
    ),
    # PyTorch counts a cycle of n values as n - 1 steps, the end included.
    "OneCycleLR": (
        lambda torch: (
            torch.OneCycleLR,
            {"max_lr": 0.4, "total_steps": 40, "cycle_momentum": False, "pct_start": 0.25},
        ),
        OneCycle(0.4, over=39, warmup=9),
    ),
    "OneCycleLR-endpoint": (
        lambda torch: (
            torch.OneCycleLR,
            {"max_lr": 0.4, "total_steps": 40, "cycle_momentum": False},
        ),
        OneCycle(0.4, endpoint=True),
    ),
    "OneCycleLR-endpoint-between-updates": (
        lambda torch: (
            torch.OneCycleLR,
            {"max_lr": 0.4, "total_steps": 40, "cycle_momentum": False, "pct_start": 0.33}
            | {"anneal_strategy": "linear"},
        ),
        OneCycle(0.4, warmup="33%", shape="linear", endpoint=True),
    ),
    "LinearLR-endpoint": (
        lambda torch: (torch.LinearLR, {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 39}),
        LinearDecay(0.4, 0.04, endpoint=True),
    ),
    "CosineAnnealingLR-endpoint": (
        lambda torch: (torch.CosineAnnealingLR, {"T_max": 39, "eta_min": 0.01}),
        CosineDecay(0.4, 0.01, endpoint=True),
    ),
    "OneCycleLR-linear": (
        lambda torch: (
            torch.OneCycleLR,
            {"max_lr": 0.4, "total_steps": 40, "cycle_momentum": False, "pct_start": 0.5}
            | {"anneal_strategy": "linear", "div_factor": 10, "final_div_factor": 100},
        ),
        OneCycle(0.4, over=39, warmup=19, div=10, final_div=100, shape="linear"),
    ),
}


def cyclic(**options):
    return {"base_lr": 0.01, "max_lr": 0.4, "cycle_momentum": False} | options


def torch_curve(scheduler, steps, **options):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    made, rates = scheduler(optimizer, **options), []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        made.step()
    return np.array(rates)


@oracle
@pytest.mark.parametrize("name", TORCH)
def test_pytorch(name):
    torch = pytest.importorskip("torch")
    oracle, ours = TORCH[name]
    scheduler, options = oracle(torch.optim.lr_scheduler)
    theirs = torch_curve(scheduler, 40, **options)
    np.testing.assert_allclose(curve(ours, 40), theirs, rtol=1e-12, atol=1e-15)


@oracle
@pytest.mark.parametrize("cycle_mult", [1, 2, 3])
def test_pytorch_warm_restarts(cycle_mult):
    """Through nine restarts, and some steps into the tenth cycle."""
    torch = pytest.importorskip("torch")
    steps = 2 * sum(cycle_mult**k for k in range(9)) + 2
    theirs = torch_curve(
        torch.optim.lr_scheduler.CosineAnnealingWarmRestarts,
        *(steps,),
        T_0=2,
        T_mult=cycle_mult,
        eta_min=0.01,
    )
    ours = curve(CosineRestarts(0.4, 0.01, first_cycle=2, cycle_mult=cycle_mult), steps)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert (ours == 0.4).sum() == 10


@oracle
def test_pytorch_sequences():
    torch = pytest.importorskip("torch")
    schedulers = torch.optim.lr_scheduler

    def chain(optimizer):
        first = schedulers.LinearLR(optimizer, start_factor=0.1, total_iters=6)
        second = schedulers.CosineAnnealingLR(optimizer, T_max=34)
        return schedulers.SequentialLR(optimizer, [first, second], milestones=[6])

    theirs = torch_curve(chain, 40)
    ours = curve(CosineDecay(0.4).warmup(6, start=0.04), 40)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-15)


@oracle
def test_pytorch_momentum_of_one_cycle():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.4, total_steps=40)
    theirs = []
    for _ in range(40):
        theirs.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        scheduler.step()
    moved = OneCycle(0.4, endpoint=True).hyperparameter_schedules(keras.optimizers.SGD(0.1, 0.9))
    np.testing.assert_allclose(curve(moved["momentum"], 40), theirs, rtol=1e-12)


@oracle
@pytest.mark.parametrize("mode", ["triangular", "triangular2"])
def test_pytorch_momentum_of_triangles(mode):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CyclicLR(
        optimizer, 0.01, 0.4, 4, 6, mode, base_momentum=0.85, max_momentum=0.95
    )
    theirs = []
    for _ in range(40):
        theirs.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        scheduler.step()
    rate = TriangularCLR(0.01, 0.4, 4, mode, step_size_down=6, momentum=(0.85, 0.95))
    moved = rate.hyperparameter_schedules(keras.optimizers.SGD(0.1, 0.9))
    np.testing.assert_allclose(curve(moved["momentum"], 40), theirs, rtol=1e-12)


# optax, which computes in float32.

OPTAX = {
    "constant": (lambda optax: optax.constant_schedule(0.4), Constant(0.4)),
    "linear": (
        lambda optax: optax.linear_schedule(0.4, 0.1, transition_steps=25),
        LinearDecay(0.4, 0.1, over=25),
    ),
    "polynomial": (
        lambda optax: optax.polynomial_schedule(0.4, 0.1, power=2.5, transition_steps=25),
        PolynomialDecay(0.4, 0.1, power=2.5, over=25),
    ),
    "polynomial-later": (
        lambda optax: optax.polynomial_schedule(0.4, 0.1, 2.5, 25, transition_begin=7),
        Constant(0.4).lasting(7) >> PolynomialDecay(0.4, 0.1, power=2.5, over=25),
    ),
    "cosine_decay": (
        lambda optax: optax.cosine_decay_schedule(0.4, decay_steps=30, alpha=0.1),
        CosineDecay(0.4, 0.04, over=30),
    ),
    "exponential_decay": (
        lambda optax: optax.exponential_decay(0.4, transition_steps=7, decay_rate=0.5),
        ExponentialDecay(0.4, 0.5, every=7),
    ),
    "exponential_decay-stairs": (
        lambda optax: optax.exponential_decay(0.4, 7, 0.5, staircase=True, end_value=0.03),
        StepDecay(0.4, 0.5, every=7).clip(min=0.03),
    ),
    "exponential_decay-up": (
        lambda optax: optax.exponential_decay(0.01, 7, 2.5, end_value=0.6),
        ExponentialDecay(0.01, 2.5, every=7, final_lr=0.6),
    ),
    "exponential_decay-stairs-up": (
        lambda optax: optax.exponential_decay(0.01, 7, 2.5, staircase=True, end_value=0.6),
        StepDecay(0.01, 2.5, every=7, final_lr=0.6),
    ),
    "exponential_decay-end": (
        lambda optax: optax.exponential_decay(0.4, 7, 0.5, end_value=0.03),
        ExponentialDecay(0.4, 0.5, every=7, final_lr=0.03),
    ),
    "piecewise_constant": (
        lambda optax: optax.piecewise_constant_schedule(0.4, {5: 0.5, 9: 0.1}),
        PiecewiseConstant([5, 9], [0.4, 0.2, 0.02]),
    ),
    "cosine_onecycle": (
        lambda optax: optax.cosine_onecycle_schedule(40, 0.4),
        OneCycle(0.4),
    ),
    "cosine_onecycle-other": (
        lambda optax: optax.cosine_onecycle_schedule(40, 0.4, 0.1, 5.0, 20.0),
        OneCycle(0.4, warmup="10%", div=5, final_div=20),
    ),
    "linear_onecycle": (
        lambda optax: optax.linear_onecycle_schedule(40, 0.4, 0.3, 0.75, 10.0, 10.0),
        LinearDecay(0.04, 0.4, over="30%")
        >> LinearDecay(0.4, 0.04, "45%")
        >> LinearDecay(0.04, 0.004),
    ),
    "warmup_constant": (
        lambda optax: optax.warmup_constant_schedule(0.1, 0.4, warmup_steps=8),
        Constant(0.4).warmup(8, start=0.1),
    ),
    "warmup_cosine_decay": (
        lambda optax: optax.warmup_cosine_decay_schedule(0.1, 0.4, 8, 40, end_value=0.02),
        CosineDecay(0.4, 0.02).warmup(8, start=0.1),
    ),
    "warmup_exponential_decay": (
        lambda optax: optax.warmup_exponential_decay_schedule(0.1, 0.4, 8, 5, 0.5),
        ExponentialDecay(0.4, 0.5, every=5).warmup(8, start=0.1),
    ),
    "sgdr": (
        lambda optax: optax.sgdr_schedule(
            [
                {"init_value": 0.1, "peak_value": peak, "decay_steps": steps, "warmup_steps": 2}
                for peak, steps in ((0.4, 10), (0.2, 20), (0.1, 40))
            ]
        ),
        CosineDecay(0.4, over=8).warmup(2, start=0.1)
        >> CosineDecay(0.2, over=18).warmup(2, start=0.1)
        >> CosineDecay(0.1, over=38).warmup(2, start=0.1),
    ),
    "join": (
        lambda optax: optax.join_schedules(
            [optax.linear_schedule(0.4, 0.1, 5), optax.constant_schedule(0.3)], boundaries=[9]
        ),
        LinearDecay(0.4, 0.1, over=5).lasting(9) >> Constant(0.3),
    ),
}


@oracle
@pytest.mark.parametrize("name", OPTAX)
def test_optax(name):
    optax = pytest.importorskip("optax")
    oracle, ours = OPTAX[name]
    theirs = np.broadcast_to(np.array([oracle(optax)(step) for step in range(40)]), 40)
    np.testing.assert_allclose(curve(ours, 40), theirs, rtol=2e-6, atol=1e-7)


# Keras.

schedules = keras.optimizers.schedules

KERAS = {
    "CosineDecay": (schedules.CosineDecay(0.4, 30, alpha=0.1), CosineDecay(0.4, 0.04, over=30)),
    "CosineDecay-warmup": (
        schedules.CosineDecay(0.1, 20, warmup_target=0.4, warmup_steps=10),
        CosineDecay(0.4, over=20).warmup(10, start=0.1),
    ),
    "CosineDecayRestarts": (
        schedules.CosineDecayRestarts(0.4, 5, t_mul=2.0, m_mul=0.5),
        CosineRestarts(0.4, first_cycle=5, lr_mult=0.5),
    ),
    "CosineDecayRestarts-up": (
        schedules.CosineDecayRestarts(0.4, 5, t_mul=1.0, m_mul=1.2),
        CosineRestarts(0.4, first_cycle=5, cycle_mult=1, lr_mult=1.2, highest_lr=100.0),
    ),
    "CosineDecayRestarts-even": (
        schedules.CosineDecayRestarts(0.4, 8, t_mul=1.0),
        CosineRestarts(0.4, first_cycle=8, cycle_mult=1),
    ),
    "ExponentialDecay": (
        schedules.ExponentialDecay(0.4, 7, 0.5),
        ExponentialDecay(0.4, 0.5, every=7),
    ),
    "ExponentialDecay-stairs": (
        schedules.ExponentialDecay(0.4, 7, 0.5, staircase=True),
        StepDecay(0.4, 0.5, every=7),
    ),
    "ExponentialDecay-up": (
        schedules.ExponentialDecay(0.4, 7, 1.5),
        ExponentialDecay(0.4, 1.5, every=7, final_lr=100.0),
    ),
    "InverseTimeDecay": (schedules.InverseTimeDecay(0.4, 7, 0.5), TimeDecay(0.4, 0.5, every=7)),
    "PolynomialDecay": (
        schedules.PolynomialDecay(0.4, 30, 0.1, power=2.5),
        PolynomialDecay(0.4, 0.1, power=2.5, over=30),
    ),
    "PiecewiseConstantDecay": (
        schedules.PiecewiseConstantDecay([5, 9], [0.4, 0.2, 0.1]),
        PiecewiseConstant([6, 10], [0.4, 0.2, 0.1]),
    ),
}


@pytest.mark.core
@pytest.mark.parametrize("name", KERAS)
def test_keras(name):
    theirs, ours = KERAS[name]
    expected = [float(theirs(step)) for step in range(40)]
    np.testing.assert_allclose(curve(ours, 40), expected, rtol=2e-6, atol=1e-7)
