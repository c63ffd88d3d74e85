"""The decays against values worked out by hand from the formulas of their sources."""

import math

import numpy as np
import pytest
from shapes import written

import keras_lr
from keras_lr import (
    Constant,
    CosineDecay,
    ExponentialDecay,
    InverseSqrtDecay,
    LinearDecay,
    PiecewiseConstant,
    PolynomialDecay,
    StepDecay,
    TimeDecay,
    WarmupStableDecay,
)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(0.1), [0.1, 0.1, 0.1]),
        (
            PiecewiseConstant(["2 steps", "5 steps"], [0.1, 0.3, 0.2]),
            [0.1, 0.1, 0.3, 0.3, 0.3, 0.2, 0.2, 0.2],
        ),
        (StepDecay(0.8, 0.5, "3 steps"), [0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2]),
        (StepDecay(0.8, 0.5, "2.5 steps"), [0.8, 0.8, 0.8, 0.4, 0.4, 0.2]),
        (LinearDecay(0.1, 0.02, "4 steps"), [0.1, 0.08, 0.06, 0.04, 0.02, 0.02]),
        (LinearDecay(0.1, 0.5, "4 steps"), [0.1, 0.2, 0.3, 0.4, 0.5, 0.5]),
        # 5 updates are 4 intervals.
        (LinearDecay(0.1, 0.02, endpoint=True), [0.1, 0.08, 0.06, 0.04, 0.02]),
        (LinearDecay(0.1, 0.02, "5 steps", endpoint=True), [0.1, 0.08, 0.06, 0.04, 0.02, 0.02]),
        # Of 4.5 steps the last update is the fifth, too.
        (LinearDecay(0.1, 0.02, "4.5 steps", endpoint=True), [0.1, 0.08, 0.06, 0.04, 0.02, 0.02]),
        (LinearDecay(0.1, 0.02, "1 steps", endpoint=True), [0.1, 0.02]),
        (PolynomialDecay(1.0, 0.2, 2, "5 steps", endpoint=True), [1.0, 0.65, 0.4, 0.25, 0.2, 0.2]),
        (
            CosineDecay(1.0, endpoint=True),
            [1.0, 0.9330127018922193, 0.75, 0.5, 0.25, 0.0669872981077807, 0.0],
        ),
        # A stage that begins inside a step: updates 3, 4, 5 lie 0.5, 1.5, 2.5 steps into it.
        (
            Constant(1.0).lasting("2.5 steps") >> LinearDecay(1.0, endpoint=True),
            [1.0, 1.0, 1.0, 0.8, 0.4, 0.0],
        ),
        # 0.2 + 0.8 * (3/4, 2/4, 1/4)^2
        (PolynomialDecay(1.0, 0.2, 2, "4 steps"), [1.0, 0.65, 0.4, 0.25, 0.2, 0.2]),
        # DeepLab's power 0.9: 0.5^0.9
        (PolynomialDecay(1.0, 0.0, 0.9, "2 steps"), [1.0, 0.5358867312681466, 0.0]),
        # cos(pi/6) = sqrt(3)/2, cos(pi/3) = 1/2
        (
            CosineDecay(1.0, over="6 steps"),
            [1.0, 0.9330127018922193, 0.75, 0.5, 0.25, 0.0669872981077807, 0.0, 0.0],
        ),
        (
            CosineDecay(0.5, 0.1, over="6 steps"),
            [0.5, 0.4732050807568877, 0.4, 0.3, 0.2, 0.12679491924311228, 0.1, 0.1],
        ),
        # 0.1 / (1, 1.25, 1.5, 1.75, 2, 2.25, 2.5)
        (
            TimeDecay(0.1, 0.5, "2 steps"),
            [0.1, 0.08, 1 / 15, 0.4 / 7, 0.05, 0.4 / 9, 0.04],
        ),
        # 0.1 / (1, 1.5, 1.5 * 2, 1.5 * 2 * 2.5, 1.5 * 2 * 2.5 * 3)
        (
            TimeDecay(0.1, 0.5, "1 steps", compounding=True),
            [0.1, 0.1 / 1.5, 0.1 / 3, 0.1 / 7.5, 0.1 / 22.5],
        ),
        (
            TimeDecay(0.1, 1.0, "2 steps", compounding=True),
            [0.1, 0.1, 0.05, 0.05, 0.1 / 6, 0.1 / 6, 0.1 / 24],
        ),
        (ExponentialDecay(0.16, 0.25, "2 steps", 0.03), [0.16, 0.08, 0.04, 0.03, 0.03]),
        # 0.1 * sqrt(4)^t
        (ExponentialDecay(0.1, 4, "2 steps", 0.9), [0.1, 0.2, 0.4, 0.8, 0.9, 0.9]),
        (StepDecay(0.1, 3, "2 steps", 0.5), [0.1, 0.1, 0.3, 0.3, 0.5, 0.5]),
        (StepDecay(0.8, 0.5, "1 steps", 0.3), [0.8, 0.4, 0.3, 0.3]),
        (ExponentialDecay(0.16, 0.25, "2 steps"), [0.16, 0.08, 0.04, 0.02, 0.01]),
        # 0.6 * (1, 2/sqrt(5), 2/sqrt(6), 2/sqrt(7), 2/sqrt(8), 2/3)
        (
            InverseSqrtDecay(0.6, "4 steps"),
            [
                *(0.6, 0.5366563145999496, 0.4898979485566356),
                *(0.45355736761107268, 0.4242640687119285, 0.4),
            ],
        ),
    ],
    ids=written,
)
def test_values_by_hand(schedule, expected):
    curve = schedule.values(epochs=1, steps_per_epoch=len(expected))
    np.testing.assert_allclose(curve, expected, rtol=1e-14, atol=1e-17)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (PiecewiseConstant([1, "7 steps", "75%"], [1, 2, 3, 4]), {0: 1, 3: 1, 4: 2, 6: 2, 7: 3}),
        (PiecewiseConstant([1, "7 steps", "75%"], [1, 2, 3, 4]), {11: 3, 12: 4, 15: 4}),
        (StepDecay(1.0, 0.1, every=2), {0: 1.0, 7: 1.0, 8: 0.1, 15: 0.1}),
        (StepDecay(1.0, 0.5, every="25%"), {3: 1.0, 4: 0.5, 8: 0.25, 12: 0.125}),
        (LinearDecay(1.0, over=2), {0: 1.0, 1: 0.875, 4: 0.5, 8: 0.0, 15: 0.0}),
        (LinearDecay(1.0, over="50%"), {0: 1.0, 1: 0.875, 4: 0.5, 8: 0.0, 15: 0.0}),
        (LinearDecay(1.0), {0: 1.0, 1: 0.9375, 8: 0.5, 15: 0.0625}),
        (CosineDecay(1.0, over=1.5), {0: 1.0, 1: 0.9330127018922193, 2: 0.75, 3: 0.5, 6: 0.0}),
        (TimeDecay(1.0, 0.25), {0: 1.0, 4: 0.8, 8: 2 / 3, 12: 4 / 7}),
        (ExponentialDecay(1.0, 0.0625), {0: 1.0, 1: 0.5, 2: 0.25, 4: 0.0625}),
        (InverseSqrtDecay(1.0, 1), {0: 1.0, 12: 0.5}),
        (InverseSqrtDecay(1.0, "25%"), {0: 1.0, 12: 0.5}),
    ],
    ids=written,
)
def test_lengths_in_every_unit(schedule, expected):
    """Over 4 epochs of 4 steps."""
    curve = schedule.values(epochs=4, steps_per_epoch=4)
    np.testing.assert_allclose(curve[list(expected)], list(expected.values()), rtol=1e-14)


