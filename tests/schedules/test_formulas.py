"""What the formulas of schedules share."""

import functools
import math
import operator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from keras_lr import (
    Constant,
    CosineDecay,
    CosineRestarts,
    Function,
    LinearDecay,
    StepDecay,
    TimeDecay,
    Timeline,
    TriangularCLR,
)
from keras_lr.schedules.formulas import half_cosine, lerp, periods, pieces, place, power, span

whole = st.lists(st.integers(0, 40).map(float), max_size=30).map(np.array)


@given(st.floats(0.0, 1.0))
def test_half_a_cosine(done):
    assert half_cosine(done) == pytest.approx((1 - math.cos(math.pi * done)) / 2, abs=3e-16)


def test_half_a_cosine_keeps_its_digits_near_zero():
    # The series (pi * x) ** 2 / 4 is exact there; 1 - cos(pi * x) would be 0.
    assert half_cosine(1e-9) == pytest.approx(math.pi**2 / 4 * 1e-18, rel=1e-15)


@given(st.floats(1e-3, 1.0), st.floats(0.0, 1000.0))
def test_a_power(base, exponent):
    np.testing.assert_allclose(power(base, np.array([exponent])), base**exponent, rtol=1e-12)


rates = st.one_of(st.floats(0.0, 1e3), st.integers(0, 1000).map(lambda n: n / 1000))


@given(rates, rates, st.floats(0.0, 1.0))
@example(0.0, 2.225073858507e-311, 0.75)
def test_both_ends_of_a_line_are_exact_and_what_lies_between_is_close(start, end, weight):
    value = lerp(start, end, np.array([0.0, weight, 1.0]))
    assert value[0] == start
    assert value[2] == end
    exact = (1 - Fraction(weight)) * Fraction(start) + Fraction(weight) * Fraction(end)
    # The least numbers that there are stand one such step apart, whatever their size.
    smallest = Fraction(math.ulp(0.0))
    assert abs(Fraction(value[1]) - exact) <= Fraction(4e-16) * Fraction(max(start, end)) + smallest


@given(rates, rates)
@example(0.03, 0.3)
@example(0.059, 0.559)
def test_a_span_reaches_the_higher_end(one, other):
    low, high = min(one, other), max(one, other)
    assert high <= low + span(low, high) <= high * (1 + 4e-16)


@given(whole, st.sampled_from([1.0, 3.0, 7.5, 100.0]))
def test_each_step_lies_in_its_period(step, period):
    found = periods(step, period)
    assert np.broadcast_to(found, step.shape).tolist() == [math.floor(t / period) for t in step]
    assert found.size == (1 if len({t // period for t in step}) == 1 else step.size)


@given(st.integers(1, 30), st.integers(1, 1000), st.integers(0, 400))
def test_a_boundary_on_a_whole_step_takes_effect_at_it(tenths, steps_per_epoch, number):
    """Lengths of some tenths of an epoch, which no float holds exactly."""
    step, length = number * tenths * steps_per_epoch, tenths / 10
    assume(step % 10 == 0)
    step, timeline = step // 10, Timeline(steps_per_epoch, 10**6)
    # Alone, and beside a step of the period before.
    for steps in (np.array([step]), np.array([max(step - 1, 0), step])):
        assert StepDecay(1.0, every=length)(steps, timeline)[-1] == 0.5**number
        assert CosineRestarts(1.0, 0.0, length, cycle_mult=1.0)(steps, timeline)[-1] == 1.0
        assert LinearDecay(1.0, over=length).repeat(500)(steps, timeline)[-1] == 1.0
        assert 0.0 <= TriangularCLR(0.0, 1.0, length / 2)(steps, timeline)[-1] < 1e-9


def test_stages_begin_at_the_whole_step_that_their_lengths_add_up_to():
    tenth = Constant(0.5).lasting(0.1)
    rate = functools.reduce(operator.rshift, [tenth] * 10) >> Constant(1.0)
    assert rate(np.array([468, 469]), Timeline(469, 3)).tolist() == [0.5, 1.0]


@pytest.mark.parametrize("steps", [170, 469])
def test_no_rate_is_below_zero(steps):
    for size in (0.99, 0.3, 1.7):
        for down in (None, 0.7):
            curve = TriangularCLR(0.0, 0.1, size, step_size_down=down)
            assert curve.values(epochs=100, steps_per_epoch=steps).min() >= 0.0


@given(whole)
def test_each_step_lies_in_its_piece(step):
    index = np.broadcast_to(place([0.0, 10.0, 25.0], step), step.shape)
    assert index.tolist() == [0 if t < 10 else 1 if t < 25 else 2 for t in step]


@given(whole)
def test_each_piece_is_asked_for_its_steps(step):
    found = np.full(step.shape, np.nan)
    for i, where in pieces(step, [0.0, 10.0, 25.0]):
        found[where] = 100 * i + step[where]
    expected = [t if t < 10 else 100 + t if t < 25 else 200 + t for t in step]
    assert np.broadcast_to(found, step.shape).tolist() == expected


def test_steps_without_an_order_lie_in_their_pieces():
    schedule = LinearDecay(1.0, over="4 steps").repeat(2000, scale=0.999)
    steps = np.random.default_rng(0).permutation(9000).astype(float)
    curve = schedule.values(epochs=1, steps_per_epoch=9000)
    np.testing.assert_array_equal(schedule(steps), curve[steps.astype(int)])


def test_cycles_that_do_not_occur_cost_nothing(monkeypatch):
    asked, value = [], LinearDecay.value
    monkeypatch.setattr(
        LinearDecay, "value", lambda self, *given: asked.append(given) or value(self, *given)
    )
    cycles = LinearDecay(1.0, over="2 steps").repeat(10**6)
    assert cycles(np.array([1, 10**6])).tolist() == [0.5, 1.0]
    assert len(asked) == 2


def test_a_function_is_asked_once_for_each_of_many_epochs():
    asked = []
    rate = Function(lambda epoch, lr: asked.append(epoch) or lr, 0.5)
    assert (rate.values(epochs=20_000, steps_per_epoch=1) == 0.5).all()
    assert asked == [*range(20_000)]


@pytest.mark.parametrize("stretch", [0.5, 1.0, 1.5])
def test_after_the_last_cycle_its_end_value_is_held(stretch):
    """Also where the last cycles are too short to tell apart."""
    schedule = LinearDecay(1.0, 0.25, over="10 steps").repeat(100, stretch)
    timeline = Timeline(100, 1)
    end = math.ceil(schedule.length(timeline))
    assert (schedule(np.arange(end, end + 40), timeline) == 0.25).all()


def test_a_product_that_vanishes_is_zero_however_late():
    rate = TimeDecay(1.0, rate=0.5, every="1 steps", compounding=True)
    assert rate(np.array([0, 1, 2, 10**12])).tolist() == [1.0, 1 / 1.5, 1 / 1.5 / 2.0, 0.0]


@pytest.mark.parametrize("step", [-1, [0, -0.5], math.nan, math.inf])
def test_a_step_counts_from_zero(step):
    schedule = LinearDecay(0.0, 0.1, over="5 steps") >> CosineDecay(0.1, over="9 steps")
    with pytest.raises(ValueError, match=r"`step` must count from 0.*Received: step="):
        schedule(step)
