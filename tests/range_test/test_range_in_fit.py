"""The range test as a callback: what the fit around it does, with and without its suggestion."""

import copy
import dataclasses
import functools
import inspect
import pickle

import keras
import numpy as np
import pytest
from models import COMPILE, X, Y, network, same, state
from selection import mostly_full

from keras_lr import (
    CosineDecay,
    LinearDecay,
    LRRangeTest,
    NoSuggestion,
    OneCycle,
    ReduceLROnPlateau,
    StateError,
    TriangularCLR,
    from_config,
    to_config,
)
from keras_lr._keras.state.snapshot import Snapshot
from keras_lr._state import StateFile
from keras_lr.range_test.runner import RangeTestRunner

pytestmark = pytest.mark.core

STEPS = 4


def quick(**arguments):
    return LRRangeTest(**{"verbose": 0, "steps": 20, "rule": "edge"} | arguments)


@functools.cache
def trained():
    """One model for the whole file, compiled once, and its state as a new process would find it."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-4, momentum=0.9), "mse", **COMPILE)
    return model, Snapshot(model)


@functools.cache
def compiled():
    """The same, with everything that training changes besides weights."""
    model = network()
    return model, Snapshot(model)


def sgd():
    """Return a model that has not been trained."""
    model, pristine = trained()
    pristine.restore()
    return model


def fit(model, callbacks, epochs=3, **options):
    # Every batch is the same, so that what is left to learn shows at any time.
    options = {"x": np.tile(X[:32], (STEPS, 1)), "y": np.tile(X[:32].sum(1), STEPS)} | options
    options = {"shuffle": False} | options
    return model.fit(**options, epochs=epochs, verbose=0, callbacks=callbacks)


@pytest.mark.parametrize("order", mostly_full([(0,), (0, 1), (1, 0)], [(0,)]))
def test_the_training_is_none_the_wiser(order):
    model, pristine = compiled()
    after = []
    for tested in (False, True):
        pristine.restore()
        test = quick(every=2) if tested else keras.callbacks.Callback()
        callbacks = [(test, CosineDecay(0.01))[i] for i in order]
        history = fit(model, callbacks, x=X, y=Y, shuffle=True, validation_split=0.25).history
        after.append((state(model), history["loss"], history["val_loss"]))
    assert same(after[0][0], after[1][0])
    assert after[0][1:] == after[1][1:]
    assert list(test.results) == [0, 2]
    assert test.result is test.results[2]
    assert model.history.epoch == [0, 1, 2]


def test_the_suggestion_becomes_the_rate():
    test = quick(apply=True, every="2 epochs")
    fit(sgd(), [test], epochs=4)
    expected = np.repeat([test.results[0].suggestion, test.results[2].suggestion], 2 * STEPS)
    np.testing.assert_allclose(test.history.learning_rate, expected, rtol=1e-6)


@pytest.mark.parametrize("first", [True, False])
def test_the_schedule_is_scaled_so_that_its_peak_to_come_is_the_suggestion(first):
    schedule = CosineDecay(0.7).warmup(1)
    test = quick(apply=True, every=2)
    fit(sgd(), [test, schedule] if first else [schedule, test], epochs=4)
    curve = schedule.values(epochs=4, steps_per_epoch=STEPS)
    used = schedule.history.learning_rate
    suggested = [test.results[0].suggestion, test.results[2].suggestion]
    assert used.argmax() == curve.argmax() == STEPS
    assert used.max() == pytest.approx(suggested[0])
    parts = slice(0, 2 * STEPS), slice(2 * STEPS, None)
    for part, suggestion in zip(parts, suggested, strict=True):
        scale = suggestion / curve[part].max()
        np.testing.assert_allclose(used[part], scale * curve[part], rtol=1e-5)


def test_plateau_cuts_go_on_from_the_suggestion():
    test = quick(apply=True)
    cuts = ReduceLROnPlateau(monitor="loss", factor=0.1, patience=1, min_delta=100.0)
    fit(sgd(), [cuts, test], epochs=3)
    factors = cuts.history.learning_rate[::STEPS] / test.result.suggestion
    np.testing.assert_allclose(factors, [1.0, 1.0, 0.1], rtol=1e-5)


def test_auto_cycles_once_between_the_bounds_momentum_against_it():
    test = quick(auto=OneCycle(1.0, warmup="50%"))
    fit(sgd(), [test])
    low, high = test.result.bounds
    cycle = OneCycle(high, warmup="50%", div=high / low)
    sizes = {"epochs": 3, "steps_per_epoch": STEPS}
    np.testing.assert_allclose(test.history.learning_rate, cycle.values(**sizes), rtol=1e-5)
    assert test.history.learning_rate[0] == pytest.approx(low)
    momentum = test.history["momentum"]
    assert momentum[0] == pytest.approx(0.95)
    assert momentum.min() == pytest.approx(0.85, abs=1e-3)


def test_auto_keeps_what_else_the_cycle_says():
    test = quick(auto=TriangularCLR(1e-9, 1.0, step_size="2 steps", mode="triangular2"))
    fit(sgd(), [test])
    low, high = test.result.bounds
    rates = test.history.learning_rate
    np.testing.assert_allclose(rates[[0, 2, 4]], [low, high, low], rtol=1e-5)
    assert rates[6] == pytest.approx((low + high) / 2, rel=1e-5)


def test_auto_scales_any_other_schedule():
    test = quick(auto=LinearDecay(1.0).warmup("4 steps"))
    fit(sgd(), [test])
    rates = test.history.learning_rate
    assert rates.argmax() == 4
    assert rates[4] == pytest.approx(test.result.suggestion)


def test_no_suggestion_keeps_the_rate_and_says_so():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.25), "mse", **COMPILE)
    test = quick(apply=True)
    y = np.full(32 * STEPS, np.nan)
    with pytest.warns(UserWarning, match="no suggestion before epoch 1; the learning rate stays"):
        fit(model, [test], y=y, epochs=1)
    assert set(test.history.learning_rate) == {0.25}
    with pytest.raises(NoSuggestion, match="Diverged at once"):
        fit(model, [quick(auto=OneCycle(1.0))], y=y)


def test_a_later_test_without_a_suggestion_ends_no_training(monkeypatch):
    run_test = RangeTestRunner.run_test

    def run_second_in_vain(self):
        found = run_test(self)
        return dataclasses.replace(found, reason="flat") if test.results else found

    monkeypatch.setattr(RangeTestRunner, "run_test", run_second_in_vain)
    test = quick(auto=OneCycle(1.0, shape="linear"), every=1)
    with pytest.warns(UserWarning, match="no suggestion before epoch 3; the learning rate stays"):
        fit(sgd(), [test], epochs=3)
    low, high = test.results[0].bounds
    expected = OneCycle(high, div=high / low, shape="linear").values(
        epochs=3, steps_per_epoch=STEPS
    )
    np.testing.assert_allclose(test.history.learning_rate, expected, rtol=1e-6)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_test_leaves_the_model_as_it_was(error, monkeypatch):
    model = sgd()
    fit(model, [], epochs=1)
    before = state(model)
    attributes = set(vars(model))

    def interrupted(*args):
        raise error

    monkeypatch.setattr("keras_lr.range_test.ramp.Ramp._on_execution_end", interrupted)
    with pytest.raises(error):
        fit(model, [CosineDecay(0.1), quick()])
    assert same(before, state(model))
    assert set(vars(model)) - attributes <= {"_keras_lr_steps"}
    monkeypatch.undo()
    schedule = CosineDecay(0.1)
    fit(model, [schedule])
    curve = schedule.values(epochs=3, steps_per_epoch=STEPS)
    np.testing.assert_allclose(schedule.history.learning_rate, curve, rtol=1e-6)


class Killed(Exception):
    """Ends a fit from inside."""


class Kill(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Killed


@pytest.mark.full
@pytest.mark.parametrize("schedule", [None, CosineDecay(0.7)])
@pytest.mark.parametrize("killed", mostly_full([0, 1, 2], [1]))
def test_a_resumed_training_follows_the_rates_of_the_one_that_was_not(tmp_path, schedule, killed):
    def callbacks(*more):
        test = quick(apply=True, every=2, state_path=tmp_path / "test.json")
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        return test, [test, *more, backup, *([] if schedule is None else [schedule])]

    whole, some = callbacks()
    fit(sgd(), some, epochs=4)
    (tmp_path / "test.json").unlink()
    with pytest.raises(Killed):
        fit(sgd(), callbacks(Kill(killed))[1], epochs=4)
    resumed, some = callbacks()
    fit(sgd(), some, epochs=4)
    first = 4 * STEPS - len(resumed.history)
    assert first == killed * STEPS
    np.testing.assert_allclose(
        resumed.history.learning_rate, whole.history.learning_rate[first:], rtol=1e-4
    )


def test_a_fit_that_goes_on_needs_the_state_of_the_test_before(tmp_path):
    path = tmp_path / "test.json"
    test = quick(apply=True, every=2, state_path=path)
    with pytest.raises(StateError, match=r"begins at epoch 3, .* epochs none"):
        fit(sgd(), [test], initial_epoch=3, epochs=4)
    fit(sgd(), [test], epochs=2)
    again = quick(apply=True, every=2, state_path=path)
    with pytest.raises(StateError, match=r"begins at epoch 3, .* epochs 0"):
        fit(sgd(), [again], initial_epoch=3, epochs=4)
    fit(sgd(), [again], initial_epoch=2, epochs=3)
    assert list(again.results) == [0, 2]
    other = quick(apply=True, every=3, state_path=path)
    with pytest.raises(StateError, match="it belongs to"):
        fit(sgd(), [other], initial_epoch=2, epochs=3)


def test_its_state_goes_through_a_checkpoint_of_ones_own():
    first, second = (quick(auto=CosineDecay(1.0)) for _ in range(2))
    model = sgd()
    fit(model, [first], epochs=1)
    second.load_state_dict(first.state_dict(), epoch=1)
    fit(model, [second], initial_epoch=1, epochs=3)
    assert second.result.to_dict() == first.result.to_dict()
    curve = CosineDecay(first.result.suggestion).values(epochs=3, steps_per_epoch=STEPS)
    np.testing.assert_allclose(second.history.learning_rate, curve[STEPS:], rtol=1e-5)
    with pytest.raises(ValueError, match="must be what state_dict"):
        second.load_state_dict({"outcomes": {"0": {"rate": 1.0}}}, epoch=1)


@pytest.mark.parametrize("arguments", [{"rule": "search"}, {"rule": "edge", "repeats": 2}])
def test_a_resumed_fit_has_the_results_of_the_one_before(tmp_path, arguments):
    def test():
        return quick(apply=True, budget=60, **arguments, state_path=tmp_path / "test.json")

    first, again = test(), test()
    fit(sgd(), [first], epochs=1)
    fit(sgd(), [again], initial_epoch=1, epochs=2)
    before, after = first.result, again.result
    assert after.report() == before.report()
    assert (after.suggestion, after.bounds) == (before.suggestion, before.bounds)
    assert after.confidence == before.confidence
    for name in ("rates", "values", "lower", "upper"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    if before.found is not None:
        assert list(after.found.holds) == list(before.found.holds)
        for pair in zip(after.found.holds.values(), before.found.holds.values(), strict=True):
            np.testing.assert_array_equal(*pair)
    after.plot()


def test_a_result_that_is_not_finite_goes_through_the_file(tmp_path):
    path = tmp_path / "test.json"
    first = quick(apply=True, state_path=path)
    with pytest.warns(UserWarning, match="no suggestion"):
        fit(sgd(), [first], y=np.full(32 * STEPS, np.nan), epochs=1)
    again = quick(apply=True, state_path=path)
    fit(sgd(), [again], initial_epoch=1, epochs=2)
    assert again.result.report() == first.result.report()
    with pytest.raises(NoSuggestion, match="Diverged at once"):
        _ = again.result.suggestion


def test_a_state_without_results_gives_the_rate_and_says_what_it_lacks(tmp_path):
    first, second = (quick(apply=True, state_path=tmp_path / "test.json") for _ in range(2))
    fit(sgd(), [first], epochs=1)
    states = StateFile.of(first).load()
    del states[0]["result"]
    StateFile.of(first).save(states)
    fit(sgd(), [second], initial_epoch=1, epochs=2)
    with pytest.raises(AttributeError, match="fit resumed holds rates, but no result"):
        _ = second.result
    StateFile.of(first).save({0: {"rate": 1.0}})
    with pytest.raises(StateError, match=r"another version wrote it .*rate"):
        fit(sgd(), [quick(apply=True, state_path=tmp_path / "test.json")], initial_epoch=1)


def test_every_kind_of_data_that_can_be_read_twice():
    class Data(keras.utils.PyDataset):
        def __len__(self):
            return STEPS

        def __getitem__(self, i):
            return X[:32], X[:32].sum(1)

    def batches():
        while True:
            yield X[:32], X[:32].sum(1)

    for data in ({"x": Data()}, {"x": batches(), "steps_per_epoch": 4}):
        test = quick()
        sgd().fit(**data, verbose=0, callbacks=[test])
        assert test.result.suggestion > 0
    with pytest.raises(ValueError, match="a generator, which can be read only once"):
        sgd().fit(((X, Y) for _ in range(9)), verbose=0, callbacks=[quick()])


def test_a_validation_metric_uses_the_validation_data_of_the_fit():
    test = quick(monitor="val_loss", validate_every=3)
    fit(sgd(), [test], validation_split=0.25)
    assert len(test.result.rates) > 3
    assert test.result.monitor == "val_loss"


def test_a_run_after_a_restored_fit_takes_all_its_steps():
    model = sgd()
    # What BackupAndRestore sets, and Keras does not reset.
    model._initial_epoch = 25
    result = quick(max_lr=1e-3).run(model, X, X.sum(1), batch_size=256)
    assert len(result.rates) == 20
    assert model._initial_epoch == 25


def test_outside_of_a_fit_it_says_where_to_run_it():
    test = quick()
    with pytest.raises(AttributeError, match="no fit has run this test"):
        _ = test.result
    model = sgd()
    test.set_params({"epochs": 1, "steps": STEPS})
    test.set_model(model)
    test.on_train_begin()
    with pytest.raises(RuntimeError, match=r"LRRangeTest\(\)\.run\(model, x, y\)"):
        test.on_epoch_begin(0)


def test_it_is_a_callback_in_every_other_respect():
    test = quick(every=10, apply=True, auto=OneCycle(1.0), state_path="test.json")
    assert pickle.loads(pickle.dumps(test)) == test
    assert from_config(to_config(test)) == test
    assert test != quick()
    assert "every=10" in repr(test)
    assert inspect.signature(LRRangeTest).parameters["every"].default is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "every=0"),
        ({"every": "5 steps"}, "whole number of epochs"),
        ({"every": 1.5}, "every=1.5"),
        ({"every": "1.5 epochs"}, "1.5 epochs"),
        ({"auto": 0.1}, "auto=0.1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        LRRangeTest(**arguments)


def test_a_schedule_that_has_ended_at_zero_stays_there():
    schedule = LinearDecay(0.5, over=2)
    test = quick(apply=True, every=2)
    with pytest.warns(UserWarning, match="ends at zero before epoch 3"):
        fit(sgd(), [test, schedule])
    assert not schedule.history.learning_rate[2 * STEPS :].any()


def test_a_fit_needs_the_model_back():
    with pytest.raises(ValueError, match="restore=False"):
        fit(sgd(), [quick(restore=False)])


@pytest.mark.parametrize("again", [lambda test: pickle.loads(pickle.dumps(test)), copy.deepcopy])
def test_a_copy_has_the_results(again):
    test = quick(apply=True)
    fit(sgd(), [test])
    other = again(test)
    assert other.result.suggestion == test.result.suggestion
    assert other.state_dict() == test.state_dict()
