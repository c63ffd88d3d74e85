"""Lengths and rates at the ends of what numbers can hold: a finite curve, or an error."""

import json
import math
import warnings

import keras
import numpy as np
import pytest
from configs import validator
from models import fit, meter, settled

import keras_lr
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
    StepDecay,
    TimeDecay,
    Timeline,
    TriangularCLR,
    WarmupStableDecay,
)
from keras_lr.cli.main import main

LARGEST = 3.4028234663852886e38
LENGTHS = [
    *("1e-99 epochs", "1e-12 steps", "1e-10%", 1e-300, 5e-324, "1e-9 steps", "1.1e-9 steps"),
    *("1e99 steps", "1e99 epochs", 1e15, 1e150, 3e-9, 1 + 1e-13),
]
OF_LENGTH = {
    "LinearDecay": lambda length: LinearDecay(0.1, over=length),
    "CosineDecay": lambda length: CosineDecay(0.1, over=length),
    "StepDecay": lambda length: StepDecay(0.1, every=length),
    "ExponentialDecay": lambda length: ExponentialDecay(0.1, every=length),
    "TimeDecay": lambda length: TimeDecay(0.1, 0.1, every=length),
    "TimeDecay-slow": lambda length: TimeDecay(0.1, 1e-12, every=length, compounding=True),
    "TimeDecay-compounding": lambda length: TimeDecay(0.1, 0.1, every=length, compounding=True),
    "InverseSqrtDecay": lambda length: InverseSqrtDecay(0.1, length),
    "PiecewiseConstant": lambda length: PiecewiseConstant([length], [0.1, 0.2]),
    "TriangularCLR": lambda length: TriangularCLR(0.1, 1.0, step_size=length),
    "TriangularCLR-down": lambda length: TriangularCLR(0.1, 1.0, 1, step_size_down=length),
    "TriangularCLR-exp": lambda length: TriangularCLR(0.1, 1.0, length, "exp_range", 1e-300),
    "CosineRestarts": lambda length: CosineRestarts(0.1, first_cycle=length),
    "CosineRestarts-even": lambda length: CosineRestarts(0.1, 0.0, length, cycle_mult=1),
    "CosineRestarts-slow": lambda length: CosineRestarts(0.1, 0.0, length, 1.0000001, 0.999),
    "CosineRestarts-fast": lambda length: CosineRestarts(0.1, 0.0, length, 1e300),
    "OneCycle": lambda length: OneCycle(0.1, over=length),
    "OneCycle-warmup": lambda length: OneCycle(0.1, warmup=length),
    "WarmupStableDecay": lambda length: WarmupStableDecay(0.1, length, length),
    "Function": lambda length: Function(lambda epoch: 0.1).lasting(length) >> Constant(0.2),
    "Warmup": lambda length: CosineDecay(0.1).warmup(length),
    "Lasting": lambda length: CosineDecay(0.1).lasting(length) >> CosineDecay(0.1),
    "Repeat": lambda length: CosineDecay(0.1, over=length).repeat(3),
    "Repeat-many": lambda length: CosineDecay(0.1, over=length).repeat(10**6, stretch=1.0000001),
    "Repeat-shrinking": lambda length: CosineDecay(0.1, over=length).repeat(1000, stretch=0.5),
    "Repeat-growing": lambda length: CosineDecay(0.1, over=length).repeat(900, stretch=2.0),
    "PerEpoch": lambda length: StepDecay(0.1, every=length).per_epoch(),
    "Product": lambda length: StepDecay(0.1, every=length) * CosineDecay(0.1, over=length),
    "Sum": lambda length: StepDecay(0.1, every=length) + CosineDecay(0.1, over=length),
}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", OF_LENGTH)
def test_a_length_of_any_size_gives_a_curve_or_an_error(name, length):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            curve = OF_LENGTH[name](length).values(epochs=2, steps_per_epoch=5)
        except ValueError as error:
            curve, text = None, str(error)
    if curve is None:
        words = (
            "longer than the whole",
            "leaves nothing",
            "more steps than any float holds",
            "comes to",
        )
        assert any(word in text for word in (str(length), *words))
    else:
        assert np.isfinite(curve).all()
        assert curve.shape == (10,)


