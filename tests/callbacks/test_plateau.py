"""ReduceLROnPlateau: Keras's behaviour to the letter, and what it offers on top."""

import copy
import pathlib
import pickle
import types
import unittest
import warnings

import keras
import numpy as np
import pytest
from keras import layers

from keras_lr import Constant, CosineDecay, LinearDecay, ParamScheduler, ReduceLROnPlateau
from keras_lr._files import StateFile

pytestmark = pytest.mark.core

X = np.random.default_rng(0).normal(0, 0.1, size=(12, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
NAN = float("nan")
long_executions = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras refuses steps_per_execution on PyTorch"
)


def build(optimizer=None, **options):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile(optimizer or keras.optimizers.SGD(1.0), "mse", **options)
    return model


class Logs(keras.callbacks.Callback):
    """Puts a value of its own into the logs of each epoch; None leaves them alone."""

    def __init__(self, values, name="val_loss"):
        super().__init__()
        self.values, self.name = values, name

    def on_epoch_end(self, epoch, logs=None):
        if self.values[epoch] is not None:
            logs[self.name] = self.values[epoch]


def fit(model, values, *callbacks, monitor="val_loss", batch_size=12, **options):
    """Train one epoch per value, each of which has the value as its metric."""
    return model.fit(
        X,
        Y,
        batch_size=batch_size,
        epochs=len(values),
        verbose=0,
        callbacks=[Logs(values, monitor), *callbacks],
        **options,
    )


def rates(callback):
    return callback.history.learning_rate.tolist()


def learning_rate(model):
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))


def by_hooks(callback, values):
    """Return the optimizer's rate after each epoch of a fit in which only hooks are called."""
    model = build()
    callback.set_model(model)
    callback.set_params({"epochs": len(values), "steps": 1})
    callback.on_train_begin()
    found = []
    for epoch, value in enumerate(values):
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, {"loss": 1.0, "val_loss": value})
        found.append(learning_rate(model))
    callback.on_train_end()
    return found


def random_metric(seed, length=200):
    """Falls, with plateaus, jumps back up and NaN."""
    random = np.random.default_rng(seed)
    values = 2.0 * np.exp(-np.arange(length) / 60) + random.normal(0, 0.05, length).round(3)
    values[100:130] = values[99]
    values[random.integers(0, length, 4)] = NAN
    return values.tolist()


# As Keras does it.


def keras_own_tests():
    """Return Keras's test case for its callback, or None where Keras ships without its tests."""
    folder = pathlib.Path(keras.__file__).parent / "src" / "callbacks"
    path = folder / "reduce_lr_on_plateau_test.py"
    if not path.exists():
        return None
    # Without the marker of Keras's own configuration, which this one does not know.
    source = path.read_text().replace("@pytest.mark.requires_trainable_backend", "")
    module = types.ModuleType("keras_own_tests")
    exec(compile(source, str(path), "exec"), vars(module))
    return module


KERAS_OWN = keras_own_tests()
NAMES = (
    unittest.TestLoader().getTestCaseNames(KERAS_OWN.ReduceLROnPlateauTest)
    if KERAS_OWN
    else ["absent"]
)


@pytest.mark.parametrize("name", NAMES)
def test_keras_own_test(name, monkeypatch):
    if KERAS_OWN is None:
        pytest.skip(f"keras {keras.__version__} ships without its tests")

    class Callbacks:
        ReduceLROnPlateau = ReduceLROnPlateau

    monkeypatch.setattr(KERAS_OWN, "callbacks", Callbacks)
    logging = keras.config.is_interactive_logging_enabled()
    result = unittest.TestResult()
    try:
        KERAS_OWN.ReduceLROnPlateauTest(name).run(result)
    finally:
        if logging:
            keras.config.enable_interactive_logging()
    assert result.testsRun == 1
    assert not result.skipped
    for _, trace in result.failures + result.errors:
        pytest.fail(trace)


OPTIONS = [
    {},
    {"patience": 0},
    {"patience": 3, "factor": 0.5, "cooldown": 1},
    {"patience": 2, "factor": 0.7, "cooldown": 4, "min_delta": 0.0},
    {"patience": 1, "factor": 0.3, "min_lr": 0.01, "min_delta": 0.1},
    {"patience": 3, "mode": "max", "factor": 0.9},
    {"patience": 2, "mode": "min", "min_delta": -0.05, "min_lr": 1e-9},
]