def test_the_schedule_of_attention_is_all_you_need():
    """min(t^-0.5, t * w^-1.5) of the paper for w = 4, times sqrt(w), so that the peak is 1."""
    curve = InverseSqrtDecay(1.0, "4 steps").warmup("4 steps").values(epochs=1, steps_per_epoch=37)
    expected = {0: 0, 1: 0.25, 2: 0.5, 3: 0.75, 4: 1, 9: 2 / 3, 16: 0.5, 25: 0.4, 36: 1 / 3}
    np.testing.assert_allclose(curve[list(expected)], list(expected.values()), rtol=1e-14)


def test_time_in_an_epoch_is_smooth_but_for_what_steps():
    smooth = ExponentialDecay(1.0, 0.5).values(epochs=3, steps_per_epoch=4)
    assert len(set(smooth)) == 12
    stepped = TimeDecay(1.0, 0.5, compounding=True).values(epochs=3, steps_per_epoch=4)
    assert len(set(stepped)) == 3


def test_values_keep_their_name_in_config_and_repr():
    schedule = PiecewiseConstant([1], [0.1, 0.01])
    assert schedule.get_config() == {"boundaries": [1], "values": [0.1, 0.01]}
    assert repr(schedule) == "PiecewiseConstant(boundaries=(1,), values=(0.1, 0.01))"


