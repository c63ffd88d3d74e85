"""The cyclical shapes against values worked out by hand from their papers."""

import dataclasses
import warnings

import keras
import numpy as np
import pytest
from models import fit, meter, settled
from shapes import written

from keras_lr import (
    Constant,
    CosineDecay,
    CosineRestarts,
    LinearDecay,
    OneCycle,
    Timeline,
    TriangularCLR,
    UnresolvedLength,
    WarmupStableDecay,
)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (TriangularCLR(0.001, 0.006, step_size=2000), "reaches its highest rate"),
        (OneCycle(0.1, over=20), "reaches its highest rate"),
        (Constant(0.1).lasting(1) >> TriangularCLR(0.001, 0.006), "reaches its highest rate"),
        (LinearDecay(0.0, 0.1, over="60%") >> CosineDecay(0.1, over="60%"), "add up to 120 %"),
    ],
)
def test_a_fit_that_ends_before_the_peak_is_said(schedule, words):
    model = meter(optimizer=keras.optimizers.SGD(0.1, momentum=0.5))
    with pytest.warns(UserWarning, match=rf"A fit of 20 steps ends before .* {words}") as caught:
        fit(model, schedule, epochs=4)
    assert sum("ends before" in str(one.message) for one in caught) == 1


@pytest.mark.parametrize(
    "schedule",
    [
        TriangularCLR(0.001, 0.006, step_size=4),
        OneCycle(0.1, over=10),
        CosineDecay(0.1, over=20),
        LinearDecay(0.0, 0.1, over="60%") >> CosineDecay(0.1, over="40%"),
    ],
)
def test_a_fit_that_reaches_the_peak_says_nothing(schedule):
    model = meter(optimizer=keras.optimizers.SGD(0.1, momentum=0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(model, schedule, epochs=4)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (
            TriangularCLR(0.1, 0.5, "4 steps"),
            [0.1, 0.2, 0.3, 0.4, 0.5, 0.4, 0.3, 0.2, 0.1, 0.2, 0.3],
        ),
        # The amplitude halves in each cycle: 0.8, 0.4, 0.2.
        (
            TriangularCLR(0.1, 0.9, "2 steps", "triangular2"),
            [0.1, 0.5, 0.9, 0.5, 0.1, 0.3, 0.5, 0.3, 0.1, 0.2, 0.3, 0.2, 0.1, 0.15],
        ),
        # up(t) * 0.5^t with up = 0, 1/2, 1, 1/2
        (
            TriangularCLR(0.0, 1.0, "2 steps", "exp_range", gamma=0.5),
            [0.0, 0.25, 0.25, 0.0625, 0.0, 0.015625, 0.015625],
        ),
        (
            TriangularCLR(0.0, 0.6, "2 steps", step_size_down="3 steps"),
            [0.0, 0.3, 0.6, 0.4, 0.2, 0.0, 0.3, 0.6, 0.4],
        ),
        (
            TriangularCLR(0.0, 0.8, "1 steps", "triangular2", step_size_down="2 steps"),
            [0.0, 0.8, 0.4, 0.0, 0.4, 0.2, 0.0, 0.2],
        ),
        (TriangularCLR(0.0, 1.0, "2.5 steps"), [0.0, 0.4, 0.8, 0.8, 0.4, 0.0, 0.4]),
        # 1/1, 1/2, 1/3 of the height, by the number of the cycle from 1.
        (
            TriangularCLR(0.1, 0.7, "2 steps", scale=lambda cycle: 1 / cycle),
            [0.1, 0.4, 0.7, 0.4, 0.1, 0.25, 0.4, 0.25, 0.1, 0.2, 0.3, 0.2, 0.1],
        ),
        # CLR's own example: 0.5 * (1 + sin(cycle * pi / 2)) in cycles 1, 2, 3 is 1, 1/2, 0.
        (
            TriangularCLR(0.0, 0.8, "1 steps", scale=lambda x: 0.5 * (1 + np.sin(x * np.pi / 2))),
            [0, 0.8, 0, 0.4, 0, 0, 0],
        ),
        # By the step from 0.
        (
            TriangularCLR(0.0, 0.8, "2 steps", scale=lambda x: 1 - x / 8, scale_by="step"),
            [0, 0.35, 0.6, 0.25, 0, 0.15, 0.2, 0.05],
        ),
        # Higher than max_lr; on top of the mode: 1 * 1, 2 * 1/2, 3 * 1/4.
        (
            TriangularCLR(0.0, 0.8, "1 steps", "triangular2", scale=lambda cycle: cycle),
            [0, 0.8, 0, 0.8, 0, 0.6],
        ),
        (TriangularCLR(0.1, 0.2, "1 steps", scale=lambda cycle: 3), [0.1, 0.4, 0.1, 0.4]),
        # A schedule: its value at the start of the cycle, 1 and 1/2; or at the step.
        (
            TriangularCLR(0.0, 0.8, "2 steps", scale=LinearDecay(1.0)),
            [0, 0.4, 0.8, 0.4, 0, 0.2, 0.4, 0.2],
        ),
        (
            TriangularCLR(0.0, 0.8, "2 steps", scale=LinearDecay(1.0), scale_by="step"),
            [0, 0.35, 0.6, 0.25, 0, 0.15, 0.2, 0.05],
        ),
        # Half cosines of length 2 and 4; (1 + cos(pi/4)) / 2 = 0.8535...
        (
            CosineRestarts(1.0, first_cycle="2 steps"),
            [1.0, 0.5, 1.0, 0.8535533905932737, 0.5, 0.1464466094067263, 1.0],
        ),
        (CosineRestarts(0.8, 0.2, "2 steps", cycle_mult=1), [0.8, 0.5, 0.8, 0.5, 0.8, 0.5]),
        # Peaks 0.9, 0.5, ... of which only the peak is multiplied, not final_lr.
        (
            CosineRestarts(0.8, 0.2, "2 steps", cycle_mult=1, lr_mult=0.5),
            [0.8, 0.5, 0.4, 0.3, 0.2, 0.2, 0.1, 0.15],
        ),
        (
            CosineRestarts(1.0, 0.0, "1 steps", cycle_mult=3, lr_mult=0.5),
            [1.0, 0.5, 0.375, 0.125, 0.25],
        ),
        # Peaks 0.2, 0.4, 0.8, and then 1.0 instead of 1.6 and 3.2.
        (
            CosineRestarts(0.2, 0.0, "2 steps", cycle_mult=1, lr_mult=2, highest_lr=1.0),
            [0.2, 0.1, 0.4, 0.2, 0.8, 0.4, 1.0, 0.5, 1.0, 0.5],
        ),
        (
            OneCycle(1.0, "10 steps", "4 steps", div=10, final_div=10, shape="linear"),
            [0.1, 0.325, 0.55, 0.775, 1.0, 0.835, 0.67, 0.505, 0.34, 0.175, 0.01, 0.01],
        ),
        # Up by 0.9 * (0.1464..., 0.5, 0.8535...), down by 0.99 * (0.0669..., 0.25, ..., 0.9330...).
        (
            OneCycle(1.0, "10 steps", "40%", div=10, final_div=10),
            [
                *(0.1, 0.23180194846605362, 0.55, 0.8681980515339464, 1.0, 0.9336825748732973),
                *(0.7525, 0.505, 0.2575, 0.07631742512670285, 0.01, 0.01),
            ],
        ),
        # Of 3 updates of the rise the last is at the peak; the 7 after it end at the last rate.
        (
            OneCycle(1.0, "10 steps", "3 steps", 10, 10, None, "linear", endpoint=True),
            [
                *(0.1, 0.55, 1.0, 1 - 0.99 / 7, 1 - 2 * 0.99 / 7, 1 - 3 * 0.99 / 7),
                *(1 - 4 * 0.99 / 7, 1 - 5 * 0.99 / 7, 1 - 6 * 0.99 / 7, 0.01, 0.01),
            ],
        ),
        # A rise of one update is at the first rate.
        (
            OneCycle(1.0, "4 steps", "1 steps", 10, 10, None, "linear", endpoint=True),
            [0.1, 0.67, 0.34, 0.01, 0.01],
        ),
        (
            WarmupStableDecay(1.0, "2 steps", "4 steps"),
            [0.0, 0.5, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25],
        ),
        (
            WarmupStableDecay(1.0, "2 steps", "4 steps", "cosine"),
            [0.0, 0.5, 1.0, 1.0, 1.0, 0.8535533905932737, 0.5, 0.1464466094067263],
        ),
        # 1 - sqrt(1/4), 1 - sqrt(1/2), 1 - sqrt(3/4)
        (
            WarmupStableDecay(1.0, "2 steps", "4 steps", "sqrt"),
            [0.0, 0.5, 1.0, 1.0, 1.0, 0.5, 0.29289321881345254, 0.1339745962155614],
        ),
        # 1 - 1/16, 1 - 4/16, 1 - 9/16
        (
            WarmupStableDecay(1.0, "2 steps", "4 steps", "square"),
            [0.0, 0.5, 1.0, 1.0, 1.0, 0.9375, 0.75, 0.4375],
        ),
        (WarmupStableDecay(0.8, "50%", "50%"), [0.0, 0.2, 0.4, 0.6, 0.8, 0.6, 0.4, 0.2]),
    ],
    ids=written,
)
def test_values_by_hand(schedule, expected):
    curve = schedule.values(epochs=1, steps_per_epoch=len(expected))
    np.testing.assert_allclose(curve, expected, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (TriangularCLR(0.0, 1.0, step_size=1.5), {0: 0, 1: 1 / 6, 6: 1, 9: 0.5, 12: 0, 18: 1}),
        (TriangularCLR(0.0, 1.0, "25%", step_size_down=2), {3: 0.5, 6: 1, 10: 0.5, 14: 0, 17: 0.5}),
        # Even where lengths are in epochs, gamma has the power of the step.
        (TriangularCLR(0.0, 1.0, 1, "exp_range", gamma=0.5), {2: 0.125, 4: 0.0625, 6: 2**-7}),
        (CosineRestarts(1.0, first_cycle=1), {0: 1, 2: 0.5, 4: 1, 8: 0.5, 12: 1, 20: 0.5}),
        (CosineRestarts(1.0, first_cycle="25%", cycle_mult=1), {3: 0.5, 6: 1, 9: 0.5, 12: 1}),
        # Cycles of 4, 6 and 9 steps.
        (
            CosineRestarts(1.0, first_cycle=1, cycle_mult=1.5),
            {2: 0.5, 4: 1, 7: 0.5, 10: 1, 13: 0.75},
        ),
        (OneCycle(1.0, 4, warmup=2, div=4, final_div=2), {0: 0.25, 8: 1.0, 16: 0.125, 23: 0.125}),
        (OneCycle(1.0, 4, warmup="75%", div=4), {0: 0.25, 6: 0.625, 12: 1.0, 16: 2.5e-5}),
        (OneCycle(1.0), {0: 0.04}),
        (WarmupStableDecay(1.0, 1, 2), {0: 0, 2: 0.5, 4: 1, 16: 1, 20: 0.5, 22: 0.25}),
        (WarmupStableDecay(1.0), {0: 0, 1: 1 / 1.2, 2: 1, 19: 1, 20: 4 / 4.8, 22: 2 / 4.8}),
    ],
    ids=written,
)
def test_lengths_in_every_unit(schedule, expected):
    """Over 6 epochs of 4 steps."""
    curve = schedule.values(epochs=6, steps_per_epoch=4)
    np.testing.assert_allclose(
        curve[list(expected)], list(expected.values()), rtol=1e-13, atol=1e-16
    )


