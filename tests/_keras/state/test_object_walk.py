"""The walk through all that a model holds: it ends, and says what it cannot put back."""

import importlib
import sys
import threading
import time
import warnings

import pytest
from holders import Holder, X, Y, fit, model_of, untracked
from keras import layers

from keras_lr import LRRangeTest
from keras_lr._keras.state.object_walk import layers_in, loaded_library, walk_objects
from keras_lr._keras.state.snapshot import Snapshot


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
