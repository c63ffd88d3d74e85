"""Combinations against values worked out by hand."""

import inspect
import math

import numpy as np
import pytest
from shapes import written

from keras_lr import (
    Clip,
    Constant,
    CosineDecay,
    ExponentialDecay,
    InverseSqrtDecay,
    LinearDecay,
    OneCycle,
    PiecewiseConstant,
    Product,
    Repeat,
    Schedule,
    Sequence,
    StepDecay,
    Sum,
    Timeline,
    TriangularCLR,
    WarmupStableDecay,
)


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("warmup", "(over, start=0.0, shape='linear', shift=True)"),
        ("lasting", "(over)"),
        ("scale", "(factor)"),
        ("clip", "(min=0.0, max=None)"),
        ("repeat", "(times, stretch=1.0, scale=1.0)"),
        ("per_epoch", "()"),
        ("in_graph", "(epochs, steps_per_epoch)"),
        ("values", "(epochs=None, steps_per_epoch=None)"),
        ("plot", "(epochs=None, steps_per_epoch=None, ax=None)"),
    ],
)
def test_names_arguments_and_defaults(name, signature):
    parameters = list(inspect.signature(getattr(Schedule, name)).parameters.values())[1:]
    shown = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters]
    assert f"({', '.join(shown)})" == signature


