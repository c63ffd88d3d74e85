"""Whose rate a range test moves, and what the suggestion owes to the kind of the optimizer."""

import keras
import numpy as np
import pytest
from models import X, Y, network

from keras_lr import LRRangeTest, from_config, load, save, to_config

pytestmark = pytest.mark.core

BACKEND = keras.backend.backend()


class TwoOptimizers(keras.Model):
    """Trains by an optimizer of its own, beside the idle one that it is compiled with."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        self.dense.build((None, 1))
        self.built = True

    def compile(self, own):
        super().compile(optimizer="sgd", loss="mse")
        self.own = own

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        weights = list(self.dense.trainable_variables)
        if BACKEND == "torch":
            self.zero_grad()
            loss = keras.ops.mean((self.dense(data[0]) - 3.0) ** 2)
            loss.backward()
            self.own.apply([weight.value.grad for weight in weights], weights)
            return {"loss": loss.detach()}
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.dense(data[0]) - 3.0) ** 2)
        self.own.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


def two_optimizers():
    model = TwoOptimizers()
    model.compile(keras.optimizers.SGD(0.01))
    return model


ONES = np.ones((40, 1), "float32")
needs_variables = pytest.mark.skipif(BACKEND == "jax", reason="JAX's step has the model's own")


@needs_variables
def test_an_optimizer_that_trains_nothing_is_an_error():
    model = two_optimizers()
    with pytest.raises(
        ValueError, match=r"optimizer 'sgd.*made no update.*optimizer=None.*optimizer, own"
    ):
        LRRangeTest(verbose=0).run(model, ONES, ONES, batch_size=4)
    with pytest.raises(ValueError, match="made no update"):
        model.fit(ONES, ONES, batch_size=4, verbose=0, callbacks=[LRRangeTest(verbose=0)])


@pytest.mark.full
@needs_variables
@pytest.mark.parametrize("by_name", [True, False])
def test_an_optimizer_is_named_or_given(by_name):
    model = two_optimizers()
    which = "own" if by_name else model.own
    result = LRRangeTest(verbose=0, optimizer=which).run(model, ONES, ONES, batch_size=4)
    # (w - 3) ** 2 has the curvature 2, so that SGD is stable below 1.
    assert 0.01 < result.suggestion < 1.0
    assert float(model.own.learning_rate) == pytest.approx(0.01)
    assert int(model.own.iterations) == 0
    test = LRRangeTest(verbose=0, optimizer=which, apply=True)
    model.fit(ONES, ONES, batch_size=4, verbose=0, callbacks=[test])
    assert float(model.own.learning_rate) == pytest.approx(test.result.suggestion)


@pytest.mark.full
def test_the_model_s_own_optimizer_may_be_named():
    named = LRRangeTest(verbose=0, steps=20, budget=60, optimizer="optimizer")
    plain = LRRangeTest(verbose=0, steps=20, budget=60)
    assert named.run(network(), X, Y).suggestion == plain.run(network(), X, Y).suggestion
    with pytest.raises(ValueError, match=r"no optimizer named 'optimiser'.*Did you mean"):
        LRRangeTest(verbose=0, optimizer="optimiser").run(network(), X, Y)


def test_a_config_names_an_optimizer_and_holds_none(tmp_path):
    test = LRRangeTest(optimizer="own", auto=None)
    assert from_config(to_config(test)) == test
    save(test, tmp_path / "test.yaml")
    assert load(tmp_path / "test.yaml") in (test, [test])
    assert LRRangeTest.from_config(test.get_config()) == test
    assert "optimizer" not in LRRangeTest().get_config()
    with pytest.raises(ValueError, match="Give the name of the model's attribute"):
        LRRangeTest(optimizer=keras.optimizers.SGD()).get_config()
    for wrong in (0.1, ""):
        with pytest.raises((TypeError, ValueError), match="`optimizer` must be the name"):
            LRRangeTest(optimizer=wrong)


class OwnSGD(keras.optimizers.SGD):
    """A custom optimizer."""


@pytest.mark.full
@pytest.mark.parametrize("kind", [OwnSGD, keras.optimizers.Adam])
def test_the_suggestion_for_a_longer_training_depends_on_the_optimizer(kind):
    result = LRRangeTest(steps=40, budget=120, verbose=0).run(network(kind(0.1)), X, Y)
    share = 10**-0.5 if kind is keras.optimizers.Adam else 10**-0.1
    assert result.suggestion / result.bounds[1] == pytest.approx(share)