def test_a_rate_that_is_always_zero_is_a_mistake_in_a_ramp_only():
    assert not Constant(0.0).values(epochs=1, steps_per_epoch=2).any()
    for shape in (LinearDecay, CosineDecay, PolynomialDecay):
        with pytest.raises(ValueError, match="the rate is always 0"):
            shape(0.0, 0.0)


@pytest.mark.parametrize(
    "boundaries", [[2, 1], [1, 1], ["3 steps", "2 steps"], [1, "3 steps"], ["50%", 1]]
)
def test_boundaries_ascend(boundaries):
    with pytest.raises(ValueError, match="argument `boundaries` must be lengths that ascend"):
        PiecewiseConstant(boundaries, [0.3, 0.2, 0.1]).values(epochs=4, steps_per_epoch=4)


def test_the_schedule_of_the_transformer():
    """``d ** -0.5 * min(n ** -0.5, n * w ** -1.5)`` for d = 4, w = 4 and n = 1, 2, ...

    That is n / 16 up to n = 4, and then 1 / (2 * sqrt(n)).
    """
    rate = InverseSqrtDecay.transformer(d_model=4, warmup_steps=4)
    expected = [0.0625, 0.125, 0.1875, 0.25, 0.22360679774997896, 0.2041241452319315]
    np.testing.assert_allclose(rate.values(epochs=1, steps_per_epoch=6), expected, rtol=1e-14)
    at_9_16_25 = rate.values(epochs=1, steps_per_epoch=25)[[8, 15, 24]]
    np.testing.assert_allclose(at_9_16_25, [1 / 6, 0.125, 0.1], rtol=1e-14)
    once = InverseSqrtDecay.transformer(d_model=16, warmup_steps=1)
    np.testing.assert_allclose(
        once.values(epochs=1, steps_per_epoch=4), [0.25, 0.25 * 0.5**0.5, 0.25 * 3**-0.5, 0.125]
    )
    base = InverseSqrtDecay.transformer(512)
    assert base(3999) == pytest.approx(6.98771242968684e-4, rel=1e-12)
    assert eval(repr(base), vars(keras_lr)) == base


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"d_model": 0}, "`d_model` must be a whole number of at least 1. Received: d_model=0"),
        ({"d_model": 2.5}, "`d_model` must be a whole number"),
        ({"d_model": "512"}, "`d_model` must be a whole number"),
        ({"d_model": 512, "warmup_steps": 0}, "`warmup_steps` must be a whole number of at least"),
    ],
)
def test_what_is_no_transformer_is_refused(arguments, words):
    with pytest.raises((TypeError, ValueError), match=f"InverseSqrtDecay.transformer: .*{words}"):
        InverseSqrtDecay.transformer(**arguments)


