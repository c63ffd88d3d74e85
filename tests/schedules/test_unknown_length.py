"""Schedules in fits of data whose length nothing tells, five batches an epoch."""

import keras
import numpy as np
import pytest
from models import STEPS, compiled, fit, meter, samples

from keras_lr import (
    Constant,
    CosineDecay,
    LinearDecay,
    OneCycle,
    StepDecay,
    UnresolvedLength,
    WarmupStableDecay,
)

pytestmark = pytest.mark.core


def unknown():
    """Return data of five batches that cannot be counted before they are read."""
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(samples()).batch(2).filter(lambda *_: True)


def rates(schedule, epochs, **options):
    return fit(meter(), schedule, unknown(), epochs=epochs, **options).reshape(-1, 5)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (LinearDecay(1.0, over="50%"), [1, 0.5, 0, 0]),
        (StepDecay(1.0, 0.5, every="25%"), [1, 0.5, 0.25, 0.125]),
        (CosineDecay(1.0).warmup("25%", start=0.5), [0.5, 1, 0.75, 0.25]),
        # Half of four epochs up, then two down to 1 / 8.
        (OneCycle(1.0, warmup="50%", div=4, final_div=2, shape="linear"), [0.25, 0.625, 1, 0.5625]),
        (WarmupStableDecay(1.0, "25%", "50%").clip(min=0.1), [0.1, 1, 1, 0.5]),
        (Constant(1.0).lasting("75%") >> Constant(0.5), [1, 1, 1, 0.5]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_shares_go_by_epochs(schedule, expected):
    expected = np.float32(expected)
    np.testing.assert_allclose(rates(schedule, 4), np.repeat(expected[:, None], 5, 1), rtol=1e-6)


def test_one_cycle_needs_no_arguments():
    curve = OneCycle(1.0).values(epochs=4, steps_per_epoch=1)
    np.testing.assert_allclose(rates(OneCycle(1.0), 4)[:, 0], curve, rtol=1e-6)


@pytest.mark.parametrize("steps_per_execution", [1, pytest.param(4, marks=compiled)])
def test_tf_data_without_a_length_moves_at_the_epochs(steps_per_execution):
    """Half a cosine over three epochs is 1, 3/4 and 1/4 of the rate at their starts."""
    data = unknown()
    model, schedule = meter(steps_per_execution=steps_per_execution), CosineDecay(0.5)
    for _ in range(2):
        rates = fit(model, schedule, data, epochs=3)
        np.testing.assert_array_equal(rates, np.repeat([0.5, 0.375, 0.125], 5))
        assert len(schedule.history) == 15
    rates = fit(model, schedule, data, epochs=3, initial_epoch=2)
    np.testing.assert_array_equal(rates, np.repeat([0.125], 5))


@pytest.mark.parametrize("steps_per_execution", [1, pytest.param(4, marks=compiled)])
def test_tf_data_without_a_length_counts_what_is_in_steps(steps_per_execution):
    data = unknown()
    schedule = LinearDecay(1.0, 0.25, over="12 steps") >> Constant(0.125)
    rates = fit(meter(steps_per_execution=steps_per_execution), schedule, data, epochs=3)
    expected = [1 - k / 16 for k in range(12)] + [0.125] * 3
    np.testing.assert_array_equal(rates, expected)


def test_steps_after_the_first_epoch_know_how_long_it_was():
    # 2 epochs go before; then 8 steps from 1 to 0.5.
    after_epochs = Constant(2.0).lasting(2) >> LinearDecay(1.0, 0.5, over="8 steps")
    falling = 1 - np.minimum(np.arange(10), 8) / 16
    np.testing.assert_array_equal(rates(after_epochs, 4).ravel(), [*[2.0] * 10, *falling])


def test_epochs_after_steps_cannot_be_placed_in_the_first_epoch():
    """It might be longer than the seven steps, so the fit is refused before the first update."""
    with pytest.raises(UnresolvedLength, match="Pass `steps_per_epoch` to `fit`"):
        rates(Constant(2.0).lasting("7 steps") >> LinearDecay(1.0), 4)


def test_tf_data_without_a_length_cannot_count_what_ran_before():
    schedule = LinearDecay(1.0, 0.25, over="12 steps")
    with pytest.raises(UnresolvedLength, match=r"begins at epoch 2: .*Pass `steps_per_e") as caught:
        rates(schedule, 3, initial_epoch=1)
    # To give lengths in steps is what the user did.
    assert "or every length" not in str(caught.value)
    options = {"steps_per_epoch": 5, "epochs": 3, "initial_epoch": 2}
    known = fit(meter(), schedule, unknown().repeat(), **options)
    np.testing.assert_array_equal(known, [1 - k / 16 for k in (10, 11, 12, 12, 12)])


class Short(keras.utils.PyDataset):
    """Data of five batches."""

    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        x, y = samples()
        return x[2 * index :][:2], y[2 * index :][:2]


def once():
    """Return a generator of five batches."""
    data = Short()
    return (data[index] for index in range(STEPS))


def test_a_generator_without_a_length():
    """One epoch, in which lengths in epochs stand still and those in steps do not."""
    model = meter()
    warm = StepDecay(0.5, every=1).warmup(2, start=0.25)
    assert fit(model, warm, once(), epochs=1).tolist() == [0.25] * 5
    rates = fit(model, LinearDecay(0.5, over="4 steps"), once(), epochs=1)
    assert rates.tolist() == [0.5, 0.375, 0.25, 0.125, 0.0]
    with pytest.warns(UserWarning, match="a rate of 0 for the whole of epoch 1"):
        fit(model, StepDecay(0.5).warmup(2), once(), epochs=1)


@pytest.mark.filterwarnings("error:.*has no effect")
def test_epochs_that_end_early_begin_at_their_place():
    schedule = LinearDecay(1.0)
    rates = fit(meter(), schedule, Short(), epochs=3, steps_per_epoch=7)
    steps = np.array([[0], [7], [14]]) + np.arange(5)
    np.testing.assert_allclose(rates, 1 - steps.ravel() / 21, rtol=1e-6)
    np.testing.assert_array_equal(rates, schedule.history.learning_rate)
