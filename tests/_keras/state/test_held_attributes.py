"""Plain attributes that an eager step changes or adds are put back or go again."""

import collections
import random

import keras
import numpy as np
import pytest
from holders import Holder, fit, model_of, not_on_jax, numbers
from keras import layers

from keras_lr._keras.state.snapshot import state_preserved


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
