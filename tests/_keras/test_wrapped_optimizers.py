"""Whose rate it is: optimizers that wrap another one, or compute or override `learning_rate`."""

import keras
import numpy as np
import pytest
from models import COMPILE

from keras_lr import (
    Function,
    LinearDecay,
    LRHistory,
    LRRangeTest,
    OneCycle,
    ParamScheduler,
    ReduceLROnPlateau,
)
from keras_lr._keras.rates.hyperparameters import find_hyperparameter

pytestmark = pytest.mark.core
BACKEND = keras.backend.backend()
not_on_jax = pytest.mark.skipif(BACKEND == "jax", reason="refused on JAX, see below")
RATES = [1.0, 0.8, 0.6, 0.4, 0.2]
ONES = np.ones((40, 1), "float32")


def mean(y, prediction):
    """A loss by which every weight has the gradient 1."""
    return keras.ops.mean(prediction)


def net(optimizer, **options):
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((1,)), dense])
    model.compile(optimizer, mean, **{**COMPILE, **options})
    return model


def fit(model, *callbacks, epochs=5):
    options = {"batch_size": 40, "epochs": epochs, "verbose": 0, "callbacks": list(callbacks)}
    return model.fit(ONES, ONES, **options).history


def moved(model):
    return -float(model.get_weights()[0][0, 0])


class Wrapper(keras.optimizers.Optimizer):
    """Leaves the updates to another optimizer, as those that average weights do."""

    attribute = "inner"

    def __init__(self, inner, **options):
        super().__init__(learning_rate=0.123, **options)
        setattr(self, self.attribute, inner)

    @property
    def wrapped(self):
        return getattr(self, self.attribute)

    def build(self, variables):
        self.wrapped.build(variables)
        super().build(variables)

    def apply(self, grads, trainable_variables=None):
        self.wrapped.apply(grads, trainable_variables)
        self.iterations.assign_add(1)


class Delegates(Wrapper):
    learning_rate = property(
        lambda self: self.wrapped.learning_rate,
        lambda self, value: setattr(self.wrapped, "learning_rate", value),
    )


class Lists(Delegates):
    """Lists the variables of the optimizer inside, as JAX needs it."""

    @property
    def variables(self):
        return [*super().variables, *self.wrapped.variables]


class IgnoresSetter(Wrapper):
    learning_rate = property(lambda self: self.wrapped.learning_rate, lambda self, value: None)


class Twice(Wrapper):
    """Shows twice the rate of the optimizer inside, and is set so."""

    learning_rate = property(
        lambda self: 2 * self.wrapped.learning_rate,
        lambda self, value: setattr(self.wrapped, "learning_rate", value / 2),
    )


def named(name):
    return type("Wrapped", (Lists,), {"attribute": name})


WRAPPERS = {
    "inner": Lists,
    "optimizer": named("optimizer"),
    "inner_optimizer": named("inner_optimizer"),
    "_optimizer": named("_optimizer"),
    "nested": lambda inner: Lists(named("optimizer")(inner)),
    "a loss scale": lambda inner: keras.optimizers.LossScaleOptimizer(
        Lists(inner), initial_scale=2.0
    ),
}
if BACKEND != "jax":
    WRAPPERS |= {
        "delegates": Delegates,
        "ignores": IgnoresSetter,
        "a loss scale inside": lambda inner: Lists(
            keras.optimizers.LossScaleOptimizer(inner, initial_scale=1.0)
        ),
    }


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_rate_of_the_optimizer_inside_is_driven(name):
    model, rate = net(WRAPPERS[name](keras.optimizers.SGD(0.5))), LinearDecay(1.0)
    fit(model, rate)
    np.testing.assert_allclose(moved(model), 3.0, rtol=1e-6)
    np.testing.assert_allclose(rate.history.learning_rate, RATES, rtol=1e-6)


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_rate_of_the_optimizer_inside_is_recorded_and_cut(name):
    model, history = net(WRAPPERS[name](keras.optimizers.SGD(0.5))), LRHistory()
    fit(model, history, epochs=2)
    np.testing.assert_allclose(history.learning_rate, [0.5, 0.5], rtol=1e-6)
    cut = ReduceLROnPlateau("loss", factor=0.5, patience=1, mode="max")
    rates = fit(model, cut, epochs=3)["learning_rate"]
    np.testing.assert_allclose(rates, [0.5, 0.5, 0.25], rtol=1e-6)
    np.testing.assert_allclose(moved(model), 1.0 + 1.25, rtol=1e-6)