@pytest.mark.parametrize(("seed", "options"), list(enumerate(OPTIONS)), ids=str)
def test_200_random_values_give_the_rates_of_keras(seed, options):
    values = random_metric(seed)
    theirs = by_hooks(keras.callbacks.ReduceLROnPlateau(**options), values)
    assert by_hooks(ReduceLROnPlateau(**options), values) == theirs
    assert len(set(theirs)) > 1  # some of them reduced


def test_random_values_give_the_rates_of_keras_in_training():
    options, values = {"patience": 2, "factor": 0.5, "cooldown": 2}, random_metric(5)[:40]
    theirs = by_hooks(keras.callbacks.ReduceLROnPlateau(**options), values)
    callback = ReduceLROnPlateau(**options)
    shown = fit(build(), values, callback).history["learning_rate"]
    # What the logs of an epoch show is the rate that its updates were made with.
    assert shown == rates(callback) == [1.0, *theirs[:-1]]
    assert len(set(shown)) > 3


def test_the_signature_begins_as_that_of_keras():
    for arguments in ((), ("val_accuracy", 0.5, 3, 1, "max", 0.01, 2, 0.001)):
        ours, theirs = ReduceLROnPlateau(*arguments), keras.callbacks.ReduceLROnPlateau(*arguments)
        for name in ("monitor", "factor", "patience", "verbose", "min_delta", "cooldown", "min_lr"):
            assert getattr(ours, name) == getattr(theirs, name)


def test_a_reduction_is_said():
    messages = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda text, *_: messages.append(text))
        fit(build(), [1.0] * 3, ReduceLROnPlateau(patience=1, factor=0.5, verbose=1))
    assert messages == [
        f"\nEpoch {epoch}: ReduceLROnPlateau reducing learning rate to {rate}."
        for epoch, rate in [(2, 0.5), (3, 0.25)]
    ]


# What Keras lacks.


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


class BatchLoss(keras.losses.Loss):
    """The label itself as the loss, so that a test decides the loss of each batch."""

    def call(self, y_true, y_pred):
        return y_true + 0.0 * y_pred


@pytest.mark.parametrize(
    ("smoothing", "found"),
    [
        # Better at the steps 0 and 1 alone.
        (0.0, [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625]),
        # Smoothed: 4, 2, 2.57, 1.73, 2.39, 1.68, 2.35, 2.68, 2.84, 2.92, 1.71, 1.10.
        (0.5, [1, 1, 1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]),
    ],
)
def test_patience_in_steps_monitors_the_smoothed_batch_loss(smoothing, found):
    losses = [4.0, 1.0, 3.0, 1.0, 3.0, 1.0, 3.0, 3.0, 3.0, 3.0, 0.5, 0.5]
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), BatchLoss())
    callback = ReduceLROnPlateau(
        "loss", factor=0.5, patience="2 steps", min_delta=1e-3, smoothing=smoothing
    )
    y = np.asarray(losses, "float32").reshape(-1, 1)
    model.fit(X, y, batch_size=1, epochs=1, shuffle=False, verbose=0, callbacks=[callback])
    np.testing.assert_allclose(callback.history.loss, losses, rtol=1e-5)
    assert rates(callback) == found


@long_executions
def test_patience_in_steps_under_steps_per_execution_holds_the_rate_and_says_so_once():
    model = build(steps_per_execution=2)
    callback = ReduceLROnPlateau(
        "loss", factor=0.5, patience="2 steps", min_delta=1e9, smoothing=0.0
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, Y, batch_size=3, epochs=3, verbose=0, callbacks=[callback])
    assert sum("holds the rate inside" in str(w.message) for w in caught) == 1
    found = rates(callback)
    assert found[::2] == found[1::2]
    assert found[::2] == [1.0, 1.0, 0.5, 0.25, 0.125, 0.0625]


class States(keras.callbacks.Callback):
    """Asks a plateau after each step how long it has waited, and for the rate."""

    def __init__(self, plateau):
        super().__init__()
        self.plateau = plateau
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        state = self.plateau.state_dict()
        self.seen.append((state["wait"], *state["rates"]))


def in_steps(patience, **options):
    return ReduceLROnPlateau(
        "loss", factor=0.5, patience=f"{patience} steps", smoothing=0.0, **options
    )


def flat(callbacks, batches=5, epochs=1, of_unknown_length=False):
    """Train on losses that never fall."""
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), BatchLoss())
    x, y = X[:batches], np.ones((batches, 1), "float32")
    if of_unknown_length:
        data = {"x": ((x[i : i + 1], y[i : i + 1]) for i in range(batches))}
    else:
        data = {"x": x, "y": y, "batch_size": 1}
    model.fit(**data, epochs=epochs, verbose=0, callbacks=callbacks)