LINE = LinearDecay(1.0, over="4 steps")


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # Sequences.
        (
            LinearDecay(0.0, 0.1, over="5 steps") >> CosineDecay(0.1),
            [0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.0853553390593274, 0.05, 0.0146446609406726],
        ),
        (LINE >> Constant(0.3), [1, 0.75, 0.5, 0.25, 0.3, 0.3]),
        # A stage that ends early holds until the next begins.
        (LINE.lasting("6 steps") >> Constant(0.3), [1, 0.75, 0.5, 0.25, 0, 0, 0.3, 0.3]),
        # A stage that is cut off ends there.
        (LINE.lasting("2 steps") >> Constant(0.3), [1, 0.75, 0.3, 0.3]),
        # Longer than the fit: cut off.
        (LINE >> LINE, [1, 0.75, 0.5, 0.25, 1, 0.75]),
        # "rest" is what is left of the whole, a share is of the whole of 10.
        (
            LinearDecay(1.0, over="20%") >> LinearDecay(1.0, over="40%") >> LinearDecay(2.0),
            [1, 0.5, 1, 0.75, 0.5, 0.25, 2, 1.5, 1, 0.5],
        ),
        # Inside a part of 5, 40% is 2 and the rest is 3; then half of 10.
        (
            (LinearDecay(1.0, over="40%") >> LinearDecay(3.0)).lasting("50%")
            >> LinearDecay(5.0, over="50%"),
            [1, 0.5, 3, 2, 1, 5, 4, 3, 2, 1],
        ),
        (
            Constant(1.0).lasting("2 steps") >> PiecewiseConstant(["2 steps"], [2.0, 3.0]),
            [1, 1, 2, 2, 3],
        ),
        (
            Constant(1.0).lasting("1 steps") >> StepDecay(8.0, 0.5, "2 steps"),
            [1, 8, 8, 4, 4, 2],
        ),
        (
            Constant(1.0).lasting("1 steps") >> TriangularCLR(0.0, 2.0, "2 steps"),
            [1, 0, 1, 2, 1, 0],
        ),
        (
            Constant(1.0).lasting("2 steps")
            >> WarmupStableDecay(1.0, "1 steps", "2 steps").lasting("rest"),
            [1, 1, 0, 1, 1, 0.5],
        ),
        (
            Constant(1.0).lasting("2 steps") >> OneCycle(1.0, warmup="50%", div=2, shape="linear"),
            [1, 1, 0.5, 0.75, 1, 0.500025],
        ),
        # Warmups.
        (LINE.warmup("2 steps"), [0, 0.5, 1, 0.75, 0.5, 0.25, 0, 0]),
        (LINE.warmup("2 steps", start=0.5), [0.5, 0.75, 1, 0.75]),
        (LINE.warmup("2 steps", start=3.0), [3, 2, 1, 0.75]),
        # (1 - cos(pi w)) / 2, sqrt(w) and w^2 at w = 0, 1/4, 1/2, 3/4
        (
            LINE.warmup("4 steps", shape="cosine"),
            [0, 0.1464466094067263, 0.5, 0.8535533905932737, 1, 0.75],
        ),
        (
            LINE.warmup("4 steps", shape="sqrt"),
            [0, 0.5, 0.7071067811865476, 0.8660254037844386, 1, 0.75],
        ),
        (LINE.warmup("4 steps", 0.2, shape="square"), [0.2, 0.25, 0.4, 0.65, 1, 0.75]),
        # The schedule continues behind a warmup that hides it, and "rest" is all of the fit.
        (LINE.warmup("2 steps", shift=False), [0, 0.5, 0.5, 0.25, 0, 0]),
        (LINE.warmup("2 steps", 3.0, shift=False), [3, 2, 0.5, 0.25, 0]),
        (
            LinearDecay(1.0).warmup("25%", shift=False),
            [0, 0.5, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125],
        ),
        (
            LINE.warmup("2 steps", shift=False) >> Constant(0.3),
            [0, 0.5, 0.5, 0.25, 0.3, 0.3],
        ),
        # It lasts at least as long as the warmup.
        (
            LinearDecay(1.0, 0.4, over="2 steps").warmup("4 steps", shift=False) >> Constant(0.3),
            [0, 0.25, 0.5, 0.75, 0.3],
        ),
        (LINE.warmup(0, shift=False, shape="sqrt"), [1, 0.75, 0.5, 0.25, 0]),
        (LINE.warmup("2 steps").warmup("2 steps", 0.4), [0.4, 0.2, 0, 0.5, 1, 0.75]),
        (LinearDecay(1.0).warmup("50%"), [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25]),
        # Longer than the fit: it rises as far as it gets.
        (LinearDecay(0.8).warmup("8 steps"), [0, 0.1, 0.2, 0.3]),
        (CosineDecay(0.8).warmup("8 steps"), [0, 0.1, 0.2, 0.3]),
        # Lengths.
        (LinearDecay(1.0).lasting("50%"), [1, 0.75, 0.5, 0.25, 0, 0, 0, 0]),
        (LinearDecay(1.0, over="50%").lasting("50%"), [1, 0.5, 0, 0, 0, 0, 0, 0]),
        (ExponentialDecay(1.0, 0.5, "1 steps").lasting("2 steps"), [1, 0.5, 0.25, 0.25]),
        # Arithmetic.
        (2 * LINE, [2, 1.5, 1, 0.5, 0]),
        (LINE * 2, [2, 1.5, 1, 0.5, 0]),
        (np.float64(2) * LINE, [2, 1.5, 1, 0.5, 0]),
        (LINE.scale(0.5), [0.5, 0.375, 0.25, 0.125, 0]),
        (LINE * LINE, [1, 0.5625, 0.25, 0.0625, 0]),
        (LINE * StepDecay(1.0, 0.1, "2 steps"), [1, 0.75, 0.05, 0.025, 0]),
        (Product([LINE, Constant(2), Constant(3)]), [6, 4.5, 3, 1.5]),
        # A product is as long as its longest factor that ends.
        (
            (LINE * Constant(2.0) * LinearDecay(1.0, 0.5, "2 steps")) >> Constant(0.1),
            [2, 1.125, 0.5, 0.25, 0.1],
        ),
        # Sums.
        (LINE + 0.5, [1.5, 1.25, 1, 0.75, 0.5, 0.5]),
        (0.5 + LINE, [1.5, 1.25, 1, 0.75, 0.5, 0.5]),
        (LINE + StepDecay(1.0, 0.5, "2 steps"), [2, 1.75, 1, 0.75, 0.25]),
        (sum([LINE, LINE, LINE]), [3, 2.25, 1.5, 0.75, 0]),
        (2 - LINE, [1, 1.25, 1.5, 1.75, 2, 2]),
        (LINE - 0.125 * LINE - LINE / 8, [0.75, 0.5625, 0.375, 0.1875, 0]),
        (LinearDecay(0.3, 0.1, "4 steps") - 0.1, [0.2, 0.15, 0.1, 0.05, 0, 0]),
        (LINE - -0.5, [1.5, 1.25, 1, 0.75, 0.5]),
        (0.3 + LINE.clip(min=0.1) - 0.1 - 0.3, [0.9, 0.65, 0.4, 0.15, 0]),
        # What is left within rounding of zero is zero: 0.1 + 0.2 is above 0.3.
        (Constant(0.3) - 0.1 - 0.2, [0, 0]),
        # A sum, too, is as long as its longest term that ends.
        ((LINE + 0.1) >> Constant(0.3), [1.1, 0.85, 0.6, 0.35, 0.3]),
        ((LINE + CosineDecay(1.0, over="2 steps")) >> Constant(0.3), [2, 1.25, 0.5, 0.25, 0.3]),
        (LINE.clip(0.3, 0.6), [0.6, 0.6, 0.5, 0.3, 0.3]),
        (LINE.clip(max=0.6), [0.6, 0.6, 0.5, 0.25, 0]),
        (LINE.clip(0.5, 0.5), [0.5, 0.5, 0.5]),
        # Repetition.
        (
            LinearDecay(1.0, over="2 steps").repeat(3),
            [1, 0.5, 1, 0.5, 1, 0.5, 0, 0],
        ),
        (
            LinearDecay(1.0, over="2 steps").repeat(2, stretch=2),
            [1, 0.5, 1, 0.75, 0.5, 0.25, 0, 0],
        ),
        (
            LinearDecay(1.0, 0.5, over="2 steps").repeat(3, scale=0.5),
            [1, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.125],
        ),
        # Cycles without a length of their own share the whole: 2 + 4 steps, and 3 + 3.
        (LinearDecay(1.0).repeat(2, stretch=2), [1, 0.5, 1, 0.75, 0.5, 0.25]),
        (StepDecay(1.0, 0.5, "1 steps").repeat(2), [1, 0.5, 0.25, 1, 0.5, 0.25]),
        # Shares and the rest inside are of the cycle of 4.
        (
            (LinearDecay(0.0, 1.0, over="50%") >> LinearDecay(1.0)).repeat(2),
            [0, 0.5, 1, 0.5, 0, 0.5, 1, 0.5],
        ),
        (
            LinearDecay(1.0, over="2 steps").repeat(2) >> Constant(0.1),
            [1, 0.5, 1, 0.5, 0.1, 0.1],
        ),
        (LinearDecay(1.0).repeat(2).lasting("50%"), [1, 0.5, 1, 0.5, 0, 0, 0, 0]),
        (
            LinearDecay(1.0, over="2 steps").repeat(2).repeat(2, scale=2),
            [1, 0.5, 1, 0.5, 2, 1, 2, 1],
        ),
    ],
    ids=written,
)
def test_values_by_hand(schedule, expected):
    curve = schedule.values(epochs=1, steps_per_epoch=len(expected))
    np.testing.assert_allclose(curve, expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # 10 steps of warmup, then a cosine over the 170 that are left.
        (CosineDecay(0.1).warmup(5), {0: 0, 5: 0.05, 10: 0.1, 95: 0.05, 179: 8.537477e-06}),
        (CosineDecay(0.1).per_epoch().warmup(5), {9: 0.09, 10: 0.1, 11: 0.1, 95: 0.0509239}),
        (LinearDecay(1.0).per_epoch(), {0: 1, 1: 1, 2: 89 / 90, 3: 89 / 90, 179: 1 / 90}),
        # A stage that begins inside an epoch has its own first value till the epoch's end.
        (
            Constant(9.0).lasting("1 steps") >> LinearDecay(1.0, over="10 steps").per_epoch(),
            {0: 9, 1: 1, 2: 0.9, 3: 0.9, 4: 0.7, 5: 0.7},
        ),
    ],
    ids=written,
)
def test_over_90_epochs_of_2_steps(schedule, expected):
    curve = schedule.values(epochs=90, steps_per_epoch=2)
    np.testing.assert_allclose(curve[list(expected)], list(expected.values()), rtol=1e-6)