def test_a_rate_of_the_epoch_before_is_that_of_the_optimizer_inside():
    model = net(Lists(keras.optimizers.SGD(0.5)))
    fit(model, Function(lambda epoch, rate: rate / 2), epochs=2)
    np.testing.assert_allclose(moved(model), 0.25 + 0.125, rtol=1e-6)


@not_on_jax
@pytest.mark.parametrize("steps", [1, 2])
def test_a_rate_that_is_computed_is_set_through_its_property(steps):
    if steps > 1 and BACKEND == "torch":
        pytest.skip("on PyTorch Keras has no steps_per_execution")
    inner, rate = keras.optimizers.SGD(0.5), LinearDecay(1.0)
    model = net(Twice(inner), steps_per_execution=steps)
    if steps == 1:
        fit(model, rate)
        expected = np.array(RATES)
    else:
        with pytest.warns(UserWarning, match="held for 2 batches"):
            model.fit(ONES, ONES, batch_size=10, verbose=0, callbacks=[rate])
        expected = np.array([1.0, 1.0, 0.5, 0.5])
    np.testing.assert_allclose(rate.history.learning_rate, expected, rtol=1e-6)
    np.testing.assert_allclose(moved(model), expected.sum() / 2, rtol=1e-6)


@not_on_jax
def test_a_rate_that_is_computed_is_recorded_and_cut():
    model, history = net(Twice(keras.optimizers.SGD(0.25))), LRHistory()
    fit(model, history, epochs=2)
    np.testing.assert_allclose(history.learning_rate, [0.5, 0.5], rtol=1e-6)
    cut = ReduceLROnPlateau("loss", factor=0.5, patience=1, mode="max")
    rates = fit(model, cut, epochs=3)["learning_rate"]
    np.testing.assert_allclose(rates, [0.5, 0.5, 0.25], rtol=1e-6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="elsewhere Keras runs one step at a time")
def test_a_rate_that_is_computed_is_recorded_once_in_an_execution_and_that_is_said():
    model, history = net(SchedulesItself(0.5), steps_per_execution=2), LRHistory()
    with pytest.warns(UserWarning, match="SchedulesItself computes its.* execution of 2 batches"):
        model.fit(ONES, ONES, batch_size=10, verbose=0, callbacks=[history])
    np.testing.assert_allclose(history.learning_rate, [0.05, 0.05, 0.15, 0.15], rtol=1e-6)


@not_on_jax
def test_a_range_test_of_a_rate_that_is_computed_puts_it_back():
    inner = keras.optimizers.SGD(0.3)
    model = net(Twice(inner))
    LRRangeTest(0.1, 1.0, steps=10, rule="edge", verbose=0).run(model, ONES, ONES, batch_size=4)
    assert float(keras.ops.convert_to_numpy(inner.learning_rate.value)) == np.float32(0.3)
    assert moved(model) == 0.0


# What cannot be driven ----------------------------------------------------------------------------


class OtherThanSet(Wrapper):
    learning_rate = property(
        lambda self: 2 * self.wrapped.learning_rate,
        lambda self, value: setattr(self.wrapped, "learning_rate", value),
    )


class CannotBeSet(Wrapper):
    learning_rate = property(lambda self: 2 * self.wrapped.learning_rate)


class PlainAttribute(keras.optimizers.SGD):
    """Keeps its rate in a Python number."""

    rate = 0.5
    learning_rate = property(
        lambda self: self.rate, lambda self, value: setattr(self, "rate", value)
    )


class Half(keras.optimizers.SGD):
    def _get_current_learning_rate(self):
        return 0.5 * super()._get_current_learning_rate()