def test_between_two_steps_the_state_holds_the_first():
    plateau = in_steps(2)
    states = States(plateau)
    flat([plateau, states])
    assert states.seen == [(0, 1.0), (1, 1.0), (0, 0.5), (1, 0.5), (0, 0.25)]


def test_a_rate_set_between_epochs_is_in_the_state_before_the_next_step():
    plateau, seen = in_steps(100), []

    class Halve(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 0.5

        def on_train_batch_begin(self, batch, logs=None):
            seen.append(plateau.state_dict()["rates"])

    flat([plateau, Halve()], batches=1, epochs=2)
    assert seen == [[1.0], [0.5]]


def test_a_step_is_counted_once_where_other_threads_ask():
    class Asking(keras.callbacks.Callback):
        async_safe = True

        def on_train_batch_end(self, batch, logs=None):
            seen.append(plateau.wait)

    plateau, seen = in_steps(1000), []
    flat([plateau, Asking()], batches=len(X), epochs=20)
    assert len(seen) == plateau.wait + 1 == 20 * len(X)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("of_unknown_length", [False, True])
def test_the_last_step_of_an_epoch_is_counted(of_unknown_length):
    plateau = in_steps(100)
    flat([plateau], of_unknown_length=of_unknown_length)
    assert plateau.wait == 4


def test_patience_in_steps_ends_training_after_the_step_that_decides():
    plateau = in_steps(2, min_lr=1.0, stop_at_min_lr=True)
    flat([plateau])
    assert len(plateau.history) == 3


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


# Together with a schedule: rate = max(schedule * scale, min(schedule, min_lr)).


def test_a_schedule_is_scaled_from_the_reduction_on():
    callback = ReduceLROnPlateau(factor=0.5, patience=2, min_lr=0.1)
    values = [9.0, 8.0, 8.0, 8.0, 7.0, 7.0, 7.0, 7.0]
    schedule = LinearDecay(0.8, 0.0, over=8)
    fit(build(), values, schedule, callback, batch_size=6)
    # Halved from step 8 on. Cuts stop at min_lr; the schedule itself goes on below it.
    found = [0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45]
    found += [0.2, 0.175, 0.15, 0.125, 0.1, 0.1, 0.1, 0.05]
    np.testing.assert_allclose(rates(callback), found, rtol=1e-6)
    np.testing.assert_allclose(rates(schedule), found, rtol=1e-6)


@pytest.mark.parametrize("first", ["schedule", "plateau"])
def test_warmup_then_cosine_with_cuts(first):
    schedule = CosineDecay(1.0).warmup(2)
    callback = ReduceLROnPlateau(factor=0.1, patience=1)
    both = [schedule, callback] if first == "schedule" else [callback, schedule]
    model = build()
    fit(model, [5.0, 4.0, 4.0, 3.0, 3.0, 2.0], *both, batch_size=4)
    scale = np.repeat([1.0, 1.0, 1.0, 0.1, 0.1, 0.01], 3)
    curve = schedule.values(epochs=6, steps_per_epoch=3)
    np.testing.assert_allclose(rates(callback), curve * scale, rtol=1e-6)
    np.testing.assert_allclose(
        rates(callback)[:9], [0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1, *curve[7:9]], rtol=1e-6
    )


class Rates(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        self.used = learning_rate(self.model)

    def on_epoch_end(self, epoch, logs=None):
        logs["used"] = self.used


def test_without_a_callback_for_both_a_reduction_is_lost():
    """Keras's own two callbacks fight: the scheduler writes over what the plateau cut."""
    theirs = fit(
        build(),
        [1.0] * 4,
        keras.callbacks.LearningRateScheduler(lambda epoch: 1.0),
        keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=1),
        Rates(),
    )
    assert theirs.history["used"] == [1.0] * 4
    callback = ReduceLROnPlateau(factor=0.5, patience=1)
    fit(build(), [1.0] * 4, Constant(1.0), callback)
    assert rates(callback) == [1.0, 1.0, 0.5, 0.25]


def test_a_param_scheduler_is_scaled_in_its_rate_alone():
    model = build(keras.optimizers.SGD(1.0, momentum=0.9))
    both = ParamScheduler(learning_rate=Constant(0.5), momentum=Constant(0.8))
    callback = ReduceLROnPlateau(factor=0.5, patience=1)
    fit(model, [1.0] * 4, both, callback)
    assert rates(both) == [0.5, 0.5, 0.25, 0.125]
    np.testing.assert_allclose(both.history["momentum"], 0.8, rtol=1e-6)


@long_executions
def test_a_cut_takes_effect_inside_long_executions():
    model = build(steps_per_execution=3)
    callback = ReduceLROnPlateau(factor=0.5, patience=1)
    fit(model, [1.0] * 3, LinearDecay(0.9, 0.0, over=3), callback, batch_size=4)
    expected = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.15, 0.1, 0.05]
    np.testing.assert_allclose(rates(callback), expected, rtol=1e-5)


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
    # Another fit begins anew.
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


