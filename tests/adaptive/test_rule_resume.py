"""An interrupted training run resumes exactly, from memory and from files."""

import copy
import pickle

import keras
import numpy as np
import pytest
from rule_problems import BATCHES, RULES, X, Y, linear, train

from keras_lr import StateError

FIRST, *REST = RULES
EVERY_RULE = [FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in REST)]
pytestmark = [pytest.mark.core, pytest.mark.parametrize("name", EVERY_RULE)]

JAX = keras.backend.backend() == "jax"


def make(name, **options):
    callback, optimizer = RULES[name]
    return callback(**options), linear(optimizer())


def whole(name):
    """Return the weights and rates of four epochs in one go."""
    callback, model = make(name)
    train(model, callback, epochs=4)
    return model.get_weights(), callback.history.learning_rate


def assert_goes_on(model, callback, expected):
    for one, other in zip(model.get_weights(), expected[0], strict=True):
        np.testing.assert_array_equal(one, other)
    rates = callback.history.learning_rate
    np.testing.assert_array_equal(rates, expected[1][-len(rates) :])


@pytest.mark.parametrize("again", [lambda one: one, copy.deepcopy, None])
def test_the_same_callback_a_copy_and_a_pickle_go_on(name, again):
    callback, model = make(name)
    train(model, callback, epochs=2)
    again = again or (lambda one: pickle.loads(pickle.dumps(one)))
    other = again(callback)
    train(model, other, epochs=4, initial_epoch=2)
    assert_goes_on(model, other, whole(name))


def test_a_state_goes_on_in_another_callback(name):
    callback, model = make(name)
    train(model, callback, epochs=2)
    other, _ = make(name)
    other.load_state_dict(callback.state_dict(), epoch=2)
    train(model, other, epochs=4, initial_epoch=2)
    assert_goes_on(model, other, whole(name))
    other.load_state_dict({"failed": np.zeros(3)}, epoch=1)
    with pytest.raises(ValueError, match="state is of another model"):
        train(model, other, epochs=2, initial_epoch=1)


class Stop(keras.callbacks.Callback):
    """Interrupts a fit in the middle of an epoch, or while it writes at the end of one."""

    def __init__(self, epoch, at_end=False):
        super().__init__()
        self.epoch, self.at_end, self.now = epoch, at_end, -1

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch and batch == 2 and not self.at_end:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch and self.at_end:
            raise KeyboardInterrupt


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("first", [True, False])
def test_backup_and_restore_with_a_state_file(name, tmp_path, at_end, first):
    """A new object and a new model stand for a new process."""

    def callbacks(*others):
        callback = RULES[name][0](state_path=str(tmp_path / "state.json"))
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        return callback, [callback, *others, backup] if first else [*others, backup, callback]

    callback, given = callbacks(Stop(2, at_end))
    with pytest.raises(KeyboardInterrupt):
        train(linear(RULES[name][1]()), *given, epochs=4)
    callback, given = callbacks()
    model = linear(RULES[name][1]())
    train(model, *given, epochs=4)
    assert len(callback.history.learning_rate) == 2 * BATCHES
    assert_goes_on(model, callback, whole(name))
    files = sorted(path.name for path in tmp_path.glob("state*"))
    assert files == ["state.json", "state.json.epoch-3.npz", "state.json.epoch-4.npz"]


def test_what_is_not_known_is_said(name, tmp_path):
    callback, model = make(name)
    train(model, callback, epochs=2)
    other, _ = make(name)
    with pytest.warns(UserWarning, match="starts afresh at epoch 3"):
        train(model, other, epochs=3, initial_epoch=2)
    # The variables have served another fit since.
    with pytest.warns(UserWarning, match="starts afresh at epoch 3"):
        train(model, callback, epochs=3, initial_epoch=2)
    filed, _ = make(name, state_path=str(tmp_path / "state.json"))
    with pytest.raises(StateError, match=r"state\.json does not exist"):
        train(model, filed, epochs=3, initial_epoch=2)


def test_a_fit_that_was_interrupted_in_an_epoch_does_not_go_on_from_there(name):
    callback, model = make(name)
    with pytest.raises(KeyboardInterrupt):
        train(model, callback, Stop(2), epochs=4)
    if JAX:
        model.jax_state_sync()
    with pytest.warns(UserWarning, match="starts afresh at epoch 3"):
        train(model, callback, epochs=4, initial_epoch=2)


def test_a_file_of_other_arguments_is_refused(name, tmp_path):
    path = str(tmp_path / "state.json")
    callback, model = make(name, state_path=path)
    train(model, callback, epochs=1)
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(StateError, match="is not a state file"):
        train(model, callback, epochs=1, x=X, y=Y)