@pytest.mark.parametrize("length", ["1e-12 steps", "1e-15%", 1e-300])
@pytest.mark.parametrize("make", [StepDecay, CosineDecay, CosineRestarts, LinearDecay])
def test_a_length_that_comes_to_nothing_says_so(make, length):
    field = {StepDecay: "every", CosineRestarts: "first_cycle"}.get(make, "over")
    with pytest.raises(ValueError, match=r"comes to .* steps\. Give a longer one\."):
        make(0.1, **{field: length}).values(epochs=2, steps_per_epoch=5)


def test_growth_by_next_to_nothing_is_no_growth():
    slow, even = (CosineRestarts(1.0, 0.0, "4 steps", mult) for mult in (1 + 1e-13, 1.0))
    size = {"epochs": 1, "steps_per_epoch": 4000}
    np.testing.assert_allclose(slow.values(**size), even.values(**size), atol=1e-6)
    line = LinearDecay(1.0, over="4 steps")
    slow, even = line.repeat(1000, stretch=1 + 1e-13), line.repeat(1000)
    np.testing.assert_allclose(slow.values(**size), even.values(**size), atol=1e-6)


def test_restarts_stand_where_their_lengths_add_up_to():
    """Cycles of 10, 11, 12.1, 13.31 steps begin at 0, 10, 21, 33.1, 46.41."""
    rate = CosineRestarts(1.0, first_cycle="10 steps", cycle_mult=1.1)
    curve = rate.values(epochs=1, steps_per_epoch=40)
    half_cosine = [(1 + math.cos(math.pi * t / 12.1)) / 2 for t in range(13)]
    np.testing.assert_allclose(curve[21:34], half_cosine, rtol=1e-9)
    assert curve[34] == pytest.approx((1 + math.cos(math.pi * 0.9 / 13.31)) / 2, rel=1e-9)


def test_a_million_slowly_growing_cycles():
    """Cycle k begins at (1.0000001**k - 1) / 1e-7, which for k = 10**6 is 1051709.2."""
    rate = CosineRestarts(1.0, 0.0, "1 steps", cycle_mult=1.0000001)
    start = math.expm1(1e6 * math.log(1.0000001)) / 1e-7
    into = rate(np.array([math.ceil(start)]), Timeline(1, 1))[0]
    done = (math.ceil(start) - start) / 1.0000001**10**6
    assert into == pytest.approx((1 + math.cos(math.pi * done)) / 2, abs=1e-3)


@pytest.mark.parametrize("rate", [1e-4, 1e-8, 1.1e-9, 0.9e-9, 1e-10])
def test_a_compounding_decay_is_the_product_of_its_factors(rate):
    decay = TimeDecay(1.0, rate, every="1 steps", compounding=True)
    count = min(3 * 10**5, int(10 / math.sqrt(rate)))
    expected = math.exp(-math.fsum(np.log1p(rate * np.arange(count + 1.0)).tolist()))
    assert decay(count, Timeline(1, 1)) == pytest.approx(expected, rel=1e-9)
    assert decay(10**15, Timeline(1, 1)) < 1e-300


@pytest.mark.parametrize("name", ["StepDecay", "ExponentialDecay", "TimeDecay", "CosineDecay"])
def test_steps_and_epochs_beyond_two_to_the_31(name):
    length = 2**33
    shape = {
        "StepDecay": StepDecay(1.0, 0.5, every=f"{length} steps"),
        "ExponentialDecay": ExponentialDecay(1.0, 0.5, every=f"{length} steps"),
        "TimeDecay": TimeDecay(1.0, 1.0, every=f"{length} steps"),
        "CosineDecay": CosineDecay(1.0, over=f"{2 * length} steps"),
    }[name]
    assert shape(length) == pytest.approx(0.5, rel=1e-12)
    by_epoch = Function(lambda epoch: 0.25 if epoch == 3 * 10**9 else 0.5)
    assert by_epoch(6 * 10**9, Timeline(2, 4e9)) == 0.25
    assert shape.per_epoch()(length, Timeline(2**20, 2**20)) == pytest.approx(0.5, rel=1e-12)


