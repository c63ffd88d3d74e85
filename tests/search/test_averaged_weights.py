"""Optimizers that replace the weights by their average at the end of a fit, in stretches."""

import keras
import numpy as np
import pytest
from problems import line, line_data, scaled, sweep

from keras_lr import PopulationBasedTraining

pytestmark = pytest.mark.core

X, Y = line_data()
FIT = {"validation_data": (X, Y), "batch_size": 8}
BY_FIT = {"callbacks": [keras.callbacks.TerminateOnNaN()]}


def averaging(rate=0.1, **more):
    return keras.optimizers.SGD(rate, momentum=0.9, use_ema=True, ema_momentum=0.8, **more)


def by_hand(build, optimizer, epochs, seed=0, callbacks=()):
    """Return what one fit logs and how good its model is at the end, and the model."""
    keras.utils.set_random_seed(seed)
    model = build(optimizer)
    logs = model.fit(X, Y, epochs=epochs, verbose=0, callbacks=[*callbacks], **FIT).history
    weights = model.get_weights()
    return logs, model.evaluate(X, Y, batch_size=8, verbose=0), weights


@pytest.mark.parametrize(
    ("build", "more", "callbacks"),
    [
        (line, {}, {}),
        pytest.param(line, {}, BY_FIT, marks=pytest.mark.full),
        pytest.param(line, {"ema_overwrite_frequency": 3}, {}, marks=pytest.mark.full),
        pytest.param(scaled, {}, {}, marks=pytest.mark.full),
    ],
    ids=["whole epochs", "fit", "also after some steps", "loss scaling"],
)
def test_a_halved_trial_is_what_one_fit_trains(build, more, callbacks):
    swept = sweep(optimizers=[averaging(**more)], halving=0.25)
    result = swept.run(build, X, Y, epochs=4, test_data=(X, Y), **FIT, **callbacks)
    (row,) = (row for row in result.rows if row.epochs == 4)
    logs, loss, _ = by_hand(build, averaging(row.trial.learning_rate, **more), 4)
    assert row.logs == logs
    assert row.test == {"loss": loss}
    assert more or row.test["loss"] != row.logs["val_loss"][-1]


@pytest.mark.full
def test_a_trial_that_meets_its_target_early_is_tested_as_after_a_fit():
    logs, _, _ = by_hand(line, averaging(0.01), 4)
    until = f"loss <= {1.001 * logs['loss'][1]}"
    swept = sweep((0.001, 0.01), optimizers=[averaging()], halving=0.75, until=until)
    result = swept.run(line, X, Y, epochs=4, test_data=(X, Y), **FIT)
    row = result.rows[-1]
    assert (row.status, row.epochs) == ("reached", 2)
    assert row.test == {"loss": by_hand(line, averaging(0.01), 2)[1]}


class Interrupts(keras.callbacks.Callback):
    """Callback that interrupts a fit in its third epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("callbacks", "epochs"),
    [
        ({}, 3),
        pytest.param(BY_FIT, 3, marks=pytest.mark.full),
        pytest.param({"callbacks": [Interrupts()]}, 2, marks=pytest.mark.full),
    ],
    ids=["whole epochs", "fit", "interrupted"],
)
def test_the_winner_of_a_population_is_what_one_fit_trains(callbacks, epochs):
    training = PopulationBasedTraining(
        {"learning_rate": (1e-3, 1e-1)}, population=4, optimizer=averaging(), verbose=0
    )
    result = training.run(line, X, Y, epochs=3, test_data=(X, Y), **FIT, **callbacks)
    assert result.interrupted == (epochs == 2)
    logs, loss, weights = by_hand(
        line, averaging(), epochs, result.best.seed, callbacks=[result.schedule]
    )
    assert [row.logs["val_loss"] for row in result.lineage] == [[one] for one in logs["val_loss"]]
    for one, other in zip(weights, result.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    if epochs == 3:
        assert result.best.test == {"loss": loss}
