"""What training changes besides the variables that Keras lists is found and put back."""

import collections
import functools
import importlib
import random
import sys
import threading
import time
import warnings

import keras
import numpy as np
import pytest
from keras import layers
from models import COMPILE
from selection import mostly_full

from keras_lr import LRRangeTest
from keras_lr._keras.state.object_walk import layers_in, loaded_library, walk_objects
from keras_lr._keras.state.snapshot import Snapshot, state_preserved

BACKEND = keras.backend.backend()
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="objects of TensorFlow")
on_torch = pytest.mark.skipif(BACKEND != "torch", reason="objects of PyTorch")
not_on_jax = pytest.mark.skipif(BACKEND == "jax", reason="JAX needs a stateless call")

X = np.random.default_rng(0).normal(size=(32, 6, 3)).astype("float32")
Y = X.sum((1, 2))[:, None]


def compiled(model, **options):
    model.compile("adam", "mse", **{**COMPILE, **options})
    return model


def model_of(*parts, **options):
    inputs = keras.Input(batch_shape=(16, 6, 3))
    return compiled(
        keras.Sequential([inputs, *parts, layers.Flatten(), layers.Dense(1)]), **options
    )


def fit(model, x=X, **options):
    model.fit(x, Y, batch_size=16, shuffle=False, verbose=0, **options)


def numbers(value):
    return np.array(keras.ops.convert_to_numpy(value))


# States of recurrent layers -----------------------------------------------------------------------


class Block(layers.Layer):
    """A layer inside which Keras lists no state."""

    def __init__(self, inner):
        super().__init__()
        self.hidden = {"parts": [inner]}

    def build(self, shape):
        self.hidden["parts"][0].build(shape)

    def call(self, x):
        return self.hidden["parts"][0](x)


def lstm(**options):
    return layers.LSTM(4, stateful=True, **options)


STATEFUL = {
    "lstm": lambda: [lstm()],
    "gru": lambda: [layers.GRU(4, stateful=True)],
    "simple": lambda: [layers.SimpleRNN(4, stateful=True)],
    "stacked cells": lambda: [
        layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], stateful=True),
    ],
    "two": lambda: [lstm(return_sequences=True), lstm()],
    "bidirectional": lambda: [layers.Bidirectional(lstm())],
    "convolutional": lambda: [
        layers.Reshape((6, 3, 1, 1)),
        layers.ConvLSTM2D(2, (2, 1), stateful=True),
    ],
    "inside a model": lambda: [
        keras.Sequential([keras.Input(batch_shape=(16, 6, 3)), lstm(name="deep")])
    ],
    "inside a layer": lambda: [Block(lstm(name="deep"))],
}


def states_of(model):
    return [
        numbers(state)
        for layer in layers_in(model)
        for state in keras.tree.flatten(getattr(layer, "states", None) or [])
    ]


@pytest.mark.core
@pytest.mark.parametrize("name", mostly_full(STATEFUL, [*STATEFUL][::2]))
def test_states_of_recurrent_layers_come_back(name):
    model = model_of(*STATEFUL[name]())
    model.predict(X, batch_size=16, verbose=0)
    before = states_of(model)
    assert len(before) >= 1
    with state_preserved(model):
        # On PyTorch, Keras cannot train a stateful layer, and on JAX not its untracked states.
        if BACKEND == "tensorflow":
            fit(model)
        else:
            model.predict(X[:16] + 1.0, batch_size=16, verbose=0)
        moved = states_of(model)
    assert BACKEND == "jax" or any((a != b).any() for a, b in zip(before, moved, strict=True))
    for a, b in zip(before, states_of(model), strict=True):
        np.testing.assert_array_equal(a, b)


# Variables that Keras does not track --------------------------------------------------------------


class Holder:
    """A plain object of the user's."""

    def __init__(self, value):
        self.value = value
        self.itself = self


def in_a_list(layer, make):
    layer.values = [[make()]]
    return lambda: layer.values[0][0]


def in_a_dict(layer, make):
    layer.values = {"inside": {"a dict": make()}}
    return lambda: layer.values["inside"]["a dict"]


def in_an_object(layer, make):
    layer.value = Holder(Holder(make()))
    return lambda: layer.value.value.value


def in_a_closure(layer, make):
    value = make()
    layer.function = lambda: value
    return lambda: value


def in_a_tuple(layer, make):
    layer.values = (1, (make(),))
    return lambda: layer.values[1][0]


def in_a_property(layer, make):
    value = make()

    class Own(type(layer)):
        state = property(lambda self: value)

    layer.__class__ = Own
    return lambda: layer.state