@pytest.mark.core
def test_in_the_graph_a_late_step_is_late():
    rate = LinearDecay(1.0, 0.25).in_graph(epochs=1, steps_per_epoch=4)
    assert float(rate(3 * 10**9)) == float(rate(np.int64(2**40))) == 0.25
    assert keras.ops.convert_to_numpy(rate(np.array([0, 2**33]))).tolist() == [1.0, 0.25]


# Rates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda rate: Constant(rate),
        lambda rate: LinearDecay(0.1, rate),
        lambda rate: CosineRestarts(rate),
        lambda rate: PiecewiseConstant([1], [0.1, rate]),
        lambda rate: Constant(0.1).clip(max=rate),
        lambda rate: Constant(0.1).warmup(1, start=rate),
        lambda rate: Function(lambda epoch, lr: lr, rate),
        lambda rate: keras_lr.ReduceLROnPlateau(min_lr=rate),
        lambda rate: keras_lr.LRRangeTest(max_lr=rate),
    ],
)
@pytest.mark.filterwarnings("ignore:.*rises to a rate")
def test_a_rate_beyond_float32_is_refused_when_built(make):
    make(LARGEST)
    with pytest.raises(ValueError, match=r"at most 3.4028e\+38, the largest that float32 has"):
        make(np.nextafter(LARGEST, math.inf))


def untouched(model):
    return not settled(model).get_weights()[0].any()


TOO_HIGH = {
    "at once": Constant(1e30) * Constant(1e30),
    "scaled": 1e300 * Constant(1e30),
    "scaled twice": 1e300 * (1e300 * Constant(1e30)),
    "later": LinearDecay(0.0, 1e30, over=2) * LinearDecay(0.0, 1e30, over=2),
    "sum": Constant(LARGEST) + LinearDecay(0.0, 1e38),
    "below zero later": LinearDecay(1.0) - 0.5,
    "repeated": Constant(1e38).lasting(1).repeat(3, scale=2.0),
}


@pytest.mark.core
@pytest.mark.filterwarnings("ignore:.*rises to a rate")
@pytest.mark.parametrize("name", TOO_HIGH)
def test_what_leaves_the_range_is_refused_before_the_first_update(name):
    schedule, model = TOO_HIGH[name], meter()
    with pytest.raises(ValueError, match=r"gives learning_rate=.* must be finite and not negative"):
        fit(model, schedule, epochs=3)
    assert untouched(model)
    advice = r"\.clip\(min=0\.0\)" if name == "below zero later" else r"\.clip\(max=\.\.\.\)"
    for curve in (schedule.values, schedule.in_graph):
        with pytest.raises(ValueError, match=f"gives the rate .*append {advice}"):
            curve(epochs=3, steps_per_epoch=5)


def test_a_rate_is_as_high_as_float32_allows():
    product = Constant(LARGEST) * Constant(0.5) * Constant(2.0)
    assert product.values(epochs=1, steps_per_epoch=1).tolist() == [LARGEST]


# Lengths of nothing ------------------------------------------------------------------------------

SIZE = {"epochs": 4, "steps_per_epoch": 5}


