"""A training run that lasts longer than its schedule was planned for."""

import warnings

import numpy as np
import pytest
from models import fit, meter
from selection import mostly_full
from shapes import written

from keras_lr import (
    Constant,
    CosineDecay,
    Function,
    LinearDecay,
    OneCycle,
    ParamScheduler,
    ReduceLROnPlateau,
    StepDecay,
    WarmupStableDecay,
)

pytestmark = pytest.mark.core

JUMP = r"was laid out for 4 epochs and is now for 8: the rate jumps from .* to .* at epoch 5\. "
HOLD = r"To keep the curve and hold its last rate, pass \.lasting\(4\); to "
THEN = r"let another schedule follow, \.then\(..., after=4\)\."


def extend(first, second, between=lambda model: None):
    """Train for 4 epochs, then until epoch 8, and return the rates of the second fit."""
    model = meter()
    fit(model, first, epochs=4)
    between(model)
    return fit(model, second, epochs=8, initial_epoch=4)


# A rate of 0 is nothing to hold.
@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda: CosineDecay(0.1), "To " + THEN),
        (lambda: LinearDecay(0.1, endpoint=True), "To " + THEN),
        (lambda: CosineDecay(0.1, 0.01).warmup(1), HOLD + THEN),
        (lambda: OneCycle(0.1), HOLD + THEN),
        (lambda: LinearDecay(0.1, over="75%"), "To " + THEN),
        (lambda: WarmupStableDecay(0.1), "To " + THEN),
        (lambda: ParamScheduler(learning_rate=CosineDecay(0.1, 0.01)), HOLD + THEN),
    ],
)
@pytest.mark.parametrize("same", mostly_full([True, False], [True]), ids=["the same", "a new one"])
def test_a_rate_that_jumps_is_said_with_what_to_do(make, advice, same):
    first = make()
    with pytest.warns(UserWarning, match=JUMP + advice):
        extend(first, first if same else make())


@pytest.mark.parametrize(
    "second", [CosineDecay(0.1, over=4), CosineDecay(0.1).lasting(4), LinearDecay(0.1, over="50%")]
)
def test_a_fit_that_begins_where_the_rate_has_come_to_0_says_that_it_trains_nothing(second):
    model = meter()
    with pytest.warns(
        UserWarning,
        match=r"a rate of 0 from epoch 5 to the end of the fit.*then\(\.\.\., after=4\)",
    ):
        rates = fit(model, second, epochs=8, initial_epoch=4)
    assert not np.any(rates)


def test_a_training_that_is_extended_half_way_is_noticed_by_the_same_schedule():
    rate, model = CosineDecay(0.1), meter()
    fit(model, rate, epochs=4)
    with pytest.warns(
        UserWarning, match=r"for 4 epochs and is now for 8.*from 0.0578 to 0.0854 .*epoch 3"
    ):
        fit(model, rate, epochs=8, initial_epoch=2)


@pytest.mark.parametrize(
    ("first", "second", "rates"),
    [
        # Hold the last rate, or continue with another schedule.
        (LinearDecay(0.2, 0.1), LinearDecay(0.2, 0.1).lasting(4), [0.1] * 20),
        (LinearDecay(0.2, 0.1), LinearDecay(0.2, 0.1).then(0.05, after=4), [0.05] * 20),
        (
            LinearDecay(0.2, 0.1),
            LinearDecay(0.2, 0.1).then(LinearDecay(0.2), after=4),
            np.linspace(0.2, 0.0, 21)[:-1],
        ),
        # What does not depend on the whole.
        (Constant(0.1), Constant(0.1), [0.1] * 20),
        (StepDecay(0.4, every=4), StepDecay(0.4, every=4), [0.2] * 20),
        (LinearDecay(0.2, 0.1, over=4), LinearDecay(0.2, 0.1, over=4), [0.1] * 20),
        (Function(lambda epoch: 0.1), Function(lambda epoch: 0.1), [0.1] * 20),
        # Something else altogether, and lengths that four epochs would be too short for.
        (Constant(0.3), LinearDecay(0.2), np.linspace(0.2, 0.0, 41)[20:-1]),
    ],
    ids=written,
)
def test_what_goes_on_without_a_jump_says_nothing(first, second, rates):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = extend(first, second)
    np.testing.assert_allclose(found, rates, rtol=1e-5, atol=1e-8)


def test_lengths_that_the_epochs_so_far_are_too_short_for_are_no_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        extend(Constant(0.3), OneCycle(0.4, warmup=5, momentum=None))


def test_a_fit_that_resumes_says_nothing():
    model, rate, plateau = meter(), CosineDecay(0.1), ReduceLROnPlateau("loss")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(model, [rate, plateau], epochs=8)
        fit(model, [rate, plateau], epochs=8, initial_epoch=4)
        fit(model, CosineDecay(0.1), epochs=8, initial_epoch=4)


def test_then_takes_the_length_of_the_last_fit():
    rate = CosineDecay(0.1)
    fit(meter(), rate, epochs=4)
    assert rate.then(0.02) == CosineDecay(0.1).lasting(4) >> Constant(0.02)
    assert rate.then(LinearDecay(0.1), after="6 epochs") == rate.lasting("6 epochs") >> LinearDecay(
        0.1
    )
    own = LinearDecay(0.1, over=2)
    assert own.then(0.02) == own >> Constant(0.02)
    with pytest.raises(ValueError, match=r"CosineDecay\.then: argument `after` must be the length"):
        CosineDecay(0.1).then(0.1)