# Errors.


def test_an_unknown_keyword_is_refused():
    keras.callbacks.ReduceLROnPlateau(patiance=3)  # Keras takes anything
    with pytest.raises(TypeError, match=r"patiance.*patience"):
        ReduceLROnPlateau(patiance=3)


def test_an_unknown_metric_lists_what_there_is():
    with pytest.raises(ValueError, match=r"Received: monitor='acuracy'.*Available: .*loss"):
        fit(build(), [1.0], ReduceLROnPlateau("acuracy"))


def test_auto_of_an_unknown_direction_is_refused():
    with pytest.raises(ValueError, match=r"`mode` must be 'min' or 'max'.*monitor='val_score'"):
        fit(build(), [1.0], ReduceLROnPlateau("val_score"), monitor="val_score")
    callback = ReduceLROnPlateau("val_score", mode="max", factor=0.5, patience=1)
    fit(build(), [1.0, 1.0, 2.0], callback, monitor="val_score")
    assert rates(callback) == [1.0, 1.0, 0.5]


@pytest.mark.parametrize(("metric", "up"), [("accuracy", True), ("mae", False)])
def test_auto_knows_the_direction_of_keras_metrics(metric, up):
    model = build(metrics=[metric])
    callback = ReduceLROnPlateau(f"val_{metric}", factor=0.5, patience=1)
    values = [1.0, 2.0, 3.0]
    model.fit(X, Y, verbose=0, validation_data=(X, Y))  # the metrics are built
    fit(model, values, callback, monitor=f"val_{metric}")
    assert learning_rate(model) == (1.0 if up else 0.25)


@pytest.mark.parametrize(("metric", "up"), [("accuracy", True), ("mae", False)])
def test_auto_knows_the_direction_beside_a_schedule_in_a_first_fit(metric, up):
    """Which begins before Keras has built the metrics."""
    callback = ReduceLROnPlateau(f"val_{metric}", factor=0.5, patience=1)
    values = [1.0, 2.0, 3.0]
    model = build(metrics=[metric])
    fit(model, values, Constant(1.0), callback, monitor=f"val_{metric}")
    assert rates(callback) == ([1.0] * 3 if up else [1.0, 1.0, 0.5])


def test_epochs_without_validation_are_left_out():
    model = build()
    callback = ReduceLROnPlateau(factor=0.5, patience=2, min_delta=1e9)  # nothing improves
    model.fit(
        X,
        Y,
        batch_size=12,
        epochs=7,
        verbose=0,
        validation_data=(X, Y),
        validation_freq=2,
        callbacks=[callback],
    )
    # Validated after the epochs 2, 4 and 6; the last of them is the second without improvement.
    assert rates(callback) == [1.0] * 6 + [0.5]


def test_a_fit_that_never_validates_says_so():
    with pytest.warns(UserWarning, match="never saw 'val_loss'"):
        fit(build(), [None] * 2, ReduceLROnPlateau())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": 1.0}, "factor"),
        ({"factor": 0.0}, "factor"),
        ({"patience": -1}, "patience"),
        ({"patience": "3 epochs"}, "patience"),
        ({"mode": "up"}, "mode"),
        ({"cooldown": 1.5}, "cooldown"),
        ({"min_lr": -1.0}, "min_lr"),
        ({"threshold_mode": "rel"}, "threshold_mode"),
        ({"on_nan": "stop"}, "on_nan"),
        ({"increase": 0.5}, "increase"),
        ({"max_lr": 0.1, "min_lr": 0.2}, "max_lr"),
        ({"smoothing": 1.0}, "smoothing"),
        ({"monitor": "accuracy", "patience": "3 steps"}, "monitor"),
        ({"monitor": "loss", "patience": "3 steps", "restore_best_weights": True}, "restore_best"),
    ],
    ids=str,
)
def test_an_argument_out_of_range_is_named(arguments, message):
    with pytest.raises(ValueError, match=f"`{message}\\w*` must be .*Received: "):
        ReduceLROnPlateau(**arguments)