# Of the second pair the difference leads beyond the peak, of the third it does not reach it.
@pytest.mark.parametrize(("low", "high"), [(0.0, 0.1), (0.03, 0.3), (0.059, 0.559), (0.2, 0.2)])
@pytest.mark.parametrize("down", [None, "3 steps"])
def test_a_triangle_has_exactly_both_rates(low, high, down):
    schedule = TriangularCLR(low, high, "5 steps", step_size_down=down)
    period = 10 if down is None else 8
    curve = schedule.values(epochs=1, steps_per_epoch=100 * period)
    assert (curve[::period] == low).all()
    assert (curve[5::period] == high).all()
    assert curve.min() == low
    assert curve.max() == high


def test_nothing_is_left_to_warm_up_for():
    """A stage that begins at the end of the fit, asked for what comes after."""
    rate = LinearDecay(1.0, over=2) >> WarmupStableDecay(0.5, "2 steps", "4 steps")
    assert rate(np.arange(19, 24), Timeline(10, 2)).tolist() == pytest.approx([0.05, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("cycle_mult", "restarts"),
    [
        (1, range(0, 30, 3)),
        (2, [0, 3, 9, 21, 45, 93, 189, 381, 765, 1533]),
        (3, [0, 3, 12, 39, 120, 363, 1092, 3279, 9840, 29523]),
    ],
)
def test_no_restart_is_missed_or_made_up(cycle_mult, restarts):
    schedule = CosineRestarts(1.0, first_cycle="3 steps", cycle_mult=cycle_mult)
    curve = schedule.values(epochs=1, steps_per_epoch=restarts[-1] + 1)
    assert np.flatnonzero(curve == 1.0).tolist() == list(restarts)
    assert np.flatnonzero(np.diff(curve) > 0).tolist() == [t - 1 for t in restarts[1:]]


def test_a_cycle_that_has_ended_stays_ended():
    curve = OneCycle(1.0, "4 steps", "2 steps").values(epochs=1, steps_per_epoch=9)
    assert curve[4:].tolist() == [4e-6] * 5


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (
            OneCycle(0.1, warmup=4),
            r"OneCycle\(.*the warmup leaves nothing of the cycle's 8 steps. Shorten it",
        ),
        (OneCycle(0.1, over=2, warmup="4 steps"), "leaves nothing of the cycle's 4 steps"),
        (OneCycle(0.1, warmup="100%"), "leaves nothing"),
        (
            WarmupStableDecay(0.1, "5 steps", "4 steps"),
            r"warmup \(5 steps\) and decay \(4 steps\) are longer than the whole \(8 steps\)",
        ),
        (Constant(0.1).lasting(3) >> WarmupStableDecay(0.1, "20%", "20%"), "longer than the whole"),
    ],
)
def test_parts_that_do_not_fit_say_so(schedule, words):
    with pytest.raises(ValueError, match=words):
        schedule.values(epochs=4, steps_per_epoch=2)