@pytest.mark.parametrize("zero", [0, 0.0, "0 steps", "0%", "0 epochs"])
def test_a_length_of_0_leaves_a_part_out(zero):
    plain = CosineDecay(0.1).values(**SIZE)
    line, constant = LinearDecay(1.0, 0.5), Constant(0.3)
    for schedule, expected in (
        (CosineDecay(0.1).warmup(zero), plain),
        (CosineDecay(0.1).warmup(zero, start=0.05), plain),
        (constant.lasting(zero) >> CosineDecay(0.1), plain),
        (CosineDecay(0.1).lasting(2) >> constant.lasting(zero), CosineDecay(0.1).lasting(2)),
        (line.lasting(2) >> constant.lasting(zero) >> line, line.lasting(2) >> line),
        (OneCycle(0.1, warmup=zero, div=4, final_div=5), CosineDecay(0.1, 0.005)),
        (WarmupStableDecay(0.1, zero, zero), Constant(0.1)),
        (WarmupStableDecay(0.1, zero, "50%"), Constant(0.1).lasting("50%") >> LinearDecay(0.1)),
        (WarmupStableDecay(0.1, 1, zero), Constant(0.1).warmup(1)),
    ):
        expected = expected if isinstance(expected, np.ndarray) else expected.values(**SIZE)
        np.testing.assert_allclose(schedule.values(**SIZE), expected, rtol=1e-12, atol=1e-17)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda nothing: 2 * nothing,
        lambda nothing: nothing.clip(max=0.2).per_epoch(),
        lambda nothing: nothing * Constant(2.0),
        lambda nothing: nothing + nothing,
        lambda nothing: nothing.repeat(3),
        lambda nothing: nothing.warmup(0),
        lambda nothing: nothing >> 3 * nothing,
    ],
)
def test_what_wraps_a_length_of_0_is_left_out_as_well(wrap):
    nothing, line = wrap(Constant(0.1).lasting(0)), LinearDecay(1.0, 0.5)
    for schedule, expected in (
        (nothing >> line, line),
        (line.lasting(2) >> nothing, line.lasting(2)),
        (line.lasting(2) >> nothing >> line, line.lasting(2) >> line),
    ):
        np.testing.assert_array_equal(schedule.values(**SIZE), expected.values(**SIZE))
        assert schedule.unreached_stages(Timeline(5, 4)) == []


@pytest.mark.parametrize("zero", [0, 0.0, "0 steps", "0%", "0 epochs"])
@pytest.mark.parametrize(
    "config",
    [
        lambda zero: {"Warmup": {"schedule": {"CosineDecay": {"initial_lr": 0.1}}, "over": zero}},
        lambda zero: {"OneCycle": {"max_lr": 0.1, "warmup": zero}},
        lambda zero: {"WarmupStableDecay": {"max_lr": 0.1, "warmup": zero, "decay": zero}},
        lambda zero: {
            "Sequence": [
                {"Lasting": {"schedule": {"Constant": {"lr": 0.3}}, "over": zero}},
                {"CosineDecay": {"initial_lr": 0.1}},
            ]
        },
    ],
    ids=["Warmup", "OneCycle", "WarmupStableDecay", "Lasting"],
)
def test_a_config_may_hold_a_length_of_0(config, zero, tmp_path, capsys):
    path = tmp_path / "lr.json"
    path.write_text(json.dumps(config(zero)))
    validator.validate(config(zero))
    (schedule,) = keras_lr.load(path)
    assert keras_lr.from_config(keras_lr.to_config(schedule)) == schedule
    assert schedule(0, Timeline(5, 4)) == 0.1
    assert main(["check", str(path)]) == 0
    assert main(["preview", str(path), "--epochs", "4", "--steps-per-epoch", "5"]) == 0
    assert "learning rate" in capsys.readouterr().out


@pytest.mark.parametrize("zero", [0, "0 steps", "0%"])
@pytest.mark.parametrize("name", ["CosineDecay", "LinearDecay", "PolynomialDecay"])
def test_a_config_of_a_decay_over_nothing_is_an_error(name, zero):
    config = {name: {"initial_lr": 0.1, "over": zero}}
    assert not validator.is_valid(config)
    with pytest.raises(keras_lr.ConfigError, match="over: must be a positive length"):
        keras_lr.from_config(config)


def test_a_part_of_length_0_is_no_stage_that_never_begins():
    schedule = LinearDecay(1.0, over=4) >> Constant(0.1).lasting(0)
    assert schedule.unreached_stages(Timeline(5, 4)) == []
    assert schedule(np.arange(30), Timeline(5, 4))[20:].tolist() == [0.0] * 10
    nothing = Constant(0.1).lasting(0) >> Constant(0.2).lasting(0)
    assert (nothing >> Constant(0.3)).values(**SIZE).tolist() == [0.3] * 20