# The formulas of timm, Transformers and BERT ------------------------------------------------------


def timm_cosine(t, lr, low, n, k, warmup_lr):
    """`timm.scheduler.CosineLRScheduler._get_lr`, with `warmup_prefix=False`, its default."""
    if t < k:
        return warmup_lr + t * (lr - warmup_lr) / k
    return low + 0.5 * (lr - low) * (1 + math.cos(math.pi * t / n))


def bert(t, lr, n, k):
    """`create_optimizer` of google-research/bert: a linear decay, masked by the warmup."""
    return lr * t / k if t < k else lr * (1 - t / n)


def huggingface_cosine(t, lr, n, k):
    """`transformers.get_cosine_schedule_with_warmup`."""
    if t < k:
        return lr * t / max(1, k)
    return lr * max(0.0, 0.5 * (1.0 + math.cos(math.pi * (t - k) / max(1, n - k))))


def huggingface_restarts(t, lr, n, k, cycles):
    """`transformers.get_cosine_with_hard_restarts_schedule_with_warmup`."""
    if t < k:
        return lr * t / max(1, k)
    progress = (t - k) / max(1, n - k)
    return lr * max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((cycles * progress) % 1.0))))


def huggingface_polynomial(t, lr, n, k, low, power):
    """`transformers.get_polynomial_decay_schedule_with_warmup`."""
    if t < k:
        return lr * t / max(1, k)
    return (lr - low) * (1 - (t - k) / (n - k)) ** power + low


def huggingface_inverse_sqrt(t, lr, k):
    """`transformers.get_inverse_sqrt_schedule`, whose timescale is the warmup by default."""
    return lr * t / max(1, k) if t < k else lr / math.sqrt(t / k)


def huggingface_wsd(t, lr, n, k, m):
    """`transformers.get_wsd_schedule(warmup_type="cosine", decay_type="1-sqrt")`."""
    if t < k:
        return lr * 0.5 * (1.0 - math.cos(math.pi * t / k))
    if t < n - m:
        return lr
    return lr * (1.0 - math.sqrt((t - (n - m)) / m))


FORMULAS = {
    "timm-cosine": (
        lambda t: timm_cosine(t, 0.4, 0.01, 40, 6, 0.02),
        CosineDecay(0.4, 0.01).warmup(6, start=0.02, shift=False),
    ),
    "bert": (lambda t: bert(t, 0.4, 40, 7), LinearDecay(0.4).warmup(7, shift=False)),
    "huggingface-cosine": (
        lambda t: huggingface_cosine(t, 0.4, 40, 6),
        CosineDecay(0.4).warmup(6),
    ),
    "huggingface-restarts": (
        lambda t: huggingface_restarts(t, 0.4, 40, 6, 3),
        CosineDecay(0.4).repeat(3).warmup(6),
    ),
    "huggingface-polynomial": (
        lambda t: huggingface_polynomial(t, 0.4, 40, 6, 0.01, 2.5),
        PolynomialDecay(0.4, 0.01, power=2.5).warmup(6),
    ),
    "huggingface-inverse-sqrt": (
        lambda t: huggingface_inverse_sqrt(t, 0.4, 6),
        InverseSqrtDecay(0.4, timescale=6).warmup(6),
    ),
    "huggingface-wsd": (
        lambda t: huggingface_wsd(t, 0.4, 40, 6, 8),
        WarmupStableDecay(0.4, warmup=0, decay=8, shape="sqrt").warmup(6, shape="cosine"),
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_of_other_libraries(name):
    theirs, ours = FORMULAS[name]
    expected = [theirs(t) for t in range(40)]
    np.testing.assert_allclose(
        ours.values(epochs=40, steps_per_epoch=1), expected, rtol=1e-12, atol=1e-16
    )
