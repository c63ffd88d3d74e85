"""The sweep as it is used: what it finds, and what it says."""

import random

import keras
import numpy as np
import pytest
from models import COMPILE
from problems import (
    Batches,
    classifier,
    digits,
    line,
    line_data,
    scaled,
    sweep,
    traced_line,
)

from keras_lr import CosineDecay, OneCycle
from keras_lr.range_test import NoSuggestion
from keras_lr.search import LRSweep

pytestmark = pytest.mark.core


def run_line(swept, epochs=4, **fit):
    x, y = line_data()
    return swept.run(line, x, y, **{"epochs": epochs, "batch_size": 8} | fit)


@pytest.mark.full
def test_a_sweep_with_a_target_over_three_optimizers():
    (x, y), validation = digits()
    swept = LRSweep(
        1e-2,
        1.0,
        per_decade=1,
        seeds=2,
        optimizers=["sgd", keras.optimizers.SGD(momentum=0.9), "adam"],
        until="accuracy >= 0.75",
        verbose=0,
    )
    result = swept.run(classifier, x, y, validation_data=validation, epochs=3, batch_size=32)
    assert len(result.rows) == 3 * 3 * 2
    best = result.best
    assert best.optimizer in ("SGD", "SGD(momentum=0.9)", "Adam")
    assert 0.01 <= best.band[0] <= best.learning_rate <= best.band[1] <= 1.0
    epochs, steps, seconds = best.target
    assert steps == 13 * epochs
    assert 0 < seconds < 60
    adam = result.best_of("Adam")
    assert result.best_of("adam") == adam
    with pytest.raises(KeyError, match=r"no Nadam\. It has: SGD, SGD\(momentum=0\.9\), Adam"):
        result.best_of("Nadam")
    assert adam.learning_rate in (0.01, 0.1)
    assert f"Adam: best at {adam.learning_rate} (accuracy >= 0.75 after" in result.report()
    CosineDecay(best.learning_rate)


def test_a_trial_is_what_the_loop_that_people_write_gives():
    (x, y), validation = digits()
    fit = {"validation_data": validation, "epochs": 2, "batch_size": 32}
    swept = sweep((0.1, 1.0), optimizers=["adam", keras.optimizers.SGD(momentum=0.9)], seeds=2)
    result = swept.run(classifier, x, y, **fit)
    rows = {(r.trial.optimizer, r.trial.learning_rate, r.trial.seed): r for r in result.rows}
    makers = {
        "Adam": keras.optimizers.Adam,
        "SGD(momentum=0.9)": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
    }
    for name, rate, seed in [("Adam", 0.1, 0), ("Adam", 1.0, 1), ("SGD(momentum=0.9)", 1.0, 1)]:
        keras.utils.set_random_seed(seed)
        model = classifier(makers[name](rate))
        history = model.fit(x, y, verbose=0, **fit)
        assert rows[name, rate, seed].logs == history.history
    assert rows["Adam", 0.1, 0].logs != rows["Adam", 0.1, 1].logs


def test_the_same_trial_gives_the_same_numbers_whatever_ran_before():
    (x, y), _ = digits()
    fit = {"epochs": 2, "batch_size": 32}
    many = sweep((0.01, 1.0), seeds=2).run(classifier, x, y, **fit)
    one = sweep((0.1, 1.0), seeds=2).run(classifier, x, y, **fit)
    known = {row.trial: row.logs for row in many.rows}
    assert [row.logs for row in one.rows] == [known[row.trial] for row in one.rows]


@pytest.mark.full
def test_slots_that_hold_the_initial_weights_are_those_of_the_seed():
    x, y = line_data()
    options = {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 3}
    swept = sweep(optimizers=[keras.optimizers.SGD(**options)], seeds=2)
    result = run_line(swept, epochs=2)
    for row in result.rows:
        keras.utils.set_random_seed(row.trial.seed)
        model = line(keras.optimizers.SGD(row.trial.learning_rate, **options))
        history = model.fit(x, y, epochs=2, batch_size=8, verbose=0)
        assert row.logs == history.history


def in_executions(optimizer):
    model = line(optimizer)
    steps = 1 if keras.backend.backend() == "torch" else 2
    model.compile(optimizer, "mse", steps_per_execution=steps, **COMPILE)
    return model


@pytest.mark.full
@pytest.mark.parametrize(
    ("build", "fit"),
    [
        (scaled, {"batch_size": 8}),
        (in_executions, {"batch_size": 8}),
        (line, {"x": Batches(), "y": None}),
        (line, {"batch_size": 8, "validation_split": 0.25}),
        (line, {"batch_size": 16, "sample_weight": np.linspace(0.0, 2.0, 40), "shuffle": False}),
    ],
    ids=["loss scaling", "steps per execution", "dataset", "validation split", "weights"],
)
def test_whatever_fit_takes_is_swept(build, fit):
    x, y = line_data()
    fit = {"x": x, "y": y, "epochs": 2} | fit
    result = sweep().run(build, **fit)
    for row in result.rows:
        keras.utils.set_random_seed(0)
        history = build(keras.optimizers.SGD(row.trial.learning_rate)).fit(verbose=0, **fit)
        assert row.logs == history.history
        assert row.steps == 2 * -(
            -(30 if "validation_split" in fit else 40) // fit.get("batch_size", 8)
        )


