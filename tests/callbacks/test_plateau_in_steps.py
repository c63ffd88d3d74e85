"""ReduceLROnPlateau with a patience in steps."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from plateaus import X, Y, build, long_executions, rates

from keras_lr import ReduceLROnPlateau

pytestmark = pytest.mark.core


class BatchLoss(keras.losses.Loss):
    """The label itself as the loss, so that a test decides the loss of each batch."""

    def call(self, y_true, y_pred):
        return y_true + 0.0 * y_pred


@pytest.mark.parametrize(
    ("smoothing", "found"),
    [
        # Better at the steps 0 and 1 alone.
        (0.0, [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625]),
        # Smoothed: 4, 2, 2.57, 1.73, 2.39, 1.68, 2.35, 2.68, 2.84, 2.92, 1.71, 1.10.
        (0.5, [1, 1, 1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]),
    ],
)
def test_patience_in_steps_monitors_the_smoothed_batch_loss(smoothing, found):
    losses = [4.0, 1.0, 3.0, 1.0, 3.0, 1.0, 3.0, 3.0, 3.0, 3.0, 0.5, 0.5]
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), BatchLoss())
    callback = ReduceLROnPlateau(
        "loss", factor=0.5, patience="2 steps", min_delta=1e-3, smoothing=smoothing
    )
    y = np.asarray(losses, "float32").reshape(-1, 1)
    model.fit(X, y, batch_size=1, epochs=1, shuffle=False, verbose=0, callbacks=[callback])
    np.testing.assert_allclose(callback.history.loss, losses, rtol=1e-5)
    assert rates(callback) == found


@long_executions
def test_patience_in_steps_under_steps_per_execution_holds_the_rate_and_says_so_once():
    model = build(steps_per_execution=2)
    callback = ReduceLROnPlateau(
        "loss", factor=0.5, patience="2 steps", min_delta=1e9, smoothing=0.0
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, Y, batch_size=3, epochs=3, verbose=0, callbacks=[callback])
    assert sum("holds the rate inside" in str(w.message) for w in caught) == 1
    found = rates(callback)
    assert found[::2] == found[1::2]
    assert found[::2] == [1.0, 1.0, 0.5, 0.25, 0.125, 0.0625]


class States(keras.callbacks.Callback):
    """Asks a plateau after each step how long it has waited, and for the rate."""

    def __init__(self, plateau):
        super().__init__()
        self.plateau = plateau
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        state = self.plateau.state_dict()
        self.seen.append((state["wait"], *state["rates"]))


def in_steps(patience, **options):
    return ReduceLROnPlateau(
        "loss", factor=0.5, patience=f"{patience} steps", smoothing=0.0, **options
    )


def flat(callbacks, batches=5, epochs=1, of_unknown_length=False):
    """Train on losses that never fall."""
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), BatchLoss())
    x, y = X[:batches], np.ones((batches, 1), "float32")
    if of_unknown_length:
        data = {"x": ((x[i : i + 1], y[i : i + 1]) for i in range(batches))}
    else:
        data = {"x": x, "y": y, "batch_size": 1}
    model.fit(**data, epochs=epochs, verbose=0, callbacks=callbacks)


def test_between_two_steps_the_state_holds_the_first():
    plateau = in_steps(2)
    states = States(plateau)
    flat([plateau, states])
    assert states.seen == [(0, 1.0), (1, 1.0), (0, 0.5), (1, 0.5), (0, 0.25)]


def test_a_rate_set_between_epochs_is_in_the_state_before_the_next_step():
    plateau, seen = in_steps(100), []

    class Halve(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 0.5

        def on_train_batch_begin(self, batch, logs=None):
            seen.append(plateau.state_dict()["rates"])

    flat([plateau, Halve()], batches=1, epochs=2)
    assert seen == [[1.0], [0.5]]


def test_a_step_is_counted_once_where_other_threads_ask():
    class Asking(keras.callbacks.Callback):
        async_safe = True

        def on_train_batch_end(self, batch, logs=None):
            seen.append(plateau.wait)

    plateau, seen = in_steps(1000), []
    flat([plateau, Asking()], batches=len(X), epochs=20)
    assert len(seen) == plateau.wait + 1 == 20 * len(X)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("of_unknown_length", [False, True])
def test_the_last_step_of_an_epoch_is_counted(of_unknown_length):
    plateau = in_steps(100)
    flat([plateau], of_unknown_length=of_unknown_length)
    assert plateau.wait == 4


def test_patience_in_steps_ends_training_after_the_step_that_decides():
    plateau = in_steps(2, min_lr=1.0, stop_at_min_lr=True)
    flat([plateau])
    assert len(plateau.history) == 3


def test_the_loss_of_a_batch_is_exact_however_large_the_mean_of_the_epoch_is():
    """A running mean in float32 that begins with a million keeps no digit of what follows."""
    losses = np.array([1e6, *np.linspace(2.0, 1.0, 51)], "float32")
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), BatchLoss())
    plateau = in_steps(2, min_delta=0.01)
    y = losses[:, None]
    model.fit(y, y, batch_size=1, shuffle=False, verbose=0, callbacks=[plateau])
    assert rates(plateau) == [1.0] * len(losses)
    assert plateau.best == pytest.approx(1.0, rel=1e-6)


def test_the_loss_of_a_short_last_batch_counts_as_it_is():
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), BatchLoss())
    plateau = in_steps(100)
    y = np.repeat(np.array([3.0, 2.0, 1.0], "float32"), 4)[:9, None]
    model.fit(y, y, batch_size=4, shuffle=False, verbose=0, callbacks=[plateau])
    assert plateau.best == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("patience", ["0.5 steps", "2.9 steps"])
def test_half_a_step_is_no_patience(patience):
    with pytest.raises(ValueError, match="patience` must be a whole number"):
        ReduceLROnPlateau("loss", patience=patience)
