"""ReduceLROnPlateau(start_after=...): what a plateau does not count."""

import dataclasses
import warnings

import keras
import numpy as np
import pytest
from keras import layers
from models import settled
from plateaus import X, Y, build, fit, rates
from shapes import written

from keras_lr import (
    Constant,
    CosineDecay,
    Function,
    LinearDecay,
    OneCycle,
    ParamScheduler,
    ReduceLROnPlateau,
    UnresolvedLength,
    WarmupStableDecay,
    from_config,
    to_config,
)

pytestmark = pytest.mark.core

STUCK = [1.0] * 8


def plateau(start_after=None, **options):
    return ReduceLROnPlateau(factor=0.5, patience=2, start_after=start_after, **options)


@pytest.mark.parametrize("start_after", [None, 0, "0 steps", "0%"])
def test_by_default_all_counts(start_after):
    callback = plateau(start_after)
    fit(build(), STUCK, callback)
    assert rates(callback) == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.125]


# Of two steps each; an epoch that begins before the start does not count.
@pytest.mark.parametrize("start_after", [3, 2.5, "3 epochs", "6 steps", "5 steps", "37.5%"])
def test_it_counts_from_the_first_whole_epoch_after_a_length(start_after):
    callback = plateau(start_after)
    fit(build(), STUCK, callback, batch_size=6)
    assert rates(callback)[::2] == [1, 1, 1, 1, 1, 1, 0.5, 0.5]


def test_a_metric_that_is_best_during_the_warmup_is_no_best():
    values = [0.1, 0.2, 5.0, 4.0, 3.0, 2.0, 1.5, 1.2]
    without, waiting = plateau(), plateau(2)
    fit(build(), values, without)
    fit(build(), values, waiting)
    assert rates(without)[-1] < 1.0
    assert rates(waiting) == [1.0] * 8
    assert waiting.best == 1.2


@pytest.mark.parametrize("on_nan", ["count", "reduce"])
def test_a_nan_before_the_start_is_not_counted(on_nan):
    callback = plateau(2, on_nan=on_nan)
    fit(build(), [float("nan")] * 2 + [3.0, 2.0], callback)
    assert rates(callback) == [1.0] * 4


def by_epoch(epoch):
    return min(epoch + 1, 4) / 4


@pytest.mark.parametrize(
    "schedule",
    [
        LinearDecay(1.0).warmup(3),
        Constant(1.0).warmup("6 steps", shape="cosine"),
        (2 * CosineDecay(1.0).warmup(3)).clip(min=0.01).per_epoch(),
        LinearDecay(1.0).warmup(3, shift=False),
        CosineDecay(0.1, 1.0, over=3) >> CosineDecay(1.0),
        OneCycle(1.0, warmup="37.5%"),
        WarmupStableDecay(1.0, warmup=3, decay=2),
        Function(by_epoch),
        ParamScheduler(learning_rate=LinearDecay(1.0).warmup(3)),
    ],
    ids=written,
)
@pytest.mark.parametrize("first", ["schedule", "plateau"])
def test_it_waits_for_the_highest_rate_of_the_schedule(schedule, first):
    callback = plateau("warmup")
    both = [schedule, callback] if first == "schedule" else [callback, schedule]
    fit(build(), STUCK, *both, batch_size=6)
    moved = getattr(schedule, "schedules", {"learning_rate": schedule})["learning_rate"]
    curve = moved.values(epochs=8, steps_per_epoch=2)
    scale = np.repeat([1, 1, 1, 1, 1, 1, 0.5, 0.5], 2)
    np.testing.assert_allclose(rates(callback), curve * scale, rtol=1e-6)


def test_without_a_warmup_it_waits_for_nothing():
    callback = plateau("warmup")
    fit(build(), STUCK[:4], Constant(1.0), callback)
    assert rates(callback) == [1, 1, 1, 0.5]


def test_it_waits_for_the_function_of_a_rate():
    rising = Function(lambda epoch, lr: min(2 * lr, 1.0), 0.125)
    callback = plateau("warmup")
    fit(build(), STUCK[:6], callback, rising)
    np.testing.assert_allclose(rates(callback), [0.25, 0.5, 1, 1, 1, 0.5], rtol=1e-6)


