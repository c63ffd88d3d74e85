"""Lengths and the timeline that turns them into steps."""

import math

import numpy as np
import pytest

from keras_lr import LinearDecay, StepDecay, Timeline, UnresolvedLength
from keras_lr._fields.lengths import parse_length


@pytest.mark.parametrize(
    ("length", "amount", "unit"),
    [
        (5, 5.0, "epochs"),
        (2.5, 2.5, "epochs"),
        (np.int64(3), 3.0, "epochs"),
        (np.float32(0.5), 0.5, "epochs"),
        ("1 epoch", 1.0, "epochs"),
        ("0.5 epochs", 0.5, "epochs"),
        ("5epochs", 5.0, "epochs"),
        ("1 step", 1.0, "steps"),
        ("  2000 STEPS ", 2000.0, "steps"),
        ("10_000 steps", 10_000.0, "steps"),
        ("1e3 steps", 1000.0, "steps"),
        ("2.5e-1 epochs", 0.25, "epochs"),
        ("30%", 30.0, "%"),
        ("0.5 %", 0.5, "%"),
        ("100%", 100.0, "%"),
        ("rest", 1.0, "rest"),
        ("Rest", 1.0, "rest"),
    ],
)
def test_a_length_says_its_unit(length, amount, unit):
    assert parse_length(length) == (amount, unit)


@pytest.mark.parametrize(
    "length",
    [
        *("5 bananas", "", "epochs", "30", "-3 epochs", "--3 epochs", "5 epochs 2 steps", "%"),
        *("1__0 steps", "1_ steps", "_1 steps", "1e999 steps", "nan epochs", "inf steps", "ten%"),
        *("0 steps", "0%", "0.0 epochs", "101%", "1e3%", "rest of it", "half", "5 epoch s"),
        *(0, -1, -0.0, math.nan, math.inf, -math.inf),
    ],
)
def test_what_is_no_length_is_a_value_error_that_shows_the_forms(length):
    with pytest.raises(ValueError, match=r"length|share") as caught:
        LinearDecay(0.1, over=length)
    assert str(caught.value).startswith("LinearDecay: argument `over` must be a")
    assert f"Received: over={length!r}" in str(caught.value)


@pytest.mark.parametrize("every", [0, "rest", "soon", None])
def test_what_cannot_be_the_rest_does_not_offer_it(every):
    with pytest.raises((TypeError, ValueError)) as caught:
        StepDecay(0.1, every=every)
    offered = str(caught.value).partition(" Received: ")[0]
    assert offered.endswith(": 5 (epochs), '5 epochs', '2000 steps' or '30%'.")


def test_true_is_no_length_even_after_one_was():
    assert parse_length(1.0) == parse_length(1) == (1.0, "epochs")
    with pytest.raises(TypeError, match="a length"):
        parse_length(True)


@pytest.mark.parametrize("length", [None, True, [5], (1, "epoch"), {"steps": 5}, 3j, b"5 epochs"])
def test_what_cannot_be_a_length_is_a_type_error(length):
    with pytest.raises(
        TypeError, match=r"argument `over` must be a length: 5 .epochs., '5 epochs'"
    ):
        LinearDecay(0.1, over=length)


@pytest.mark.parametrize(
    ("length", "steps"),
    [
        (1, 100),
        (0.07, 7),
        (0.125, 12.5),
        ("3 epochs", 300),
        ("17 steps", 17),
        ("2.5 steps", 2.5),
        ("29%", 261),
        ("0.1%", 0.9),
        ("100%", 900),
        ("rest", 900),
    ],
)
def test_lengths_in_steps(length, steps):
    assert Timeline(steps_per_epoch=100, epochs=9).steps(length) == steps


def test_whole_numbers_of_steps_are_whole():
    timeline = Timeline(steps_per_epoch=391, epochs=1)
    assert [timeline.steps(k / 391) for k in range(1, 392)] == list(range(1, 392))
    shares = Timeline(steps_per_epoch=100, epochs=1)
    assert [shares.steps(f"{k}%") for k in range(1, 101)] == list(range(1, 101))


def test_a_share_is_of_the_part_and_the_rest_is_what_is_left():
    fit = Timeline(steps_per_epoch=10, epochs=8)
    stage = fit.after(20).after(15)
    assert (stage.start, stage.steps("rest"), stage.steps("50%"), stage.steps(1)) == (
        35,
        45,
        40,
        10,
    )
    part = stage.part(20, start=5)
    assert (part.start, part.steps("rest"), part.steps("50%"), part.steps(1)) == (40, 20, 10, 10)
    assert fit.after(1000).steps("rest") == 0


def test_epochs_are_those_of_the_fit():
    stage = Timeline(steps_per_epoch=4, epochs=3).after(6)
    assert stage.epoch([0, 1, 2, 5, 6]).tolist() == [1, 1, 2, 2, 3]


def test_progress_goes_from_zero_to_one():
    timeline = Timeline(steps_per_epoch=4, epochs=1)
    steps = np.array([0.0, 1.0, 2.0, 4.0, 9.0])
    assert timeline.progress(steps, "rest").tolist() == [0.0, 0.25, 0.5, 1.0, 1.0]
    assert timeline.after(4).progress(steps, "rest").tolist() == [0.0, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("timeline", "length"),
    [
        (Timeline(), 1),
        (Timeline(), "30%"),
        (Timeline(), "rest"),
        (Timeline(epochs=3), "2 epochs"),
        (Timeline(epochs=3), "rest"),
        (Timeline(steps_per_epoch=10), "30%"),
        (Timeline(steps_per_epoch=10), "rest"),
        (Timeline.by_epoch(3), "20 steps"),
        (Timeline.by_epoch(None), "30%"),
        (Timeline.by_epoch(None), "rest"),
    ],
)
def test_a_length_that_needs_an_unknown_number_says_what_to_pass(timeline, length):
    with pytest.raises(UnresolvedLength, match=r"steps_per_epoch|in steps or epochs") as caught:
        timeline.steps(length)
    assert repr(length) in str(caught.value)


def test_what_needs_no_unknown_number_is_known():
    assert Timeline().steps("20 steps") == 20
    assert Timeline(steps_per_epoch=10).steps(2) == 20
    assert Timeline.by_epoch(3).steps(2) == 2
    assert Timeline.by_epoch(3).steps("rest") == 3
    assert Timeline.by_epoch(5).steps("30%") == 1.5


@pytest.mark.parametrize("name", ["steps_per_epoch", "epochs"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "10", True, [1]])
def test_a_timeline_takes_positive_numbers(name, value):
    with pytest.raises((TypeError, ValueError), match="must be a finite number above 0") as caught:
        Timeline(**{name: value})
    assert f"{name}={value!r}" in str(caught.value)