def in_a_decorated_function(layer, make):
    value = make()

    def plain():
        return value

    @functools.wraps(plain)
    def decorated():
        return plain()

    layer.function = decorated
    return lambda: value


HOLDERS = [
    *(in_a_list, in_a_dict, in_an_object, in_a_closure, in_a_tuple),
    *(in_a_property, in_a_decorated_function),
]


class Counts(layers.Layer):
    """Adds to a number in training, wherever the number is."""

    def __init__(self, hold, make, add):
        super().__init__()
        self.get = hold(self, make)
        self.add = add

    def call(self, x, training=False):
        if training:
            self.add(self.get())
        return x


def untracked(**options):
    """Return a variable that no layer tracks: one that was made before the layer holds it."""
    return keras.Variable(1.0, trainable=False, **options)


@pytest.mark.core
@not_on_jax
@pytest.mark.parametrize("hold", HOLDERS)
def test_an_untracked_variable_comes_back(hold):
    layer = Counts(hold, untracked, lambda variable: variable.assign_add(1.0))
    model = model_of(layer)
    fit(model)
    before = float(numbers(layer.get()))
    with state_preserved(model):
        fit(model, epochs=2)
        assert float(numbers(layer.get())) == before + 4
    assert float(numbers(layer.get())) == before


@pytest.mark.core
@not_on_jax
def test_a_variable_of_a_loss_comes_back():
    count = untracked()

    def loss(y, prediction):
        count.assign_add(1.0)
        return keras.ops.square(y - prediction)

    model = model_of()
    model.compile("sgd", loss, **COMPILE)
    fit(model)
    before = float(numbers(count))
    with state_preserved(model):
        fit(model)
        assert float(numbers(count)) > before
    assert float(numbers(count)) == before


GLOBAL = untracked()


@pytest.mark.core
@not_on_jax
def test_a_variable_that_a_module_holds_comes_back():
    class Global(layers.Layer):
        def call(self, x):
            GLOBAL.assign_add(1.0)
            return x

    model = model_of(Global())
    fit(model)
    before = float(numbers(GLOBAL))
    with state_preserved(model):
        fit(model)
        assert float(numbers(GLOBAL)) > before
    assert float(numbers(GLOBAL)) == before


class Counters:
    def __init__(self):
        self.first, self.more = untracked(), {"second": [untracked()]}


GLOBALS = {"first": untracked(), "more": (Counters(),), "last": [untracked(), *range(20_000)]}
COUNTERS = Counters()


@pytest.mark.core
@not_on_jax
def test_variables_in_containers_and_objects_of_a_module_come_back():
    class Global(layers.Layer):
        def call(self, x):
            for holder in (GLOBALS["more"][0], COUNTERS):
                for count in (GLOBALS["first"], holder.first, holder.more["second"][0]):
                    count.assign_add(1.0)
            GLOBALS["last"][0].assign_add(1.0)
            return x

    def values():
        counts = [GLOBALS["first"], GLOBALS["last"][0]]
        for holder in (GLOBALS["more"][0], COUNTERS):
            counts += [holder.first, *holder.more["second"]]
        return [float(numbers(count)) for count in counts]

    model = model_of(Global())
    fit(model)
    before = values()
    with state_preserved(model):
        fit(model)
        assert all(now > then for now, then in zip(values(), before, strict=True))
    assert values() == before


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


# What a module holds ------------------------------------------------------------------------------

TEACHER = keras.Sequential([keras.Input((1,)), layers.BatchNormalization()])


def distance_to_teacher(y, prediction):
    taught = TEACHER(keras.ops.stop_gradient(prediction), training=True)
    return keras.ops.square(prediction - y) + 0.0 * taught


