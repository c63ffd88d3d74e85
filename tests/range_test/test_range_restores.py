"""A range test leaves everything as it was: the model, its metrics, the callbacks, the memory."""

import gc

import keras
import numpy as np
import pytest
from models import X, Y, network, same, state
from selection import mostly_full
from short_tests import Stop, quick, two_outputs

from keras_lr import CosineDecay
from keras_lr._keras.state.snapshot import Snapshot

pytestmark = pytest.mark.core


@pytest.mark.parametrize("rule", ["search", "edge"])
@pytest.mark.parametrize("trained", mostly_full([False, True], [True]))
def test_the_next_fit_is_bit_for_bit_what_it_would_have_been(rule, trained):
    after = []
    for tested in (False, True):
        model = network()
        if trained:
            model.fit(X, Y, verbose=0)
        if tested:
            quick(rule=rule).run(model, X, Y)
        model.fit(X, Y, verbose=0)
        after.append(state(model))
    assert same(*after)


@pytest.mark.full
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("from the user")])
def test_an_exception_leaves_the_model_as_it_was(error):
    model = network()
    model.fit(X, Y, verbose=0)
    before, attributes = state(model), set(vars(model))
    with pytest.raises(type(error)):
        quick().run(model, X, Y, callbacks=[Stop(error)])
    assert same(before, state(model))
    assert set(vars(model)) - attributes <= {"_keras_lr_steps"}
    model.fit(X, Y, verbose=0, callbacks=[CosineDecay(0.01)])


@pytest.mark.full
def test_a_second_ctrl_c_while_the_model_is_put_back(monkeypatch):
    model = network()
    model.optimizer.build(model.trainable_variables)
    before, restore, calls = state(model), Snapshot.restore, []

    def interrupted(snapshot):
        calls.append(None)
        if len(calls) == 3:  # the first two begin the runs
            restore(snapshot)
            model.layers[0].kernel.assign(np.zeros(model.layers[0].kernel.shape))
            raise KeyboardInterrupt
        restore(snapshot)

    monkeypatch.setattr(Snapshot, "restore", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quick(rule="edge", repeats=2).run(model, X, Y)
    assert len(calls) == 4
    assert same(state(model), before)


def test_restore_false_keeps_what_was_trained():
    model = network()
    before = model.get_weights()
    quick(rule="edge", restore=False).run(model, X, Y)
    assert not same(before, model.get_weights())


@pytest.mark.full
def test_losses_of_outputs_are_what_they_would_be_without_a_test():
    """The history of the next fit, and of two fits when the test comes between them."""
    y = {"a": X[:, :1], "b": X[:, 1:2]}

    def history(test, between=False):
        keras.utils.set_random_seed(5)
        model, found = two_outputs(), []
        if test and not between:
            quick(repeats=2, monitor="a_loss").run(model, X, y)
        for _ in range(2):
            keras.utils.set_random_seed(6)
            found.append(model.fit(X, y, epochs=2, verbose=0).history)
            if test and between:
                quick().run(model, X, y)
        return found, sorted(metric.name for metric in model.metrics)

    without = history(test=False)
    assert min(without[0][0]["a_loss"]) > 0.0
    assert history(test=True) == without
    assert history(test=True, between=True) == without


@pytest.mark.full
def test_callbacks_of_keras_are_as_they_were_and_others_keep_what_they_saw():
    class Count(keras.callbacks.Callback):
        fits = 0

        def on_train_begin(self, logs=None):
            self.fits += 1

    stopper, count = keras.callbacks.EarlyStopping("loss", patience=99), Count()
    network().fit(X, Y, epochs=2, verbose=0, callbacks=[stopper])
    before = dict(vars(stopper))
    quick().run(network(), X, Y, callbacks=[stopper, count])
    assert vars(stopper) == before
    assert count.fits > 1


@pytest.fixture
def spread(request):
    """Have JAX spread batches over its devices, where asked to, as if there were several."""
    if request.param:
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    yield
    keras.distribution.set_distribution(None)


@pytest.mark.parametrize(
    "spread",
    [
        False,
        pytest.param(
            True, marks=pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX")
        ),
    ],
    indirect=True,
)
def test_no_run_keeps_its_data_until_garbage_is_collected(spread):
    def iterators():
        return [id(o) for o in gc.get_objects() if type(o).__name__.endswith("EpochIterator")]

    model = network()
    gc.collect()
    gc.disable()
    try:
        before = iterators()
        quick().run(model, X, Y)
        assert iterators() == before
    finally:
        gc.enable()