def test_stages_behind_a_warmup_that_hides_them():
    stages = Constant(0.3).lasting("3 steps") >> Constant(0.2).lasting("2 steps") >> Constant(0.1)
    rate, timeline = stages.warmup("4 steps", shift=False), Timeline(10, 1)
    assert rate.stage_starts(timeline) == [4.0, 5.0]
    assert rate.unreached_stages(timeline) == []
    assert rate.unreached_stages(Timeline(5, 1)) == [f"{Constant(0.1)!r} begins"]
    assert rate.unreached_stages(Timeline(4, 1)) == [f"{stages!r} begins"]
    assert stages.warmup("4 steps").stage_starts(timeline) == [4.0, 7.0, 9.0]


def test_a_longer_warmup_leaves_less_for_the_rest():
    one = CosineDecay(0.1).warmup(5).values(epochs=90, steps_per_epoch=1)
    two = CosineDecay(0.1).values(epochs=85, steps_per_epoch=1)
    np.testing.assert_allclose(one[5:], two, rtol=1e-12)


def test_sequences_are_flat_and_scaling_is_not_a_product():
    a, b, c = LINE, LinearDecay(2.0, over=2), CosineDecay(3.0)
    assert (a >> b >> c) == (a >> (b >> c)) == Sequence([a, b, c])
    assert repr(LINE.clip(max=0.5) >> Constant(0.1)) == (
        "Sequence(stages=(Clip(schedule=LinearDecay(initial_lr=1.0, over='4 steps'), max=0.5), "
        "Constant(lr=0.1)))"
    )


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        (CosineDecay(0.1), "takes the rest of its part"),
        (OneCycle(0.1), "takes the rest of its part"),
        (WarmupStableDecay(0.1), "takes the rest of its part"),
        (LinearDecay(0.1).repeat(2), "takes the rest of its part"),
        (CosineDecay(0.1).warmup(5), "takes the rest of its part"),
        (CosineDecay(0.1).lasting("rest"), "takes the rest of its part"),
        (CosineDecay(0.1, over=" Rest "), "takes the rest of its part"),
        (CosineDecay(0.1) * StepDecay(0.1), "takes the rest of its part"),
        (Constant(0.1), "never ends"),
        (StepDecay(0.1).clip(0.01), "never ends"),
        (TriangularCLR(0.01, 0.1), "never ends"),
        (InverseSqrtDecay(0.1, 3).warmup(3), "never ends"),
        (2 * Constant(0.1).per_epoch(), "never ends"),
        (LINE >> Constant(0.1), "never ends"),
    ],
    ids=written,
)
def test_a_stage_that_leaves_no_place_for_the_next_is_an_error(stage, words):
    with pytest.raises(ValueError, match=rf"^Sequence: stage \d, .*{words}.*\.lasting\(") as caught:
        stage >> Constant(0.3)
    assert repr(getattr(stage, "stages", [stage])[-1]) in str(caught.value)
    assert isinstance(stage.lasting(2) >> Constant(0.3), Sequence)


