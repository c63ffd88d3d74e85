"""What a range test trains on: the rows that fit would train on, in an order for each repeat."""

import warnings

import keras
import numpy as np
import pytest
from models import X, Y, network

from keras_lr import LayerRates, LRHistory, LRRangeTest
from keras_lr.range_test import runner

pytestmark = pytest.mark.core

TENSORFLOW = keras.backend.backend() == "tensorflow"


def quick(**arguments):
    return LRRangeTest(
        **{"verbose": 0, "steps": 20, "rule": "edge", "stop_factor": 1e9} | arguments
    )


def label_model():
    """A model whose loss in each batch is the mean of its targets, whatever the rate."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(), lambda y, p: y + 0.0 * p)
    return model


def rows(count=40):
    return np.ones((count, 1), "float32"), np.arange(count, dtype="float32")[:, None]


def values_of(x, y, **fit):
    fit = {"batch_size": 4, "shuffle": False} | fit
    return quick(steps=10).run(label_model(), x, y, **fit).values


# Ten batches of 4 rows are 40 rows: without the last 8 the data repeat after 8 batches.
EVERY = 1.5 + 4.0 * np.arange(10)
WITHOUT_LAST = np.append(EVERY[:8], EVERY[:2])


def test_a_validation_split_leaves_the_last_rows_out():
    x, y = rows()
    np.testing.assert_allclose(values_of(x, y), EVERY, rtol=1e-5)
    np.testing.assert_allclose(values_of(x, y, validation_split=0.2), WITHOUT_LAST, rtol=1e-5)


def test_validation_data_leave_a_split_without_effect_as_in_fit():
    x, y = rows()
    values = values_of(x, y, validation_split=0.2, validation_data=(x, y))
    np.testing.assert_allclose(values, EVERY, rtol=1e-5)


def test_a_split_takes_weights_and_nested_inputs_along():
    x, y = rows()
    weights = np.where(np.arange(40) < 32, 2.0, np.nan).astype("float32")
    values = values_of(x, y, validation_split=0.2, sample_weight=weights)
    np.testing.assert_allclose(values, 2.0 * WITHOUT_LAST, rtol=1e-5)
    a, b = keras.Input((1,), name="a"), keras.Input((1,), name="b")
    model = keras.Model({"a": a, "b": b}, keras.layers.Dense(1)(keras.layers.Add()([a, b])))
    model.compile(keras.optimizers.SGD(), lambda y, p: y + 0.0 * p)
    fit = {"batch_size": 4, "shuffle": False, "validation_split": 0.2}
    result = quick(steps=10).run(model, {"a": x, "b": x}, y, **fit)
    np.testing.assert_allclose(result.values, WITHOUT_LAST, rtol=1e-5)


def test_a_split_of_tensors():
    x, y = (keras.ops.convert_to_tensor(part) for part in rows())
    np.testing.assert_allclose(values_of(x, y, validation_split=0.2), WITHOUT_LAST, rtol=1e-5)


def test_a_split_for_a_validation_metric():
    x, y = rows()
    test = quick(steps=10, monitor="val_loss", validate_every=2)
    fit = {"batch_size": 4, "shuffle": False, "validation_split": 0.2}
    np.testing.assert_allclose(test.run(label_model(), x, y, **fit).values, 35.5, rtol=1e-5)


def test_a_split_that_cannot_be_is_refused():
    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 8

        def __getitem__(self, i):
            return X[i * 32 : i * 32 + 32], Y[i * 32 : i * 32 + 32]

    with pytest.raises(ValueError, match=r"`validation_split` is for arrays.*Data"):
        quick().run(network(), Data(), validation_split=0.2)
    with pytest.raises(ValueError, match=r"must leave some of the 1 rows.*validation_split=0.2"):
        quick().run(network(), X[:1], Y[:1], validation_split=0.2)


def test_a_length_in_epochs_is_of_the_rows_that_are_left():
    result = quick(steps="2 epochs").run(network(), X, Y, batch_size=16, validation_split=0.25)
    assert len(result.rates) == 24


# The orders of repeats ----------------------------------------------------------------------------


def band(result):
    return float((result.upper - result.lower).max())


@pytest.mark.full
@pytest.mark.parametrize("keras_orders", [True, False])
@pytest.mark.parametrize("steps", [10, 30])
def test_repeats_have_orders_of_their_own_whatever_keras_does(monkeypatch, keras_orders, steps):
    if not keras_orders:
        set_seed = runner.set_seed  # a Keras that orders arrays by the number of the epoch
        monkeypatch.setattr(runner, "set_seed", lambda seed, *more: set_seed(0, *more))
    x, y = rows()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="LRRangeTest")
        three, again = (
            quick(steps=steps, repeats=3).run(label_model(), x, y, batch_size=4) for _ in range(2)
        )
    assert band(three) > 1.0
    np.testing.assert_array_equal(three.values, again.values)
    if steps == 10:
        # In an epoch every row is seen once: the mean of each repeat is that of the labels.
        two = quick(steps=10, repeats=2).run(label_model(), x, y, batch_size=4)
        assert two.values.mean() == pytest.approx(19.5, rel=1e-5)


def test_rows_of_a_batch_stay_together_where_fit_shuffles_batches():
    y = np.repeat(np.arange(10.0, dtype="float32"), 4)[:, None]
    test = quick(steps=10, repeats=2)
    result = test.run(label_model(), np.ones((40, 1), "float32"), y, batch_size=4, shuffle="batch")
    assert band(result) > 0.1
    # Each batch is of one label, and so is its loss; the median of two is half-way.
    halves = 2.0 * result.values
    np.testing.assert_allclose(halves, np.rint(halves), atol=1e-4)


@pytest.mark.full
def test_repeats_of_nested_and_weighted_data_keep_rows_together():
    x, y = rows()
    weights = np.where(y[:, 0] < 20, 0.0, 1.0).astype("float32")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(), lambda y, p: y + 0.0 * p)
    result = quick(steps=10, repeats=3).run(model, x, y, batch_size=40, sample_weight=weights)
    # Every batch has all rows: whatever the order, the weighted sum is the same.
    np.testing.assert_allclose(result.values, 29.5 * 20 / 40, rtol=1e-5)
    assert band(result) < 1e-4


@pytest.mark.full
def test_an_order_that_cannot_change_is_said():
    x, y = rows()
    with pytest.warns(UserWarning, match=r"not shuffled \(shuffle=False\)") as seen:
        quick(steps=10, repeats=2).run(label_model(), x, y, batch_size=4, shuffle=False)
    said = [one for one in seen if "shuffle=False" in str(one.message)]
    assert [one.filename for one in said] == [__file__]

    def batches():
        while True:
            yield x[:4], y[:4]

    with pytest.warns(UserWarning, match="generator, which continues where the last run ended"):
        quick(steps=10, repeats=2).run(label_model(), batches())
    with pytest.warns(UserWarning, match="the data are a single batch"):
        quick(steps=10, repeats=2).run(label_model(), x, y, batch_size=40)


def test_a_loader_of_pytorch_shuffles_on_every_backend():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(*map(torch.tensor, rows()))
    loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="LRRangeTest")
        assert band(quick(steps=10, repeats=3).run(label_model(), loader)) > 1.0


class Batches(keras.utils.PyDataset):
    """Ten batches, in an order that the data set itself may change before or after each epoch."""

    def __init__(self, shuffles):
        super().__init__()
        self.shuffles, self.order = shuffles, np.arange(40)

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return tuple(array[self.order[4 * i : 4 * i + 4]] for array in rows())

    def on_epoch_begin(self):
        if self.shuffles == "before":
            np.random.shuffle(self.order)  # noqa: NPY002

    def on_epoch_end(self):
        if self.shuffles == "after":
            np.random.shuffle(self.order)  # noqa: NPY002


@pytest.mark.parametrize("shuffles", ["", "before", "after"])
def test_a_data_set_may_shuffle_itself(shuffles):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = quick(steps=10, repeats=3).run(label_model(), Batches(shuffles), shuffle=False)
    said = [one for one in seen if "Batches, which gives them in one order" in str(one.message)]
    assert len(said) == (not shuffles)
    assert (band(result) > 1.0) is bool(shuffles)


@pytest.mark.skipif(not TENSORFLOW, reason="TensorFlow")
@pytest.mark.parametrize("shuffles", [False, True, "all but the first batch"])
def test_a_dataset_that_does_not_shuffle_is_said_to(shuffles):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(rows())
    if shuffles is True:
        data = data.shuffle(40)
    elif shuffles:
        data = data.take(4).concatenate(data.skip(4).shuffle(36))
    data = data.batch(4)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = quick(steps=10, repeats=3).run(label_model(), data)
    said = [one for one in seen if "which gives them in one order" in str(one.message)]
    assert len(said) == (not shuffles)
    assert (band(result) > 1.0) is bool(shuffles)


# A model that has no variables yet ----------------------------------------------------------------


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(8, "relu", name="dense")
        self.head = keras.layers.Dense(1)

    def call(self, x):
        return self.head(self.hidden(x))


@pytest.mark.parametrize("marked", [False, True])
def test_a_subclassed_model_is_built_and_put_back(marked):
    """Also if ``model.build`` marked it as built: it builds no layer of a subclassed model."""
    model = Subclassed()
    model.compile("adam", "mse")
    if marked:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras's own, of the missing method
            model.build((None, 8))
    seen = []
    start = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: seen.append([np.array(one) for one in model.get_weights()])
    )
    x, y = rows()
    quick(stop_factor=4.0).run(model, np.repeat(x, 8, axis=1), y, callbacks=[start])
    assert len(model.get_weights()) == 4
    assert int(model.optimizer.iterations) == 0
    for weight, first in zip(model.get_weights(), seen[0], strict=True):
        np.testing.assert_array_equal(weight, first)


class Unused(Subclassed):
    """A model with a layer that is never called."""

    def __init__(self):
        super().__init__()
        self.unused = keras.layers.Dense(3)


def test_a_layer_may_never_be_called():
    x, y = rows()
    x = np.repeat(x, 8, axis=1)

    def batches():
        while True:
            yield x[:4], y[:4]

    model = Unused()
    model.compile("adam", "mse")
    model(x)
    quick(stop_factor=4.0).run(model, batches())
    model.fit(batches(), steps_per_epoch=3, verbose=0, callbacks=[LayerRates({"dense": 0.5})])
    assert len(model.get_weights()) == 4
    assert int(model.optimizer.iterations) == 3


# Arguments of fit that cannot be right ------------------------------------------------------------


@pytest.mark.parametrize(
    ("fit", "words"),
    [
        ({"batchsize": 4}, r"unknown argument `batchsize`.*batchsize=4.*mean `batch_size`"),
        (
            {"callbacks": [keras.callbacks.History]},
            r"holds the class.*=\[History\(...\)\]",
        ),
        ({"callbacks": LRHistory}, r"holds the class.*callbacks=\[LRHistory\(...\)\]"),
    ],
)
def test_a_wrong_argument_of_fit_is_refused_before_the_first_step(fit, words):
    model = label_model()
    with pytest.raises(TypeError, match=words):
        quick().run(model, *rows(), **fit)
    assert not model.optimizer.built


def test_a_model_may_have_a_fit_of_its_own():
    class Own(keras.Sequential):
        def fit(self, *arguments, prepare=None, **named):
            prepared.append(prepare)
            return super().fit(*arguments, **named)

    prepared = []
    model = Own([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    quick().run(model, *rows(), prepare=3)
    assert set(prepared) == {3}


@pytest.mark.skipif(not TENSORFLOW, reason="the training step is one of TensorFlow")
def test_a_model_of_two_models_needs_no_call():
    import tensorflow as tf

    class Pair(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.other = label_model(), label_model()

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self.other(self.one(x)) - y) ** 2)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return {"loss": loss}

    model = Pair()
    model.compile("sgd")
    before = [np.array(one) for one in model.get_weights()]
    result = quick(steps=30).run(model, *rows())
    assert result.losses[-1] > 10.0 * result.losses[0]
    for weight, first in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, first)


def test_a_model_that_is_frozen_is_told_so():
    model = label_model()
    model.trainable = False
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"no trainable weights.*before model.compile"):
        quick().run(model, *rows())