class SchedulesItself(keras.optimizers.SGD):
    """Rises over ten updates."""

    def _get_current_learning_rate(self):
        share = keras.ops.minimum(keras.ops.cast(self.iterations + 1, "float32") / 10.0, 1.0)
        return super()._get_current_learning_rate() * share


class FallsLater(keras.optimizers.SGD):
    """What it is set to is its rate now, and less after each update."""

    learning_rate = property(
        lambda self: self._get_current_learning_rate(),
        lambda self, value: self._learning_rate.assign(
            value * (keras.ops.cast(self.iterations, "float32") + 1.0)
        ),
    )

    def _get_current_learning_rate(self):
        return self._learning_rate / (keras.ops.cast(self.iterations, "float32") + 1.0)


REFUSED = {
    "falls later": (lambda: FallsLater(0.5), r"moves by itself with the number of its updates"),
    "other than set": (lambda: OtherThanSet(keras.optimizers.SGD(0.5)), r"reads 1 after"),
    "cannot be set": (lambda: CannotBeSet(keras.optimizers.SGD(0.5)), r"setting it fails"),
    "plain attribute": (lambda: PlainAttribute(0.1), r"from a plain attribute"),
    "half": (lambda: Half(0.5), r"reads 0\.0625 after it was set to 0\.125"),
    "schedules itself": (lambda: SchedulesItself(0.5), r"after it was set to"),
    "a schedule inside": (
        lambda: Delegates(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.5, 10))),
        r"setting it fails.*LearningRateSchedule",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize(
    "callback",
    [
        lambda: LinearDecay(1.0),
        lambda: ReduceLROnPlateau("loss", factor=0.5, patience=1, mode="max"),
        lambda: ParamScheduler(learning_rate=LinearDecay(1.0)),
    ],
    ids=["schedule", "plateau", "scheduler"],
)
def test_what_cannot_be_driven_is_refused_before_the_first_update(name, callback):
    make, words = REFUSED[name]
    optimizer = make()
    model = net(optimizer)
    before = float(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(optimizer.learning_rate)))
    words = words if BACKEND != "jax" else "on JAX nothing"
    with pytest.raises(ValueError, match=f"computes its learning rate, .*{words}"):
        fit(model, callback())
    after = float(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(optimizer.learning_rate)))
    assert after == before
    assert moved(model) == 0.0
    with pytest.raises(ValueError, match="computes its learning rate"):
        LRRangeTest(steps=10, rule="edge", verbose=0).run(model, ONES, ONES, batch_size=4)


def test_the_refusal_names_the_optimizer_inside():
    with pytest.raises(ValueError, match=r"ParamScheduler\(model\.optimizer\.inner, "):
        find_hyperparameter(OtherThanSet(keras.optimizers.SGD(0.5)), "learning_rate")


@pytest.mark.skipif(BACKEND != "jax", reason="elsewhere a step sees every variable")
def test_on_jax_an_optimizer_that_does_not_list_the_rate_is_refused():
    model = net(Delegates(keras.optimizers.SGD(0.5)))
    with pytest.raises(ValueError, match=r"\[\*super\(\)\.variables, \*self\.inner\.variables\]"):
        fit(model, LinearDecay(1.0))
    assert moved(model) == 0.0


@pytest.mark.parametrize("name", ["half", "schedules itself"])
def test_a_rate_that_is_computed_in_the_step_is_recorded(name):
    model, history = net(REFUSED[name][0]()), LRHistory()
    fit(model, history, epochs=4)
    expected = [0.25] * 4 if name == "half" else [0.05, 0.1, 0.15, 0.2]
    np.testing.assert_allclose(history.learning_rate, expected, rtol=1e-6)
    np.testing.assert_allclose(moved(model), np.sum(expected), rtol=1e-6)


# Which of two optimizers --------------------------------------------------------------------------


