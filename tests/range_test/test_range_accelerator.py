"""On an accelerator a ramp reads its losses in blocks, and records what it would have otherwise."""

import types

import keras
import numpy as np
import pytest
from models import X, Y, network, same, state

from keras_lr import LRRangeTest
from keras_lr._keras.host_values import is_on_host
from keras_lr.range_test import ramp

pytestmark = pytest.mark.core


class Batches(keras.callbacks.Callback):
    """Counts the batches of a test."""

    count = 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1


def run(monkeypatch, on_host, x=X, optimizer="sgd", **arguments):
    """Return the result of a test, the batches that it trained, and whether the model came back."""
    model = network(keras.optimizers.get(optimizer))
    before, batches = state(model), Batches()
    monkeypatch.setattr(ramp, "is_on_host", lambda value: on_host)
    arguments = {"verbose": 0, "steps": 45, "rule": "edge", "min_lr": 1e-4} | arguments
    result = LRRangeTest(**arguments).run(model, x, Y, batch_size=8, callbacks=[batches])
    return result, batches.count, same(before, state(model))


@pytest.mark.full
@pytest.mark.parametrize(
    ("ended", "arguments"),
    [
        ("complete", {"stop_factor": 1e9, "max_lr": 1e-2}),
        ("diverged", {"max_lr": 1e3}),
        ("not finite", {"max_lr": 1e-2, "x": np.nan * X}),
        ("complete", {"monitor": "accuracy", "stop_factor": 1e9, "max_lr": 1e-2}),
    ],
)
def test_a_ramp_on_an_accelerator_is_that_on_the_host(monkeypatch, ended, arguments):
    (at_once, steps, _), (result, more, is_back) = (
        run(monkeypatch, on_host, **arguments) for on_host in (True, False)
    )
    assert result.ended == at_once.ended == ended
    np.testing.assert_array_equal(result.rates, at_once.rates)
    np.testing.assert_array_equal(result.values, at_once.values)
    # Losses are read after eight steps, and at the end of each epoch.
    assert steps <= more < steps + 8
    assert is_back


class Logs(keras.callbacks.Callback):
    """Keeps what a fit logs."""

    def on_train_batch_end(self, batch, logs=None):
        vars(self).setdefault("values", []).extend(logs.values())


def test_what_a_fit_here_logs_is_on_the_host():
    logs = Logs()
    network().fit(X, Y, verbose=0, callbacks=[logs])
    assert all(map(is_on_host, [*logs.values, 1.0, np.float32(1.0), None]))


ON_GPU, ON_CPU = "/job:localhost/replica:0/task:0/device:GPU:0", "/device:CPU:0"
CUDA, GPU = types.SimpleNamespace(type="cuda"), types.SimpleNamespace(platform="gpu")


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"device": ON_GPU}, False),
        ({"device": ON_CPU}, True),
        ({"device": CUDA, "detach": None}, False),
        ({"devices": lambda: [GPU], "is_fully_addressable": True}, False),
    ],
)
def test_the_device_of_a_value_tells_whether_it_is_on_the_host(attributes, expected):
    assert is_on_host(types.SimpleNamespace(**attributes)) is expected