def test_one_cycle_fits_where_only_the_last_step_is_left():
    curve = OneCycle(1.0, warmup="3 steps").values(epochs=1, steps_per_epoch=4)
    assert curve[3] == 1.0


@pytest.mark.core
def test_a_momentum_goes_against_triangles():
    """Up to 0.95 where the rate is low, down to 0.85 at the first peak, half as far at the next."""
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    rate = TriangularCLR(0.1, 0.9, "2 steps", "triangular2", momentum=(0.85, 0.95))
    moved = rate.hyperparameter_schedules(optimizer)
    curve = moved["momentum"].values(epochs=1, steps_per_epoch=8)
    np.testing.assert_allclose(curve, [0.95, 0.9, 0.85, 0.9, 0.95, 0.925, 0.9, 0.925], rtol=1e-12)
    higher = dataclasses.replace(rate, scale=Constant(3.0)).hyperparameter_schedules(optimizer)
    assert higher["momentum"].values(epochs=1, steps_per_epoch=8).min() == 0.85
    assert set(rate.hyperparameter_schedules(keras.optimizers.Adam())) == {
        "learning_rate",
        "beta_1",
    }
    assert TriangularCLR(0.1, 0.9).hyperparameter_schedules(optimizer) == {
        "learning_rate": TriangularCLR(0.1, 0.9)
    }