def test_a_wrapper_with_a_rate_of_its_own_asks_which_is_meant():
    model = net(Wrapper(keras.optimizers.SGD(0.5)))
    with pytest.raises(ValueError, match=r"holds another.*ParamScheduler\(model\.optimizer\.inner"):
        fit(model, LinearDecay(1.0))
    assert moved(model) == 0.0


@not_on_jax
def test_a_record_of_a_wrapper_with_a_rate_of_its_own_says_that_it_may_not_be_in_use():
    model = net(Wrapper(keras.optimizers.SGD(0.5)))
    with pytest.warns(UserWarning, match=r"holds another one, `inner`.*may not be the one in use"):
        fit(model, LRHistory())


@not_on_jax
def test_the_optimizer_inside_can_be_named():
    model = net(Wrapper(keras.optimizers.SGD(0.5)))
    scheduler = ParamScheduler(model.optimizer.inner, learning_rate=LinearDecay(1.0))
    fit(model, scheduler)
    np.testing.assert_allclose(moved(model), 3.0, rtol=1e-6)


def test_a_wrapper_and_the_optimizer_inside_have_one_rate():
    model = net(Lists(keras.optimizers.SGD(0.5)))
    inside = ParamScheduler(model.optimizer.inner, learning_rate=LinearDecay(1.0))
    with pytest.raises(ValueError, match="Two callbacks drive learning_rate"):
        fit(model, LinearDecay(1.0), inside)
    inside = ParamScheduler(model.optimizer.inner, learning_rate=LinearDecay(1.0))
    cut = ReduceLROnPlateau("loss", factor=0.5, patience=1, mode="max")
    fit(model, inside, cut, epochs=3)
    np.testing.assert_allclose(moved(model), 1.0 + 2 / 3 + 0.5 / 3, rtol=1e-6)


# Other numbers ------------------------------------------------------------------------------------


def momentum_by_hand(rates, momenta):
    weight = velocity = 0.0
    for rate, momentum in zip(rates, momenta, strict=True):
        velocity = momentum * velocity + rate
        weight += velocity
    return weight


@pytest.mark.parametrize("name", ["inner", "nested", "a loss scale"])
def test_the_momentum_of_the_optimizer_inside_moves(name):
    inner = keras.optimizers.SGD(0.5, momentum=0.9)
    model, scheduler = net(WRAPPERS[name](inner)), ParamScheduler(momentum=LinearDecay(0.9, 0.4))
    fit(model, scheduler)
    momenta = [0.9, 0.8, 0.7, 0.6, 0.5]
    np.testing.assert_allclose(moved(model), momentum_by_hand([0.5] * 5, momenta), rtol=1e-5)
    np.testing.assert_allclose(scheduler.history["momentum"], momenta, rtol=1e-6)
    assert inner.momentum == 0.9


def test_one_cycle_moves_the_momentum_of_the_optimizer_inside():
    inner, cycle = keras.optimizers.SGD(0.5, momentum=0.9), OneCycle(1.0, warmup="40%")
    model = net(Lists(inner))
    fit(model, cycle)
    momenta = cycle.history["momentum"]
    assert momenta.min() == pytest.approx(0.85)
    expected = momentum_by_hand(cycle.history.learning_rate, momenta)
    np.testing.assert_allclose(moved(model), expected, rtol=1e-5)


def test_a_momentum_that_no_optimizer_inside_uses_is_refused():
    with pytest.raises(ValueError, match=r"SGD was built with momentum=0"):
        find_hyperparameter(Lists(keras.optimizers.SGD(0.5)), "momentum")
    with pytest.raises(ValueError, match=r"Lists has no hyperparameter 'momentum' to move"):
        find_hyperparameter(Lists(keras.optimizers.Adam(0.5)), "momentum")


def test_a_number_that_several_optimizers_inside_have_asks_which_is_meant():
    class Two(Lists):
        def __init__(self, inner, second):
            super().__init__(inner)
            self.second = second

    both = [keras.optimizers.SGD(0.5, momentum=0.9) for _ in range(2)]
    with pytest.raises(ValueError, match=r"Two holds several with the hyperparameter 'momentum'"):
        find_hyperparameter(Two(*both), "momentum")
