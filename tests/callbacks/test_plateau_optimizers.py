"""ReduceLROnPlateau with an optimizer of its own choice, and with several optimizers."""

import copy
import pickle

import keras
import numpy as np
import pytest
from plateaus import X, fit, learning_rate

from keras_lr import (
    Constant,
    LinearDecay,
    ParamScheduler,
    ReduceLROnPlateau,
    StateError,
    from_config,
    to_config,
)

pytestmark = pytest.mark.core

BACKEND = keras.backend.backend()
several = pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has no MultiOptimizer"
)


def rate_of(optimizer):
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def two_parts(a=1.0, b=1.0):
    """A model that moves each of two weights by the rate of another optimizer."""

    def part(name):
        return keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name=name)

    inputs = keras.Input((3,))
    outputs = keras.layers.Add()([part("first")(inputs), part("second")(inputs)])
    model = keras.Model(inputs, outputs)
    a, b = keras.optimizers.SGD(a, name="a"), keras.optimizers.SGD(b, name="b")
    chosen = keras.optimizers.OptimizerMap(a, {"second/.*": b})
    optimizer = keras.optimizers.MultiOptimizer(chosen)
    model.compile(optimizer, lambda y, prediction: keras.ops.mean(prediction))
    return model, a, b


class Moved(keras.callbacks.Callback):
    """How far each weight moved in each epoch of one batch."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append([-float(w[0, 0]) for w in self.model.get_weights()])

    @property
    def rates(self):
        moved = np.diff(np.array([[0.0, 0.0], *self.epochs]), axis=0)
        return np.round(moved / float(X[:, 0].mean()), 5).tolist()


def rates_used(model, values, *callbacks, **options):
    moved = Moved()
    fit(model, values, *callbacks, moved, **options)
    return moved.rates


FLAT = [1.0] * 4


@several
@pytest.mark.parametrize("scheduled", ["a", "b", "both", "none"])
def test_every_rate_is_cut_scheduled_or_not(scheduled):
    model, a, b = two_parts(0.8, 0.4)
    curves = {"a": (a, LinearDecay(0.8, 0.4, over=4)), "b": (b, LinearDecay(0.4, 0.2, over=4))}
    schedules = [
        ParamScheduler(optimizer, learning_rate=curve)
        for name, (optimizer, curve) in curves.items()
        if scheduled in (name, "both")
    ]
    cut = ReduceLROnPlateau(factor=0.5, patience=1)
    linear = np.array([1.0, 0.875, 0.75, 0.625])
    cuts = np.array([1.0, 1.0, 0.5, 0.25])
    first = 0.8 * cuts * (linear if scheduled in ("a", "both") else 1.0)
    second = 0.4 * cuts * (linear if scheduled in ("b", "both") else 1.0)
    found = rates_used(model, FLAT, *schedules, cut)
    np.testing.assert_allclose(found, np.stack([first, second], 1), rtol=1e-3)


@several
def test_each_rate_has_bounds_of_its_own():
    model, a, b = two_parts(0.8, 0.4)
    cut = ReduceLROnPlateau(factor=0.5, patience=1, min_lr=0.2, stop_at_min_lr=True)
    found = rates_used(model, [1.0] * 9, ParamScheduler(a, learning_rate=Constant(0.8)), cut)
    expected = [[0.8, 0.4], [0.8, 0.4], [0.4, 0.2], [0.2, 0.2]]
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert rate_of(b) == pytest.approx(0.2)


@several
def test_each_rate_is_raised_to_its_own_top():
    model, _, b = two_parts(0.8, 0.4)
    values = [5.0, 5.0, 4.0, 3.0]  # cut once, then raised twice
    cut = ReduceLROnPlateau(factor=0.25, patience=1, increase=2.0, increase_after=1, max_lr=0.5)
    found = rates_used(model, values, ParamScheduler(b, learning_rate=Constant(0.4)), cut)
    np.testing.assert_allclose(found, [[0.8, 0.4], [0.8, 0.5], [0.2, 0.2], [0.4, 0.4]], rtol=1e-3)


@several
@pytest.mark.parametrize("how", ["file", "pickle", "deepcopy", "state_dict"])
def test_a_fit_goes_on_with_the_rate_of_each(how, tmp_path):
    def callbacks(a):
        path = tmp_path / "plateau.json" if how == "file" else None
        cut = ReduceLROnPlateau(factor=0.5, patience=1, min_lr=0.2, state_path=path)
        return ParamScheduler(a, learning_rate=Constant(0.8)), cut

    model, a, _ = two_parts(0.8, 0.4)
    schedule, cut = callbacks(a)
    rates_used(model, FLAT[:3], schedule, cut)
    again, a, b = two_parts(0.8, 0.4)
    schedule, fresh = callbacks(a)
    if how == "pickle":
        fresh = pickle.loads(pickle.dumps(cut))
    elif how == "deepcopy":
        fresh = copy.deepcopy(cut)
    elif how == "state_dict":
        fresh.load_state_dict(cut.state_dict(), epoch=3)
    found = rates_used(again, FLAT, schedule, fresh, initial_epoch=3)
    np.testing.assert_allclose(found, [[0.2, 0.2]], rtol=1e-3)
    assert sorted(fresh.state.scale) == [0.25, 1.0]
    assert rate_of(b) == pytest.approx(0.2)


@several
def test_the_state_of_another_number_of_optimizers_is_refused():
    model, *_ = two_parts()
    state = ReduceLROnPlateau().state_dict() | {"rates": [1.0], "tops": [1.0]}
    cut = ReduceLROnPlateau()
    cut.load_state_dict(state, epoch=1)
    with pytest.raises(ValueError, match="is of 1 optimizers, but here are 2"):
        fit(model, FLAT, cut, initial_epoch=1)


# One that is named or given.


class Own(keras.Model):
    """A model that trains by an optimizer of its own beside the compiled one, which is idle."""

    def __init__(self, **options):
        super().__init__()
        self.dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        self.dense.build((None, 3))
        self.built = True
        self.own = keras.optimizers.SGD(0.5)
        self.own.build(self.dense.trainable_variables)
        self.compile(keras.optimizers.SGD(9.0), "mse", **options)

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        weights = self.dense.trainable_variables
        self.own.apply([keras.ops.ones_like(weight.value) for weight in weights], weights)
        return {"loss": keras.ops.mean(self.dense(data[0]))}


own_steps = pytest.mark.skipif(BACKEND == "jax", reason="on JAX a train_step has no side effects")


@own_steps
@pytest.mark.parametrize("how", ["name", "object", "config"])
def test_an_optimizer_by_name_or_object(how):
    model = Own()
    cut = ReduceLROnPlateau(
        *("val_loss", 0.5, 1), optimizer=model.own if how == "object" else "own"
    )
    if how == "config":
        cut = from_config(to_config(cut))
    logs = fit(model, FLAT, cut).history
    np.testing.assert_allclose(model.get_weights()[0], -(0.5 + 0.5 + 0.25 + 0.125), rtol=1e-6)
    assert rate_of(model.own) == 0.0625
    assert learning_rate(model) == 9.0
    assert "optimizer" in repr(cut)
    assert cut == copy.copy(cut)
    assert len(logs["val_loss"]) == 4


@own_steps
def test_a_schedule_of_the_same_optimizer_is_scaled():
    model = Own()
    cut = ReduceLROnPlateau(factor=0.5, patience=1, optimizer="own")
    fit(model, FLAT, ParamScheduler("own", learning_rate=Constant(1.0)), cut)
    np.testing.assert_allclose(model.get_weights()[0], -(1.0 + 1.0 + 0.5 + 0.25), rtol=1e-6)


def test_an_unknown_optimizer_is_refused():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    with pytest.raises(
        ValueError, match=r"no optimizer named 'optimiser'.*Did you mean 'optimizer'"
    ):
        fit(model, FLAT, ReduceLROnPlateau(optimizer="optimiser"))
    assert int(model.optimizer.iterations) == 0


@pytest.mark.parametrize("wrong", ["", 3, Constant(0.1)])
def test_what_is_no_optimizer_is_refused(wrong):
    with pytest.raises((TypeError, ValueError), match="`optimizer` must be the name of"):
        ReduceLROnPlateau(optimizer=wrong)


def test_an_object_is_in_no_config_and_no_state_file(tmp_path):
    optimizer = keras.optimizers.SGD(0.1)
    with pytest.raises(ValueError, match="an optimizer given as an object cannot be saved"):
        ReduceLROnPlateau(optimizer=optimizer).get_config()
    with pytest.raises(ValueError, match=r"`optimizer` must be the name .* with state_path"):
        ReduceLROnPlateau(optimizer=optimizer, state_path=tmp_path / "plateau.json")
    assert "optimizer" not in ReduceLROnPlateau().get_config()


def test_the_state_of_another_optimizer_is_refused(tmp_path):
    path, model = tmp_path / "plateau.json", keras.Sequential([keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    fit(model, FLAT, ReduceLROnPlateau(state_path=path))
    with pytest.raises(StateError, match="optimizer='optimizer'"):
        fit(model, FLAT, ReduceLROnPlateau(state_path=path, optimizer="optimizer"), initial_epoch=2)