def test_a_schedule_is_swept_by_its_peak():
    x, y = line_data()
    swept = sweep(
        schedule=lambda lr: OneCycle(lr, over="rest"),
        optimizers=[keras.optimizers.SGD(momentum=0.9)],
    )
    result = run_line(swept, epochs=4)
    for row in result.rows:
        keras.utils.set_random_seed(0)
        model = line(keras.optimizers.SGD(row.trial.learning_rate, momentum=0.9))
        schedule = OneCycle(row.trial.learning_rate)
        history = model.fit(x, y, epochs=4, batch_size=8, verbose=0, callbacks=[schedule])
        assert schedule.history.learning_rate.max() == np.float32(row.trial.learning_rate)
        assert row.logs == history.history


def test_the_random_states_of_the_program_stay():
    keras.utils.set_random_seed(3)
    run_line(sweep(), epochs=1)
    after = random.random(), float(keras.random.normal(()))
    keras.utils.set_random_seed(3)
    assert after == (random.random(), float(keras.random.normal(())))


def test_training_compiles_once_for_each_optimizer():
    if keras.backend.backend() == "torch":
        pytest.skip("PyTorch compiles nothing")
    traces = []
    build = traced_line(traces)
    x, y = line_data()
    counts = []
    for rates in ((0.01, 0.1), (1e-5, 0.1)):
        traces.clear()
        sweep(rates).run(build, x, y, epochs=1, batch_size=8)
        counts.append(len(traces))
    # Keras's fit on JAX infers shapes anew after a restore, which compiles nothing.
    symbolic = 2 if keras.backend.backend() == "jax" else 0
    assert counts[1] - counts[0] <= 3 * symbolic


# Targets and trials that end early ----------------------------------------------------------------


def test_the_target_is_reached_with_the_epoch_that_meets_it():
    whole = run_line(sweep(), epochs=6)
    losses = {row.trial: row.logs["loss"] for row in whole.rows}
    values = losses[whole.rows[1].trial]
    result = run_line(sweep(until=f"loss <= {values[2]:.4f}"), epochs=6)
    row = result.rows[1]
    assert row.status == "reached"
    assert 3 <= row.epochs <= 4
    assert row.logs["loss"] == values[: row.epochs]
    assert row.target == (row.epochs, 5 * row.epochs, row.seconds)
    assert result.rows[0].status == "trained"
    assert result.rows[0].target is None


def test_a_trial_that_diverges_stops_at_once_and_is_a_gap():
    result = run_line(sweep((0.1, 1e30)), epochs=4)
    last = result.rows[-1]
    assert last.status == "diverged"
    assert "in batch" in last.reason
    assert last.epochs == 0
    assert last.steps < 5
    assert np.isnan(last.value)
    assert result.best.learning_rate == 0.1
    assert "without a value" in result.report()


def test_a_build_that_raises_fails_the_trials_of_its_optimizer():
    def build(optimizer):
        if isinstance(optimizer, keras.optimizers.Adam):
            raise RuntimeError("no Adam here")
        return line(optimizer)

    x, y = line_data()
    result = sweep(optimizers=["adam", "sgd"]).run(build, x, y, epochs=1, batch_size=8)
    statuses = [(row.trial.optimizer, row.status) for row in result.rows]
    assert statuses == [("Adam", "failed")] * 2 + [("SGD", "trained")] * 2
    assert result.best.optimizer == "SGD"
    with pytest.raises(NoSuggestion, match="no Adam here"):
        result.best_of("Adam")
    assert "Adam: no best rate (build raised RuntimeError: no Adam here)" in result.report()


def test_an_exception_in_a_trial_fails_that_trial():
    class Breaks(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise OSError("disk full")

    result = run_line(
        sweep(), epochs=2, callbacks=lambda trial: [Breaks()] if trial.learning_rate < 0.05 else []
    )
    assert [row.status for row in result.rows] == ["failed", "trained"]
    assert "disk full" in result.rows[0].reason


def test_each_trial_gets_copies_of_the_callbacks():
    stop = keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=1)
    result = run_line(sweep(), epochs=6, callbacks=[stop])
    assert [(row.status, row.epochs) for row in result.rows] == [("stopped", 2)] * 2
    assert stop.model is None


@pytest.mark.full
def test_ctrl_c_keeps_what_is_finished():
    class Interrupts(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    def callbacks(trial):
        return [Interrupts()] if trial.learning_rate > 0.05 else []

    result = run_line(sweep((0.001, 0.1)), callbacks=callbacks)
    assert result.interrupted
    assert [row.trial.learning_rate for row in result.rows] == [0.001, 0.01]
    assert "interrupted" in result.report()
    with pytest.raises(KeyboardInterrupt):
        run_line(sweep((0.1, 1.0)), callbacks=callbacks)


@pytest.mark.full
def test_test_data_decide_nothing():
    x, y = line_data()
    plain = run_line(sweep(seeds=2))
    tested = run_line(sweep(seeds=2), test_data=(x, -y))
    assert [row.logs for row in tested.rows] == [row.logs for row in plain.rows]
    assert tested.best.learning_rate == plain.best.learning_rate
    rows = [row for row in tested.rows if row.trial.learning_rate == tested.best.learning_rate]
    assert tested.best.test["loss"] == pytest.approx(np.mean([row.test["loss"] for row in rows]))
    assert tested.best.test["loss"] > tested.best.value
    assert "On the test data: loss" in tested.report()
