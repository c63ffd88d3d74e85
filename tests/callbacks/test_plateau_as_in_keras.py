"""ReduceLROnPlateau does what Keras's does, to the letter, and its arguments are checked."""

import pathlib
import types
import unittest

import keras
import pytest
from plateaus import (
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

pytestmark = pytest.mark.core


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


# Metrics and their direction.


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
