"""What is kept of a training run with a rate for each part: checkpoints, and what loggers write."""

import csv

import keras
import numpy as np
import pytest
from keras import optimizers
from selection import mostly_full
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray
from test_layer_rates import STEPS, assert_same, compiled, network, train, weights

from keras_lr import Constant, CosineDecay, LayerRates, LinearDecay, LRHistory

pytestmark = pytest.mark.core

EPOCHS = 4
THAWING = Constant(0.0).lasting("9 steps") >> LinearDecay(1.0, 0.1)


class Killed(Exception):
    pass


class Kill(keras.callbacks.Callback):
    """Ends the process after some epochs, as far as the fit can tell."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Killed


MAKE = {
    "Adam": lambda: optimizers.Adam(0.01, weight_decay=0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9, use_ema=True, ema_momentum=0.5),
}


@pytest.mark.parametrize("epoch", [1, 3], ids=["while frozen", "after the thaw"])
@pytest.mark.parametrize("make", mostly_full(MAKE, ["Adam"]))
def test_a_process_that_was_killed_goes_on_exactly(make, epoch, tmp_path):
    def run(folder, *others):
        """Train as a new process would: with a new model, and new callbacks."""
        rates = LayerRates({"body": THAWING, "neck": 0.5})
        history = LRHistory(state_path=folder / "history.npz")
        backup = keras.callbacks.BackupAndRestore(folder / "backup", delete_checkpoint=False)
        model = compiled(MAKE[make]())
        train(model, CosineDecay(0.05), rates, history, backup, *others, epochs=EPOCHS)
        return model, history

    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole, expected = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "parts", Kill(epoch))
    parts, history = run(tmp_path / "parts")
    assert_same(weights(parts), weights(whole))
    for one, other in zip(parts.optimizer.variables, whole.optimizer.variables, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (one.value, other.value)))
    assert history.step.tolist() == list(range(EPOCHS * STEPS))
    np.testing.assert_array_equal(history["learning_rate_body"], expected["learning_rate_body"])
    start = weights(network())
    assert not np.array_equal(weights(parts)["net/body/kernel"], start["net/body/kernel"])


def scalars(folder):
    """Return steps and values of what TensorBoard shows, by name."""
    found = EventAccumulator(str(folder), tensor_size_guidance={"scalars": 0})
    found.Reload()
    return {
        name: ([e.step for e in events], [make_ndarray(e.tensor_proto).item() for e in events])
        for name in found.Tags()["tensors"]
        for events in [found.Tensors(name)]
    }


def test_tensorboard_shows_the_rate_of_each_group(tmp_path):
    """Keras's own callback at the end of each epoch, ours at each step."""
    rates = LayerRates({"net/body/.*": THAWING, "neck": 0.5}, default=0.25)
    keras_own = keras.callbacks.TensorBoard(tmp_path / "keras", write_graph=False)
    ours = LRHistory(log_dir=tmp_path / "ours")
    train(compiled("sgd"), CosineDecay(0.1), rates, keras_own, ours, epochs=EPOCHS)
    curve = CosineDecay(0.1).values(epochs=EPOCHS, steps_per_epoch=STEPS)
    factors = {
        "net/body": THAWING.values(epochs=EPOCHS, steps_per_epoch=STEPS),
        "neck": 0.5,
        "default": 0.25,
    }
    by_epoch, by_step = scalars(tmp_path / "keras/train"), scalars(tmp_path / "ours")
    for name, factor in factors.items():
        expected = curve * factor
        steps, values = by_epoch[f"epoch_learning_rate_{name}"]
        assert steps == list(range(EPOCHS))
        np.testing.assert_allclose(values, expected[STEPS - 1 :: STEPS], rtol=1e-6)
        steps, values = by_step[f"learning_rate_{name}"]
        assert steps == list(range(EPOCHS * STEPS))
        np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_a_csv_logger_has_a_column_for_each_group(tmp_path):
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    rates = LayerRates({"body": 0.5, "neck": Constant(0.0).lasting(1) >> Constant(1.0)})
    train(compiled(optimizers.SGD(0.5)), rates, log)
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["learning_rate"]) for row in rows] == [0.5, 0.5]
    assert [float(row["learning_rate_body"]) for row in rows] == [0.25, 0.25]
    assert [float(row["learning_rate_neck"]) for row in rows] == [0.0, 0.5]
