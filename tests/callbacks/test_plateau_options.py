"""What ReduceLROnPlateau offers on top of Keras's: thresholds, NaN, weights, raising."""

import copy
import pickle

import keras
import numpy as np
import pytest
from plateaus import (
    NAN,
    X,
    Y,
    build,
    by_hooks,
    fit,
    learning_rate,
    random_metric,
    rates,
)

from keras_lr import Constant, ReduceLROnPlateau
from keras_lr._state import StateFile

pytestmark = pytest.mark.core


@pytest.mark.oracle
@pytest.mark.parametrize("threshold_mode", ["absolute", "relative"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_thresholds_are_those_of_pytorch(mode, threshold_mode):
    torch = pytest.importorskip("torch")
    values = [value for value in random_metric(0) if value == value]
    values = [float(np.float32(v)) for v in (values if mode == "min" else values[::-1])]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode=mode,
        factor=0.5,
        patience=3,
        threshold=0.05,
        threshold_mode=threshold_mode[:3],
        eps=0.0,
    )
    found = []
    for value in values:
        theirs.step(value)
        found.append(optimizer.param_groups[0]["lr"])
    # PyTorch reduces after more than `patience` bad epochs, Keras after `patience`.
    ours = ReduceLROnPlateau(
        factor=0.5, patience=4, mode=mode, min_delta=0.05, threshold_mode=threshold_mode
    )
    assert by_hooks(ours, values) == found
    assert found[-1] < 0.25


@pytest.mark.parametrize(
    ("threshold_mode", "mode", "values", "found"),
    [
        # Better by 0.9 than the best ...
        ("absolute", "min", [100.0, 99.0, 98.5], [1.0, 1.0, 0.5]),
        ("absolute", "max", [1.0, 1.95, 2.8], [1.0, 1.0, 0.5]),
        # ... or by 0.9 of the best.
        ("relative", "min", [1.0, 0.09, 0.05], [1.0, 1.0, 0.5]),
        ("relative", "max", [1.0, 1.95, 3.8], [1.0, 1.0, 1.0]),
        ("relative", "max", [1.0, 1.95, 3.6], [1.0, 1.0, 0.5]),
    ],
)
def test_thresholds_by_hand(threshold_mode, mode, values, found):
    callback = ReduceLROnPlateau(
        patience=1, factor=0.5, min_delta=0.9, mode=mode, threshold_mode=threshold_mode
    )
    assert by_hooks(callback, values) == found


@pytest.mark.parametrize(
    ("on_nan", "found"),
    [("count", [1.0, 1.0, 1.0, 1.0, 0.5]), ("reduce", [1.0, 0.5, 0.5, 0.25, 0.25])],
)
def test_on_nan(on_nan, found):
    values = [1.0, NAN, 0.5, NAN, 0.7]
    callback = ReduceLROnPlateau(factor=0.5, patience=2, on_nan=on_nan)
    assert by_hooks(callback, values) == found
    assert callback.best == 0.5


def test_infinity_is_no_best_value():
    callback = ReduceLROnPlateau(factor=0.5, patience=2, mode="max")
    assert by_hooks(callback, [1.0, float("inf"), 2.0, 1.5, 1.5]) == [1.0, 1.0, 1.0, 1.0, 0.5]


class Weights(keras.callbacks.Callback):
    """Keeps the weights of each epoch's end, before and behind the callback in question."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append([weight.copy() for weight in self.model.get_weights()])


def test_a_reduction_restores_the_best_weights():
    before, after = Weights(), Weights()
    callback = ReduceLROnPlateau(factor=0.5, patience=2, restore_best_weights=True)
    fit(build(), [3.0, 2.0, 4.0, 5.0, 6.0, 7.0], before, callback, after, batch_size=4)
    for epoch in (0, 1, 2, 4):
        np.testing.assert_array_equal(after.seen[epoch][0], before.seen[epoch][0])
    for epoch in (3, 5):  # reduced here; epoch 1 was the best
        np.testing.assert_array_equal(after.seen[epoch][0], before.seen[1][0])
        np.testing.assert_array_equal(after.seen[epoch][1], before.seen[1][1])
        assert (before.seen[epoch][0] != before.seen[1][0]).all()
    assert rates(callback)[::3] == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
@pytest.mark.parametrize("duplicate", [lambda value: value, copy.deepcopy], ids=["same", "copy"])
def test_the_best_weights_outlive_a_fit_that_another_goes_on_from(stop, duplicate):
    values = [3.0, 2.0, 4.0, 5.0, 6.0, 7.0]
    options = {"factor": 0.5, "patience": 3, "restore_best_weights": True}
    before, after = Weights(), Weights()
    callback = ReduceLROnPlateau(**options)
    model = build()
    fit(model, values[:stop], before, callback, after)
    callback = duplicate(callback)
    fit(model, values, before, callback, after, initial_epoch=stop)
    np.testing.assert_array_equal(after.seen[4][0], before.seen[1][0])
    assert (before.seen[4][0] != before.seen[1][0]).all()
    assert callback.state.reduced_epoch == 4


@pytest.mark.parametrize("begin", [0, 1])
def test_the_best_weights_of_epochs_that_are_trained_anew_are_not_put_back(begin):
    before, after = Weights(), Weights()
    callback = ReduceLROnPlateau(patience=1, on_nan="reduce", restore_best_weights=True)
    fit(build(), [3.0, 2.0], callback)
    fit(build(), [3.0, NAN], before, callback, after, initial_epoch=begin)
    np.testing.assert_array_equal(after.seen[-1][0], before.seen[-1 if begin else 0][0])
    assert callback.state.reduced_epoch == 1


def test_only_the_best_weights_stay_beside_a_state_file(tmp_path):
    """Whatever its name: brackets are no pattern."""
    for name in ("plateau.json", "[p]lateau.json", "run[1].json"):
        path = tmp_path / name
        callback = ReduceLROnPlateau(restore_best_weights=True, state_path=path)
        fit(build(), [5.0, 4.0, 3.0, 2.0], callback)
        assert path.exists()
    found = sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".npz")
    assert found == [
        f"{name}.best-{epoch}.npz"
        for name in ("[p]lateau.json", "plateau.json", "run[1].json")
        for epoch in (2, 3)
    ]


def test_stop_at_min_lr():
    callback = ReduceLROnPlateau(factor=0.5, patience=1, min_lr=0.25, stop_at_min_lr=True)
    fit(build(), [1.0] * 9, callback)
    assert rates(callback) == [1.0, 1.0, 0.5, 0.25]


def test_stop_at_min_lr_with_a_schedule():
    callback = ReduceLROnPlateau(factor=0.5, patience=1, min_lr=0.25, stop_at_min_lr=True)
    fit(build(), [1.0] * 9, Constant(1.0), callback)
    assert rates(callback) == [1.0, 1.0, 0.5, 0.25]


@pytest.mark.parametrize(
    ("options", "values", "found"),
    [
        # Raised after two good epochs in a row, up to the rate at the start ...
        ({"increase_after": 2}, [5, 5, 5, 4, 3, 2, 1], [1, 1, 0.5, 0.25, 0.25, 0.75, 0.75, 1]),
        # ... or to `max_lr`.
        (
            {"increase_after": 2, "max_lr": 2.0},
            [5, 4, 3, 2, 1],
            [1, 1, 2, 2, 2, 2],
        ),
        # Raised when three reductions have not helped.
        (
            {"increase_when": "stuck", "increase_after": 3},
            [5, 5, 5, 5, 5],
            [1, 1, 0.5, 0.25, 0.75, 0.375],
        ),
    ],
)
@pytest.mark.parametrize("schedule", [None, Constant(1.0)], ids=["alone", "with a schedule"])
def test_increase(options, values, found, schedule):
    callback = ReduceLROnPlateau(factor=0.5, patience=1, increase=3.0, **options)
    model = build()
    fit(model, [float(v) for v in values], *([schedule] if schedule else []), callback)
    assert rates(callback) == found[:-1]
    if schedule is None:
        assert learning_rate(model) == found[-1]


def test_several_optimizers_are_reduced_alike():
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip(f"keras {keras.__version__} has no MultiOptimizer")
    first, second = keras.optimizers.SGD(1.0), keras.optimizers.Adam(0.5)
    chosen = keras.optimizers.OptimizerMap(first, {".*bias.*": second})
    model = build(keras.optimizers.MultiOptimizer(chosen))
    logs = fit(model, [1.0] * 3, ReduceLROnPlateau(factor=0.5, patience=1, min_lr=0.2)).history
    assert logs[f"learning_rate_{first.name}"] == [1.0, 1.0, 0.5]
    assert logs[f"learning_rate_{second.name}"] == [0.5, 0.5, 0.25]
    assert "learning_rate" not in logs  # there is no one rate
    found = [float(keras.ops.convert_to_numpy(o.learning_rate)) for o in (first, second)]
    assert found == pytest.approx([0.25, 0.2])


@pytest.mark.parametrize(
    "duplicate",
    [lambda value: pickle.loads(pickle.dumps(value)), copy.deepcopy, copy.copy],
    ids=["pickle", "deepcopy", "copy"],
)
def test_a_copy_goes_on_as_the_original_would(duplicate):
    values = [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0]
    whole = ReduceLROnPlateau(factor=0.5, patience=2)
    fit(build(), values, whole)
    assert rates(whole) == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25]
    begun = ReduceLROnPlateau(factor=0.5, patience=2)
    fit(build(), values[:3], begun)
    again = duplicate(begun)
    assert again == begun
    assert again.state_dict() == begun.state_dict()
    fit(build(), values, again, initial_epoch=3)
    assert rates(again) == rates(whole)
    assert begun.wait == 1
    # Another fit starts afresh.
    fit(build(), values, duplicate(again))
    assert rates(again) == rates(whole)


@pytest.mark.parametrize("monitor", ["loss", "val_loss"])
def test_the_state_is_written_once_an_epoch(monitor, tmp_path, monkeypatch):
    written = []
    save = StateFile.save
    monkeypatch.setattr(
        StateFile, "save", lambda self, states: (written.append(len(states)), save(self, states))
    )
    callback = ReduceLROnPlateau(
        monitor, 0.5, patience=1, min_delta=1e9, state_path=tmp_path / "plateau.json"
    )
    build().fit(*(X, Y), epochs=4, verbose=0, validation_data=(X, Y), callbacks=[callback])
    assert rates(callback) == [1.0, 1.0, 0.5, 0.25]
    assert written == [1, 2, 3, 4]
