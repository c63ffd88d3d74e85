"""The rates of a record are those that were used, and they stand in the logs of each epoch."""

import keras
import numpy as np
import pytest
from models import fit, meter

from keras_lr import Constant, LinearDecay, LRHistory, OneCycle, ParamScheduler

pytestmark = pytest.mark.core


class Set(keras.callbacks.Callback):
    """Another's callback that moves the rate at some hook."""

    def __init__(self, hook):
        super().__init__()
        self.calls = 0
        setattr(self, hook, self.act)

    def act(self, index, logs=None):
        self.calls += 1
        self.model.optimizer.learning_rate = 2.0**-self.calls


@pytest.mark.parametrize(
    "hook", ["on_train_batch_begin", "on_train_batch_end", "on_epoch_begin", "on_epoch_end"]
)
@pytest.mark.parametrize("order", [1, -1], ids=["before", "after"])
def test_a_rate_that_another_callback_moves_is_recorded_as_used(hook, order):
    history = LRHistory()
    rates = fit(meter(), [history, Set(hook)][::order], epochs=3)
    np.testing.assert_array_equal(history.learning_rate, rates)
    first, last = {
        "on_train_batch_begin": (0.5, 2.0**-15),
        "on_train_batch_end": (1.0, 2.0**-14),
        "on_epoch_begin": (0.5, 0.125),
        "on_epoch_end": (1.0, 0.25),
    }[hook]
    assert (rates[0], rates[-1]) == (first, last)


def test_a_rate_that_nobody_moves():
    history = LRHistory()
    fit(meter(learning_rate=0.3), history, epochs=2)
    assert history.learning_rate.tolist() == [np.float32(0.3)] * 10


def test_keras_reduces_on_a_plateau_and_it_is_recorded():
    history = LRHistory()
    reduce = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, mode="max")
    rates = fit(meter(), [reduce, history], epochs=4)
    np.testing.assert_array_equal(history.learning_rate, rates)
    assert rates[-1] < 1.0


def test_the_rate_of_an_optimizer_with_a_schedule_goes_on_over_fits():
    inside = keras.optimizers.schedules.PolynomialDecay(1.0, 20, 0.0)
    model, history = meter(learning_rate=inside), LRHistory()
    first = fit(model, history, epochs=2)
    np.testing.assert_allclose(history.learning_rate, first, rtol=1e-6)
    second = fit(model, history, epochs=4, initial_epoch=2)
    np.testing.assert_allclose(history.learning_rate, [*first, *second], rtol=1e-6)
    assert second[0] == pytest.approx(0.5)


def test_another_parameter_that_moves_is_recorded():
    schedule = OneCycle(0.5, warmup="40%", momentum=(0.5, 0.75), shape="linear")
    fit(meter(optimizer=keras.optimizers.SGD(1.0, momentum=0.5)), schedule, epochs=2)
    momentum = schedule.history["momentum"]
    assert momentum[[0, 2, 4, 7]].tolist() == [0.75, 0.625, 0.5, 0.625]


# In the logs of an epoch.


def test_the_rate_stands_in_the_logs_of_each_epoch(tmp_path):
    model, seen = meter(), []
    schedule = LinearDecay(1.0, 0.25, over="12 steps")
    spy = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(dict(logs)))
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    fit(model, [schedule, logger, spy], epochs=3)
    # The rates of updates 4, 9 and 14.
    assert [log["learning_rate"] for log in seen] == [0.75, 0.4375, 0.25]
    assert model.history.history["learning_rate"] == [0.75, 0.4375, 0.25]
    header, *rows = [line.split(",") for line in (tmp_path / "log.csv").read_text().split()]
    column = header.index("learning_rate")
    assert [float(row[column]) for row in rows] == [0.75, 0.4375, 0.25]


def test_the_recorder_alone_puts_the_rate_into_the_logs():
    model = meter(learning_rate=0.5)
    fit(model, LRHistory(), epochs=2)
    assert model.history.history["learning_rate"] == [0.5, 0.5]


def test_everything_that_moves_stands_in_the_logs():
    model = meter(optimizer=keras.optimizers.SGD(1.0, momentum=0.5))
    schedule = OneCycle(0.5, warmup="40%", momentum=(0.5, 0.75), shape="linear")
    fit(model, schedule, epochs=2)
    logs = model.history.history
    assert logs["momentum"] == [0.5, schedule.history["momentum"][-1]]
    assert logs["learning_rate"] == schedule.history.learning_rate[[4, 9]].tolist()


def metric(name, value):
    """A metric of any name, which has always the same value."""

    def function(y, prediction):
        return keras.ops.mean(prediction) * 0.0 + value

    function.__name__ = name
    return function


def test_metrics_of_any_name_are_kept(tmp_path):
    names = ["step", "epoch", "learning_rate", "momentum", "metric_step", "score"]
    optimizer = keras.optimizers.SGD(1.0, momentum=0.5)
    metrics = [metric(name, float(i)) for i, name in enumerate(names)]
    model, path = meter(optimizer=optimizer, metrics=metrics), tmp_path / "record.npz"
    history = LRHistory(state_path=path)
    both = ParamScheduler(learning_rate=Constant(0.25), momentum=Constant(0.75))
    fit(model, [both, history], epochs=2)
    columns = [
        *("metric_step", "metric_epoch", "metric_learning_rate", "metric_momentum"),
        *("metric_metric_step", "score"),
    ]
    again = LRHistory(state_path=path)
    fit(model, [both, again], epochs=3, initial_epoch=2)
    history.to_csv(tmp_path / "run.csv")
    for one in (history, again, LRHistory.from_csv(tmp_path / "run.csv")):
        assert one.step.tolist() == list(range(len(one)))
        assert one.epoch.tolist() == np.repeat(range(len(one) // 5), 5).tolist()
        assert set(one.learning_rate) == {0.25}
        assert set(one["momentum"]) == {0.75}
        for i, name in enumerate(columns):
            assert set(one[name]) == {float(i)}, name
    assert len(again) == 15
    # In the logs a metric makes way only for what moves.
    logs = model.history.history
    assert (logs["step"], logs["epoch"], logs["metric_step"]) == ([0.0], [1.0], [4.0])
    assert (logs["learning_rate"], logs["metric_learning_rate"]) == ([0.25], [2.0])
    assert (logs["momentum"], logs["metric_momentum"]) == ([0.75], [3.0])