@pytest.mark.parametrize("rate", [0.01, 1, np.float32(0.25)])
def test_a_number_can_be_the_last_stage(rate):
    assert LINE >> rate == LINE >> Constant(rate) == LINE.then(rate)


@pytest.mark.parametrize("schedule", [LINE, LINE.warmup(1), LINE.repeat(2), 2 * LINE, LINE * LINE])
def test_what_has_a_length_can_be_a_stage(schedule):
    assert schedule.duration_kind == "own"
    assert len((schedule >> Constant(0.1)).stages) == 2


@pytest.mark.parametrize(
    "combine",
    [
        lambda: LINE >> "0.1",
        lambda: 0.1 >> LINE,
        lambda: LINE * "2",
        lambda: [2] * LINE,
        lambda: LINE * None,
        lambda: LINE + "2",
        lambda: LINE - None,
        lambda: None + LINE,
    ],
)
def test_only_schedules_and_numbers_combine(combine):
    with pytest.raises(TypeError, match=r"unsupported operand|multiply sequence"):
        combine()


@pytest.mark.parametrize(
    ("combine", "words"),
    [
        (lambda: -1 * LINE, "Scaled: argument `factor` must be .* above 0. Received: factor=-1"),
        (lambda: 0 * LINE, "Scaled: argument `factor` must be .* above 0. Received: factor=0"),
        (lambda: float("nan") * LINE, "Scaled: argument `factor` must be a finite number"),
        (lambda: LINE.clip(0.2, 0.1), "Clip: argument `max` must be at least min=0.2"),
        (lambda: LINE.clip(-0.1), "Clip: argument `min` must be .*at least 0. .*min=-0.1"),
        (
            lambda: LINE.repeat(0),
            "Repeat: argument `times` must be a whole number from 1 to 1,000,000",
        ),
        (lambda: LINE.repeat(1.5), "Repeat: argument `times` must be a whole number"),
        (lambda: LINE.repeat(2, stretch=0), "Repeat: argument `stretch` must be"),
        (lambda: LINE.repeat(2, scale=-1), "Repeat: argument `scale` must be .*scale=-1"),
        (
            lambda: LINE.repeat(2000, stretch=2.0),
            "Repeat: argument `stretch` must be small enough .* 2000 .* length. .*: stretch=2.0",
        ),
        (lambda: LINE.repeat(1024, stretch=2), "Repeat: argument `stretch` must be small enough"),
        (
            lambda: LINE.repeat(2000, scale=1e5),
            "Repeat: argument `scale` must be small enough .* height. Received: scale=100000.0",
        ),
        (lambda: LINE.repeat(10**300), "Repeat: argument `times` must be .* to 1,000,000"),
        (lambda: LINE.warmup("rest"), "Warmup: argument `over` must be a length of its own"),
        (lambda: LINE.warmup(-1), "Warmup: argument `over` must be a length of at least 0"),
        (lambda: LINE.warmup(1, shape="sin"), "argument `shape` must be one of 'linear', 'cosine'"),
        (lambda: LINE.warmup(1, start=-1), "Warmup: argument `start` must be .*start=-1"),
        (lambda: LINE.lasting("5 bananas"), "Lasting: argument `over` must be a length"),
        (lambda: Sequence([]), "Sequence: argument `stages` must be a list of at least 1"),
        (lambda: Sum([]), "Sum: argument `terms` must be a list of at least 1"),
        (lambda: LINE + math.nan, "Constant: argument `lr` must be a finite number"),
        (lambda: Product([]), "Product: argument `factors` must be a list of at least 1"),
    ],
)
def test_wrong_arguments_say_so(combine, words):
    with pytest.raises(ValueError, match=words):
        combine()


@pytest.mark.parametrize(
    "combine",
    [
        lambda: Sequence([LINE, 0.1]),
        lambda: Sequence(LINE),
        lambda: Product([LINE, None]),
        lambda: Clip(0.1),
        lambda: Repeat("LinearDecay", 2),
    ],
)
def test_parts_must_be_schedules(combine):
    with pytest.raises(TypeError, match=r"a schedule, such as CosineDecay\(0.1\). Received"):
        combine()
