"""What the formulas of schedules share."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_lr import CosineDecay, LinearDecay
from keras_lr.formulas import common, half_cosine, pieces, place, power

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


@given(whole)
def test_what_all_have_in_common(values):
    alike = common(values)
    assert (np.broadcast_to(alike, values.shape) == values).all()
    assert alike.size == (1 if len(set(values)) == 1 else values.size)


@given(whole)
def test_each_step_lies_in_its_piece(step):
    index = np.broadcast_to(place([0.0, 10.0, 25.0], step), step.shape)
    assert index.tolist() == [0 if t < 10 else 1 if t < 25 else 2 for t in step]


@given(whole)
def test_each_piece_is_asked_for_its_steps(step):
    found = pieces(step, [0.0, 10.0, 25.0], lambda i, inside: 100 * i + inside)
    expected = [t if t < 10 else 100 + t if t < 25 else 200 + t for t in step]
    assert np.broadcast_to(found, step.shape).tolist() == expected


@pytest.mark.parametrize("step", [-1, [0, -0.5], math.nan])
def test_a_step_counts_from_zero(step):
    schedule = LinearDecay(0.0, 0.1, over="5 steps") >> CosineDecay(0.1, over="9 steps")
    with pytest.raises(ValueError, match=r"`step` must count from 0.*Received: step="):
        schedule(step)
