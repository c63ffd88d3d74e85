"""Objects of TensorFlow and of PyTorch that a model holds are found and put back."""

import keras
import numpy as np
import pytest
from holders import BACKEND, HOLDERS, Counts, Holder, compiled, fit, in_an_object, model_of, numbers
from keras import layers

from keras_lr._keras.state.snapshot import state_preserved

on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="objects of TensorFlow")
on_torch = pytest.mark.skipif(BACKEND != "torch", reason="objects of PyTorch")


# Objects of TensorFlow ----------------------------------------------------------------------------


@on_tensorflow
@pytest.mark.parametrize("hold", HOLDERS)
def test_variables_of_tensorflow_come_back(hold):
    import tensorflow as tf

    layer = Counts(hold, lambda: tf.Variable(0), lambda variable: variable.assign_add(1))
    model = model_of(layer)
    fit(model)
    with state_preserved(model):
        fit(model)
        assert int(layer.get()) == 4
    assert int(layer.get()) == 2


@on_tensorflow
@pytest.mark.parametrize("hold", HOLDERS)
def test_generators_of_tensorflow_come_back(hold):
    import tensorflow as tf

    layer = Counts(
        hold, lambda: tf.random.Generator.from_seed(1), lambda generator: generator.normal(())
    )
    model = model_of(layer)
    fit(model)
    before = layer.get().state.numpy().tolist()
    with state_preserved(model):
        fit(model)
        assert layer.get().state.numpy().tolist() != before
    assert layer.get().state.numpy().tolist() == before


@on_tensorflow
@pytest.mark.parametrize("kind", ["MutableHashTable", "DenseHashTable"])
def test_lookup_tables_of_tensorflow_come_back(kind):
    import tensorflow as tf

    def make():
        special = {"empty_key": -1, "deleted_key": -2} if kind == "DenseHashTable" else {}
        made = getattr(tf.lookup.experimental, kind)(tf.int64, tf.int64, 0, **special)
        made.insert(tf.constant([7], tf.int64), tf.constant([3], tf.int64))
        return made

    def add(table):
        table.insert(tf.constant([7], tf.int64), table.lookup(tf.constant([7], tf.int64)) + 1)
        table.insert(tf.constant([9], tf.int64), tf.constant([1], tf.int64))

    layer = Counts(in_an_object, make, add)
    model = model_of(layer, jit_compile=False)
    keys = tf.constant([7, 9], tf.int64)
    with state_preserved(model):
        fit(model)
        assert layer.get().lookup(keys).numpy().tolist() == [5, 1]
    assert layer.get().lookup(keys).numpy().tolist() == [3, 0]


@on_tensorflow
def test_a_module_of_tensorflow_comes_back():
    import tensorflow as tf

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.count = tf.Variable(0)

    layer = Counts(in_an_object, Module, lambda module: module.count.assign_add(1))
    model = model_of(layer)
    with state_preserved(model):
        fit(model)
        assert int(layer.get().count) == 2
    assert int(layer.get().count) == 0


@on_tensorflow
def test_vocabularies_stay(recwarn):
    numbers = keras.Input((1,), dtype="int64")
    lookup = layers.IntegerLookup(vocabulary=[3, 5, 7], mask_token=0)
    embedded = layers.Flatten()(layers.Embedding(5, 2)(lookup(numbers)))
    model = compiled(keras.Model(numbers, layers.Dense(1)(embedded)), jit_compile=False)
    x = np.array([[3], [5], [7], [9]] * 8)
    before = lookup(x).numpy().tolist()
    with state_preserved(model):
        fit(model, x)
    assert lookup(x).numpy().tolist() == before
    assert not [one for one in recwarn if "put back" in str(one.message)]


@on_tensorflow
def test_the_slots_of_an_optimizer_in_a_helper_come_back():
    import tensorflow as tf

    class Helped(keras.Sequential):
        def __init__(self):
            super().__init__([keras.Input(batch_shape=(16, 6, 3)), layers.Flatten()])
            self.add(layers.Dense(1))
            self.helper = Holder(keras.optimizers.Adam())

        def train_step(self, data):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(self(data[0]) - data[1]))
            weights = self.trainable_variables
            self.helper.value.apply(tape.gradient(loss, weights), weights)
            return {"loss": loss}

    model = compiled(Helped())
    with state_preserved(model):
        fit(model)
        assert int(model.helper.value.iterations) == 2
    values = [numbers(variable) for variable in model.helper.value.variables]
    assert len(values) == 6
    assert values[1] == pytest.approx(0.001)
    assert [float(np.abs(value).max()) for i, value in enumerate(values) if i != 1] == [0.0] * 5


# Objects of PyTorch -------------------------------------------------------------------------------


@on_torch
def test_a_module_of_pytorch_comes_back():
    import torch

    class Running(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(18)
            self.register_buffer("mean", torch.zeros(18))
            self.plain, self.calls = torch.zeros(18), 0
            self.several = [torch.zeros(1)]
            self.generator = torch.Generator().manual_seed(1)

        def forward(self, x):
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
            self.plain += 1
            self.several[0] = self.several[0] + 1
            self.calls += 1
            noise = torch.rand(18, generator=self.generator)
            return self.norm(x) + 0.01 * noise

    module = Running()
    wrapped = layers.TorchModuleWrapper(torch.nn.Sequential(module, torch.nn.Dropout(0.1)))
    inputs = keras.Input(batch_shape=(16, 6, 3))
    model = keras.Sequential([inputs, layers.Flatten(), wrapped, layers.Dense(1)])
    compiled(model)

    def state():
        tensors = {**module.state_dict(), "plain": module.plain, "several": module.several[0]}
        found = {name: tensor.clone() for name, tensor in tensors.items()}
        return found | {"generator": module.generator.get_state(), "calls": module.calls}

    fit(model)
    before, weights = state(), model.get_weights()
    with state_preserved(model):
        fit(model)
        moved = state()
    assert all(np.any(np.asarray(moved[name] != before[name])) for name in before)
    for name, value in state().items():
        assert np.all(np.asarray(value == before[name])), name
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