def test_a_momentum_without_a_warmup_only_rises():
    moved = OneCycle(0.1, warmup=0, shape="linear").hyperparameter_schedules(
        keras.optimizers.SGD(0.1, momentum=0.9)
    )
    curve = moved["momentum"].values(epochs=1, steps_per_epoch=5)
    np.testing.assert_allclose(curve, [0.85, 0.87, 0.89, 0.91, 0.93])


@pytest.mark.parametrize("make", [LinearDecay, CosineDecay, OneCycle])
def test_a_decay_over_nothing_is_an_error(make):
    with pytest.raises(ValueError, match="`over` must be a positive length"):
        make(0.1, over=0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("epoch", [2**31, 2**53, 2**63, 2**70])
def test_a_function_of_the_epoch_gets_the_number_of_any_epoch(epoch):
    rate = Function(lambda number: 0.25 if number == epoch else 0.5)
    assert rate(float(epoch), Timeline(1, 2.0**80)) == 0.25
    keras_schedule = keras.optimizers.schedules.PiecewiseConstantDecay([5], [1.0, 0.125])
    assert Function(keras_schedule)(float(epoch), Timeline(1, 2.0**80)) == 0.125


def test_a_rate_that_follows_from_the_one_before_is_not_followed_without_end():
    rate = Function(lambda epoch, lr: lr, initial_lr=0.5)
    with pytest.raises(ValueError, match="epoch 1099511627776 is more than 10,000,000 epochs"):
        rate(2**40, Timeline(1, 2**50))
    assert rate(1000, Timeline(1, 2**50)) == 0.5


@pytest.mark.parametrize("beyond", [False, True])
def test_a_whole_number_is_compared_with_a_bound_exactly(beyond):
    for config in (
        {"Constant": {"lr": int(LARGEST) + beyond}},
        {"LinearDecay": {"initial_lr": 0.1, "over": int(1e150) + beyond}},
        {"Clip": {"schedule": {"Constant": {"lr": 0.1}}, "max": int(LARGEST) + beyond}},
    ):
        assert validator.is_valid(config) != beyond
        if beyond:
            with pytest.raises(keras_lr.ConfigError, match=r"at most (1e\+150|3.4028e\+38)"):
                keras_lr.from_config(config)
        else:
            keras_lr.from_config(config)


def test_an_array_without_dimensions_is_a_number():
    plain = keras_lr.CosineDecay(0.5, 0.25, over=3)
    made = keras_lr.CosineDecay(np.array(0.5), np.array(0.25, "float32"), over=np.array(3))
    assert made == plain
    assert keras_lr.to_config(made) == keras_lr.to_config(plain)
    assert keras_lr.StepDecay(0.1, every=np.array(2.5)) == keras_lr.StepDecay(0.1, every=2.5)
    plateau = keras_lr.ReduceLROnPlateau(patience=np.array(3))
    assert plateau.get_config()["patience"] == 3
    for wrong in (np.array([0.5]), np.array(True), np.array("a")):
        with pytest.raises(TypeError, match="`initial_lr` must be a finite number"):
            keras_lr.CosineDecay(wrong)
    with pytest.raises(ValueError, match=r"at most 3\.4028e"):
        keras_lr.Constant(np.array(1e39))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2,000 steps", "2000 steps"),
        ("1,234,567 steps", "1234567 steps"),
        ("2,5 epochs", "2.5 epochs"),
        ("12,5%", "12.5%"),
        ("12,5 bananas", None),
        ("1,2,3 steps", None),
    ],
)
def test_a_comma_in_a_length_is_answered_by_the_number_without(text, written):
    with pytest.raises(ValueError, match="`over` must be a length: 5") as caught:
        keras_lr.CosineDecay(0.1, over=text)
    hint = "" if written is None else f"; write {written!r}, without a comma"
    assert f"'rest'{hint}. Received: over={text!r}" in str(caught.value)
    if written is not None:
        assert keras_lr.CosineDecay(0.1, over=written)


def test_a_comma_in_a_whole_number_of_steps():
    with pytest.raises(ValueError, match="; write '2000 steps', without a comma"):
        keras_lr.ReduceLROnPlateau(patience="2,000 steps")