@pytest.mark.core
@not_on_jax
def test_a_model_that_a_loss_refers_to_comes_back():
    model = model_of(layers.Flatten())
    model.compile("sgd", distance_to_teacher, **COMPILE)
    fit(model)
    before = TEACHER.get_weights()
    with state_preserved(model):
        fit(model)
        assert (TEACHER.get_weights()[2] != before[2]).all()
    for a, b in zip(TEACHER.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


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


# Plain attributes, where nothing is compiled ------------------------------------------------------


class Slots:
    __slots__ = ("calls",)

    def __init__(self):
        self.calls = 0


class Remembers(layers.Layer):
    def __init__(self):
        super().__init__()
        self.calls, self.last, self.means = 0, None, [0.0]
        self.sums, self.queue = np.zeros(3), collections.deque([0])
        self.memory, self.seen, self.slots = [("first",)], set(), Slots()
        self.pair, self.named = (0, None), {"calls": 0}
        self.draws, self.numpy = random.Random(1), np.random.default_rng(1)
        self.old = np.random.RandomState(1)

    def compute_output_shape(self, shape):
        return shape

    def call(self, x):
        self.calls += 1
        self.last = keras.ops.stop_gradient(x)
        self.means[0] += float(keras.ops.mean(x))
        self.sums += numbers(keras.ops.stop_gradient(x)).sum((0, 1))
        self.queue[0] = self.calls
        self.memory.append((self.calls, self.last))
        self.seen.add(self.calls)
        self.slots.calls += 1
        self.pair, self.named = (self.calls, self.last), {"calls": self.calls}
        noise = self.draws.random() + self.numpy.random() + self.old.random()
        return x + 0.0 * noise


@pytest.mark.core
@not_on_jax
def test_plain_attributes_come_back_in_eager_steps():
    layer = Remembers()
    model = model_of(layer, run_eagerly=True, jit_compile=False)

    def state():
        draws = layer.draws.getstate(), layer.numpy.bit_generator.state["state"]["state"]
        numbers = layer.calls, layer.means[0], layer.sums.tolist(), layer.queue[0]
        numbers += len(layer.memory), len(layer.seen), layer.slots.calls
        numbers += layer.pair[0], layer.named["calls"]
        return *numbers, *draws, layer.old.get_state()[2]

    fit(model)
    before, last = state(), layer.last
    with state_preserved(model):
        fit(model)
        moved = state()
    assert all(a != b for a, b in zip(before, moved, strict=True))
    assert state() == before
    assert layer.last is last


class BeginsLate(layers.Layer):
    def __init__(self):
        super().__init__()
        self.helper = Holder(1)

    def call(self, x, training=False):
        if training:
            self.steps = getattr(self, "steps", 0) + 1
            self.helper.seen = [*getattr(self.helper, "seen", []), (self.steps, x[0])]
        return x


@pytest.mark.core
@not_on_jax
def test_attributes_that_a_training_adds_go_again():
    layer = BeginsLate()
    model = model_of(layer, run_eagerly=True, jit_compile=False)
    with state_preserved(model) as snapshot:
        fit(model)
        assert (layer.steps, len(layer.helper.seen)) == (2, 2)
        snapshot.restore()
        fit(model)
        assert (layer.steps, len(layer.helper.seen)) == (2, 2)
    assert not hasattr(layer, "steps")
    assert not hasattr(layer.helper, "seen")
    fit(model)
    with state_preserved(model):
        fit(model)
    assert (layer.steps, len(layer.helper.seen)) == (2, 2)


# What cannot be put back --------------------------------------------------------------------------


@pytest.mark.core
def test_what_cannot_be_put_back_is_said_before_the_test_begins():
    class Reads(layers.Layer):
        def __init__(self):
            super().__init__(name="reads")
            self.source = iter([1, 2, 3])

        def call(self, x):
            return x

    model = model_of(Reads())
    with pytest.warns(UserWarning, match=r"cannot be put back.*reads\.source \(list_iterator\)"):
        Snapshot(model)
    with pytest.warns(UserWarning, match=r"reads\.source") as caught:
        LRRangeTest(steps=10, rule="edge", verbose=0).run(model, X, Y, batch_size=16)
    (warning,) = [one for one in caught if "reads" in str(one.message)]
    assert warning.filename == __file__


@pytest.mark.core
def test_a_model_of_keras_gives_no_warning():
    model = model_of(layers.LSTM(3, return_sequences=True), layers.Dropout(0.5))
    fit(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        Snapshot(model)


# The walk -----------------------------------------------------------------------------------------


@pytest.mark.core
def test_the_walk_ends_and_finds_what_is_shared_everywhere():
    shared = untracked()
    layer, other = layers.Identity(name="first"), layers.Identity(name="second")
    layer.left = other.right = Holder([shared])
    layer.circle = Holder(layer)
    model = model_of(layer, other)
    paths = {place.path for place in walk_objects(model) if place.value is shared}
    assert paths == {"first.left.value[0]"}
    assert {one.name for one in layers_in(model)} >= {"first", "second"}


def test_a_library_that_another_thread_imports_is_waited_for(tmp_path, monkeypatch):
    source = "import time\nfirst = 1\ntime.sleep(0.3)\nlast = 2\n"
    (tmp_path / "slow_library.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert loaded_library("slow_library") is None
    thread = threading.Thread(target=lambda: importlib.import_module("slow_library"))
    thread.start()
    while not hasattr(sys.modules.get("slow_library"), "first"):
        time.sleep(0.001)
    try:
        assert loaded_library("slow_library").last == 2
    finally:
        thread.join()
        del sys.modules["slow_library"]