def test_nothing_to_wait_for_is_an_error_before_the_first_update():
    model = build()
    before = [weight.copy() for weight in model.get_weights()]
    with pytest.raises(ValueError, match=r"start_after='warmup' needs a schedule in the same fit"):
        fit(model, STUCK, plateau("warmup"))
    for old, new in zip(before, settled(model).get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


class BatchLoss(keras.losses.Loss):
    """The label itself as the loss, so that a test decides the loss of each batch."""

    def call(self, y_true, y_pred):
        return y_true + 0.0 * y_pred


@pytest.mark.parametrize("start_after", ["6 steps", 0.5, "50%"])
def test_a_patience_in_steps_counts_from_a_step_on(start_after):
    """The losses before the start do not enter the average, either."""
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), BatchLoss())
    callback = ReduceLROnPlateau(
        *("loss", 0.5, "2 steps"), min_delta=1e-3, smoothing=0.0, start_after=start_after
    )
    y = np.asarray([0.1] * 6 + [2.0, 1.0, 3.0, 3.0, 3.0, 3.0], "float32").reshape(-1, 1)
    model.fit(X, y, batch_size=1, epochs=1, shuffle=False, verbose=0, callbacks=[callback])
    # Best at the step 7; bad at 8 and 9, and again at 10 and 11.
    assert rates(callback) == [1.0] * 10 + [0.5, 0.5]


def test_it_goes_on_waiting_after_an_interruption(tmp_path):
    whole = plateau(3)
    fit(build(), STUCK, whole)
    first = plateau(3, state_path=tmp_path / "plateau.json")
    model = build()
    fit(model, STUCK[:2], first)
    second = plateau(3, state_path=tmp_path / "plateau.json")
    fit(model, STUCK, second, initial_epoch=2)
    assert rates(first) + rates(second) == rates(whole)


@pytest.mark.parametrize("schedule", [[], [CosineDecay(1.0)]], ids=["rate", "schedule"])
def test_a_new_plateau_says_that_it_has_no_state(schedule):
    model, first = build(), plateau()
    fit(model, STUCK[:4], first, *schedule)
    with pytest.warns(UserWarning, match=r"ReduceLROnPlateau\(.* starts afresh at epoch 5: .* obj"):
        fit(model, STUCK, plateau(), *schedule, initial_epoch=4)
    with pytest.warns(UserWarning, match=r"starts afresh at epoch 7: .* pass start_after=6"):
        fit(model, STUCK, first, *schedule, initial_epoch=6)


def test_a_plateau_that_backup_and_restore_resumes_says_that_it_has_no_state(tmp_path):
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
    fit(build(), STUCK[:4], plateau(), backup)
    with pytest.warns(UserWarning, match="starts afresh at epoch 5"):
        fit(build(), STUCK, plateau(), backup)


@pytest.mark.parametrize("steps", [False, True])
def test_a_plateau_with_nothing_to_lose_says_nothing(steps):
    model, first = build(), plateau()
    new = ReduceLROnPlateau("loss", patience="9 steps", start_after=4) if steps else plateau(4)
    carried = plateau()
    carried.load_state_dict(first.state_dict(), epoch=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(model, STUCK[:4], first)
        fit(model, STUCK, first, initial_epoch=4)
        fit(model, STUCK, new, initial_epoch=4)
        fit(model, STUCK, plateau("warmup"), CosineDecay(1.0).warmup(5), initial_epoch=4)
        fit(model, STUCK, carried, initial_epoch=4)


def unknown_length(batches=24):
    for _ in range(batches):
        yield X, Y


def test_epochs_place_the_start_where_steps_are_not_known():
    callback, model = ReduceLROnPlateau("loss", 0.5, 1, min_delta=1e9, start_after=1), build()
    model.fit(unknown_length(2), epochs=1, verbose=0, callbacks=[callback])
    with pytest.raises(UnresolvedLength, match="'3 steps' cannot be placed"):
        model.fit(unknown_length(2), epochs=2, verbose=0, callbacks=[plateau("3 steps")])


def test_a_fit_that_ends_before_the_start_is_said():
    with pytest.warns(UserWarning, match=r"start_after=5\) counts nothing in this fit"):
        fit(build(), STUCK[:4], plateau(5))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(build(), STUCK[:4], plateau(3))


@pytest.mark.parametrize("value", [-1, "rest", "warm", "101%", float("nan"), True, []])
def test_what_is_no_start_is_refused(value):
    words = r"argument `start_after` must be .*, or 'warmup', or None\. Received: start_after="
    with pytest.raises((TypeError, ValueError), match=words):
        plateau(value)


@pytest.mark.parametrize("value", ["warmup", 5, "10%"])
def test_it_goes_through_configs(value):
    callback = plateau(value)
    assert from_config(to_config(callback)) == callback
    assert ReduceLROnPlateau.from_config(callback.get_config()) == callback
    assert dataclasses.replace(callback) == callback
    assert f"start_after={value!r}" in repr(callback)