def test_no_momentum_at_all():
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    moved = OneCycle(0.1, momentum=(0.0, 0.0)).hyperparameter_schedules(optimizer)
    assert set(moved["momentum"].values(epochs=1, steps_per_epoch=4)) == {0.0}


@pytest.mark.core
def test_triangles_move_the_momentum_of_a_fit():
    model = meter(optimizer=keras.optimizers.SGD(1.0, momentum=0.9))
    rate = TriangularCLR(0.1, 0.3, "2 steps", momentum=(0.85, 0.95))
    fit(model, rate, epochs=1)
    used = rate.history["momentum"]
    np.testing.assert_allclose(used, [0.95, 0.9, 0.85, 0.9, 0.95], rtol=1e-6)


@pytest.mark.core
@pytest.mark.parametrize("scale", [lambda cycle: 2 - cycle * 2, Constant(1e38)])
def test_a_scale_that_leaves_the_range_is_refused_before_the_first_update(scale):
    model = meter()
    rate = TriangularCLR(0.0, 100.0, "5 steps", scale=scale)
    with pytest.raises(ValueError, match="must be finite and not negative"):
        fit(model, rate, epochs=4)
    assert not settled(model).get_weights()[0].any()


def test_a_scale_by_step_needs_steps():
    rate = TriangularCLR(0.0, 1.0, 2, scale=lambda step: 0.9**step, scale_by="step")
    with pytest.raises(UnresolvedLength, match="steps"):
        rate(3, Timeline.by_epoch(8))
    by_cycle = TriangularCLR(0.0, 1.0, 2, scale=lambda cycle: 0.9**cycle)
    assert by_cycle(6, Timeline.by_epoch(8)) == pytest.approx(0.81)


@pytest.mark.parametrize("answer", ["high", None, float("nan"), float("inf"), [1.0]])
def test_a_scale_that_gives_no_number_says_so(answer):
    rate = TriangularCLR(0.0, 1.0, "1 steps", scale=lambda cycle: answer)
    with pytest.raises(ValueError, match=r"must return a finite number. Received: .* for 1"):
        rate.values(epochs=1, steps_per_epoch=2)
