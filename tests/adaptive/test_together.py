"""What stands beside a rule in the same fit, and what is refused before the first update."""

import keras
import numpy as np
import pytest
from keras import layers, optimizers
from models import COMPILE
from rule_problems import (
    BATCHES,
    START,
    MomentumByHand,
    X,
    Y,
    adam,
    assert_follows,
    batches,
    fit,
    flat,
    gradients,
    linear,
    plain_sgd,
    sgd,
    start,
    train,
)

from keras_lr import (
    CosineDecay,
    DistanceOverGradients,
    HypergradientDescent,
    LayerRates,
    LRHistory,
    LRRangeTest,
    LRSweep,
    OneCycle,
    Prodigy,
    ReduceLROnPlateau,
)

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("rule", "first"),
    [(Prodigy, "d0"), (DistanceOverGradients, "initial_distance"), (HypergradientDescent, "beta")],
)
def test_a_number_without_a_name_is_refused(rule, first):
    with pytest.raises(TypeError, match=rf"must be named: {first}, .* without a name: 1\.0"):
        rule(1.0)


@pytest.mark.parametrize("first", [True, False])
def test_rates_of_layers_are_factors_of_the_rate_of_the_step(first):
    factors = np.array([1.0, 1.0, 1.0, 0.1])
    weights = before = start()
    rate, rates, optimizer = 0.01, [], MomentumByHand(4)
    for x, y in batches():
        gradient, change = gradients(weights, x, y), weights - before
        size = np.linalg.norm(gradient) * np.linalg.norm(change)
        rate *= 1 + 0.2 * (-gradient @ change / size if size else 0)
        rates.append(rate)
        before = weights
        weights = weights + optimizer.step(gradient, rate * factors)
    callback, parts = HypergradientDescent(beta=0.2), LayerRates({"net/line/bias": 0.1})
    model = linear(sgd())
    train(model, *([parts, callback] if first else [callback, parts]))
    assert_follows((model.get_weights(), callback.history.learning_rate), weights, rates)
    own = callback.history["learning_rate_net/line/bias"]
    np.testing.assert_allclose(own, 0.1 * np.array(rates), rtol=2e-4)


def test_a_weight_decay_goes_by_the_rate_of_its_step():
    weights = before = start()
    rate, rates, optimizer = 0.01, [], MomentumByHand(4)
    for x, y in batches():
        gradient, change = gradients(weights, x, y), weights - before
        size = np.linalg.norm(gradient) * np.linalg.norm(change)
        rate *= 1 + 0.2 * (-gradient @ change / size if size else 0)
        rates.append(rate)
        before = weights
        weights = weights * (1 - 0.5 * rate) + optimizer.step(gradient, rate)
    assert_follows(fit(HypergradientDescent(beta=0.2), sgd(weight_decay=0.5)), weights, rates)


def test_a_range_test_that_only_looks_changes_nothing():
    expected = fit(HypergradientDescent(beta=0.2), sgd())
    look = LRRangeTest(steps=10, rule="edge", verbose=0)
    found = fit(HypergradientDescent(beta=0.2), sgd(), look)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(flat(found[0]), flat(expected[0]))
    assert list(look.results) == [0]


@pytest.mark.parametrize(
    "other",
    [
        CosineDecay(0.1),
        ReduceLROnPlateau("loss"),
        LRRangeTest(apply=True, steps=10, verbose=0),
        HypergradientDescent(beta=0.5),
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.1),
    ],
    ids=lambda one: type(one).__name__,
)
def test_no_two_decide_one_rate(other):
    model = linear(sgd())
    with pytest.raises(ValueError, match="two callbacks decide one rate"):
        train(model, HypergradientDescent(), other)
    np.testing.assert_array_equal(flat(model.get_weights()), flat(START))


@pytest.mark.parametrize("rule", [Prodigy, DistanceOverGradients])
@pytest.mark.parametrize(
    "others",
    [
        [LRRangeTest(apply=True, steps=10, verbose=0)],
        [LRRangeTest(auto=OneCycle(0.1), steps=10, verbose=0)],
        [Prodigy(d0=1e-3)],
        [CosineDecay(1.0), Prodigy(d0=1e-3)],
        [HypergradientDescent()],
    ],
)
def test_what_takes_a_factor_takes_no_rate(rule, others):
    model = linear(plain_sgd() if rule is DistanceOverGradients else adam())
    if rule is DistanceOverGradients:
        others = [DistanceOverGradients() if type(one) is Prodigy else one for one in others]
    with pytest.raises(ValueError, match="two callbacks decide one rate"):
        train(model, rule(), *others)
    np.testing.assert_array_equal(flat(model.get_weights()), flat(START))


