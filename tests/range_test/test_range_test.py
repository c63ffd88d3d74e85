"""The range test through its public interface: the ramp, the stops, the rate that it finds."""

import keras
import numpy as np
import pytest
from models import X, Y, network
from short_tests import finite, quick

from keras_lr import LRRangeTest, NoSuggestion

pytestmark = pytest.mark.core


def line(rate, **compiled):
    """A model whose weight is minus the sum of the rates so far, and whose loss is the weight."""
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    model.compile(keras.optimizers.SGD(rate), lambda y, p: p, **compiled)
    return model


@pytest.mark.parametrize("shape", ["exponential", "linear"])
def test_the_ramp_goes_from_end_to_end_and_the_losses_are_those_of_each_batch(shape):
    x = np.ones((40, 1), "float32")
    test = quick(min_lr=0.01, max_lr=1.0, steps=30, shape=shape, rule="edge", stop_factor=1e9)
    result = test.run(line(0.5), x, x, batch_size=4)
    assert result.rates[0] == 0.01
    assert result.rates[-1] == pytest.approx(1.0)
    assert len(result.rates) == 30
    steps = np.diff(np.log(result.rates) if shape == "exponential" else result.rates)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    # Before update t the weight, and so the loss, is minus the sum of the rates of earlier updates.
    weights = [0.0, -0.01, *(-result.rates.cumsum()[1:-1])]
    np.testing.assert_allclose(result.values, weights, rtol=1e-4, atol=1e-4)


def test_a_length_in_epochs_is_that_many_epochs():
    result = quick(rule="edge", steps="2 epochs", stop_factor=1e9).run(
        network(), X, Y, batch_size=16
    )
    assert len(result.rates) == 32


def test_it_stops_where_the_loss_explodes_and_says_so():
    model = network(keras.optimizers.SGD(0.1))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    result = quick(rule="edge", max_lr=1e6, steps=60).run(model, X, X[:, :3] * 10)
    assert result.ended in ("diverged", "not finite")
    assert len(result.rates) < 60


def test_not_finite_ends_it_at_once():
    x = np.ones((40, 1), "float32")
    result = quick(rule="edge", steps=30).run(line(0.5), np.nan * x, x)
    assert result.ended == "not finite"
    with pytest.raises(NoSuggestion):
        _ = result.suggestion
    assert result.confidence == 0.0
    assert "Diverged at once" in result.report()


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="on PyTorch Keras has no steps_per_execution"
)
@pytest.mark.parametrize("restore", [True, False])
def test_several_steps_per_execution_get_a_rate_each(restore):
    x = np.ones((40, 1), "float32")
    test = quick(min_lr=0.01, max_lr=1.0, rule="edge", stop_factor=1e9, restore=restore)
    one, many = line(0.5), line(0.5, steps_per_execution=5)
    for model in (one, many):
        model.fit(x, x, batch_size=4, verbose=0)
    own = many.train_function
    expected = test.run(one, x, x, batch_size=4).values
    np.testing.assert_allclose(test.run(many, x, x, batch_size=4).values, expected, rtol=1e-6)
    assert many.steps_per_execution == 5
    assert many.train_function is own
    many.fit(x, x, batch_size=4, verbose=0)


def test_repeats_take_other_orders_of_the_batches():
    result = quick(rule="edge", steps=40, repeats=3).run(network(), X, Y)
    assert (result.lower <= result.values).all()
    assert (result.values <= result.upper).all()
    assert (result.upper > result.lower).any()


@pytest.mark.full
def test_generators_and_datasets():
    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 8

        def __getitem__(self, i):
            return X[i * 32 : i * 32 + 32], Y[i * 32 : i * 32 + 32]

    def batches():
        while True:
            yield X[:32], Y[:32]

    weights = np.linspace(0, 1, len(X))
    for run in (
        lambda test, model: test.run(model, Data()),
        lambda test, model: test.run(model, batches()),
        lambda test, model: test.run(model, X, Y, sample_weight=weights),
        lambda test, model: test.run(model, X, Y, class_weight={0: 1.0, 1: 2.0, 2: 1.0}),
    ):
        result = run(quick(rule="edge", stop_factor=1e9), network())
        assert len(result.rates) == 20


def test_a_generator_that_lasts_as_long_as_the_test_is_taken():
    result = quick(rule="edge", stop_factor=1e9).run(network(), finite(30))
    assert len(result.rates) == 20


@pytest.mark.full
def test_callbacks_hear_every_short_training():
    class Count(keras.callbacks.Callback):
        begun = ended = steps = 0

        def on_train_begin(self, logs=None):
            self.begun += 1

        def on_train_end(self, logs=None):
            self.ended += 1

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1

    count = Count()
    result = quick(stop_factor=1e9).run(network(), X, Y, callbacks=count)
    assert count.begun == count.ended >= 3
    assert count.steps == result.found.steps


def test_it_finds_a_rate_that_trains():
    model = network(keras.optimizers.SGD(1e-9))
    result = LRRangeTest(verbose=0).run(model, X, Y)
    start = model.evaluate(X, Y, verbose=0)[0]
    model.optimizer.learning_rate = result.suggestion
    model.fit(X, Y, epochs=10, verbose=0)
    assert model.evaluate(X, Y, verbose=0)[0] < 0.6 * start
    base, top = result.bounds
    assert base < result.suggestion <= top
    assert "Suggestion" in result.report()


@pytest.mark.full
@pytest.mark.parametrize("rule", ["search", "edge"])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_a_model_that_has_learnt_everything_gets_no_rate(task, rule):
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 2)).astype("float32")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    if task == "regression":
        x, y, loss, weights = x, x @ np.array([[1.0], [2.0]], "float32"), "mse", [[1.0], [2.0]]
    else:
        x[:, 0] += np.where(x[:, 0] > 0, 1.0, -1.0)
        y, weights = (x[:, :1] > 0).astype("float32"), [[50.0], [0.0]]
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss)
    model.set_weights([np.array(weights, "float32")])
    result = quick(rule=rule, steps=20).run(model, x, y, batch_size=8)
    with pytest.raises(NoSuggestion, match="Nothing is left to learn"):
        _ = result.suggestion
    assert result.confidence == 0.0
    # The same data are worth a test before they are learnt.
    model.set_weights([np.zeros((2, 1), "float32")])
    again = quick(rule=rule, steps=20).run(model, x, y, batch_size=8)
    assert "left to learn" not in again.report()