def test_callbacks_of_keras_that_set_the_rate_are_said_to_have_no_effect():
    expected = fit(Prodigy(d0=1e-3), adam())
    setter = keras.callbacks.LearningRateScheduler(lambda epoch: 0.5)
    with pytest.warns(UserWarning, match="LearningRateScheduler has no effect here: Prodigy"):
        found = fit(Prodigy(d0=1e-3), adam(), setter)
    np.testing.assert_array_equal(found[1], expected[1])


def test_what_trains_many_times_refuses_it():
    with pytest.raises(ValueError, match="none that drives a rate"):
        LRRangeTest().run(linear(sgd()), X, Y, callbacks=[HypergradientDescent()])
    with pytest.raises(ValueError, match="none that decides the learning rate"):
        LRSweep().run(linear, X, Y, epochs=1, callbacks=[HypergradientDescent()])


class Computed(optimizers.SGD):
    @property
    def learning_rate(self):
        return 0.5 * self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        self._learning_rate.assign(2 * value)


def several():
    return optimizers.MultiOptimizer(optimizers.OptimizerMap(sgd(), {".*bias": sgd()}))


def scheduled():
    return adam(optimizers.schedules.CosineDecay(0.1, 10))


@pytest.mark.parametrize(
    ("optimizer", "error", "message"),
    [
        (scheduled, TypeError, "a `LearningRateSchedule`"),
        (lambda: Computed(0.1), ValueError, "computes its learning rate"),
        (several, ValueError, "several optimizers"),
    ],
)
def test_optimizers_that_cannot_follow_are_refused(optimizer, error, message):
    model = linear(optimizer())
    with pytest.raises(error, match=message):
        train(model, HypergradientDescent())
    np.testing.assert_array_equal(flat(model.get_weights()), flat(START))


class Twice(keras.Sequential):
    """A model whose step makes two updates."""

    def train_step(self, *arguments):
        found = super().train_step(*arguments)
        if keras.backend.backend() == "jax":
            arguments = found[1], arguments[1]
        return super().train_step(*arguments)


def test_a_step_that_applies_gradients_twice_is_refused_in_the_first_batch():
    model = Twice([keras.Input((3,)), layers.Dense(1)])
    model.compile(sgd(), "mse", **COMPILE)
    batches = []
    seen = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(1))
    with pytest.raises(RuntimeError, match="applied gradients 2 times in 1 batch, so"):
        train(model, HypergradientDescent(), seen)
    assert not batches
    # Where the step is compiled, before its first update.
    assert int(model.optimizer.iterations) == (1 if keras.backend.backend() == "torch" else 0)


on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="a condition of TensorFlow"
)


class Branches(keras.Sequential):
    """A model whose step applies the gradients in one of two branches."""

    updates_below = 1
    """Updates in the branch of small losses."""

    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
        weights = self.trainable_variables
        grads = tape.gradient(loss, weights)

        def apply(times=1):
            for _ in range(times):
                self.optimizer.apply(grads, weights)
            return loss

        return {"loss": tf.cond(loss > LIMIT, apply, lambda: apply(self.updates_below))}


LIMIT = 0.5


def branches_model():
    keras.utils.set_random_seed(0)
    model = Branches([keras.Input((3,)), layers.Dense(1)])
    model.compile(sgd(), **COMPILE)
    return model


@on_tensorflow
def test_a_step_may_apply_gradients_in_either_branch_of_a_condition():
    model, record = branches_model(), LRHistory()
    plain = linear(sgd())
    plain.set_weights(model.get_weights())
    train(model, HypergradientDescent(beta=0.5), record)
    assert record.loss.min() < LIMIT < record.loss.max()
    expected = LRHistory()
    train(plain, HypergradientDescent(beta=0.5), expected)
    np.testing.assert_allclose(record.learning_rate, expected.learning_rate, rtol=1e-5)
    np.testing.assert_allclose(flat(model.get_weights()), flat(plain.get_weights()), rtol=1e-5)


@on_tensorflow
def test_a_step_that_applies_gradients_twice_in_a_branch_is_refused():
    model = branches_model()
    model.updates_below = 2
    with pytest.raises(RuntimeError, match="applied gradients 2 times in 1 batch, so"):
        train(model, HypergradientDescent(beta=0.5))


def test_a_rate_that_was_changed_between_two_fits_is_where_the_next_one_begins():
    model, callback, record = linear(sgd()), HypergradientDescent(beta=0.2), LRHistory()
    train(model, callback)
    model.optimizer.learning_rate = 0.002
    train(model, callback, record)
    assert record.learning_rate[0] == np.float32(0.002)
    assert len(record.learning_rate) == 2 * BATCHES
