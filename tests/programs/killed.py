"""Trains in processes that are killed with SIGKILL at random moments and started again.

The rates that each training run records must be those of a training run in one process.

Usage: killed.py FOLDER KILLS
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import json
import pathlib
import random
import shutil
import signal
import sys
import time

import keras
import numpy as np
from kills import ended, start_process

from keras_lr import (
    CosineDecay,
    LinearDecay,
    LRHistory,
    OneCycle,
    ReduceLROnPlateau,
    StepDecay,
)

EPOCHS = 16
STEPS = 4


def composition():
    """Return a schedule that repeats, multiplies, clips and follows others."""
    waves = LinearDecay(0.1, 0.02).lasting("7 steps").repeat(20, scale=0.9)
    rest = (waves * StepDecay(1.0, factor=0.8, every="9 steps")).clip(min=0.005)
    return (LinearDecay(0.0, 0.1, over=2) >> rest).per_epoch()


SCHEDULES = {
    "ours first": lambda: OneCycle(0.1),
    "backup first": lambda: CosineDecay(0.1).warmup(2),
    "composition": composition,
}


class Score(keras.metrics.Metric):
    """A metric that depends on nothing but the epoch.

    Keras writes its checkpoint in two files, so that a kill can leave newer weights with the older
    epoch: the weights may differ from those of a training run in one process, the rates may not.
    """

    def __init__(self):
        super().__init__(name="score")
        self.value = self.add_weight(name="value", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        pass

    def reset_state(self):
        pass

    def result(self):
        return self.value + 0.0


class Pace(keras.callbacks.Callback):
    """Sets the metric, and gives a kill time to strike."""

    def __init__(self, score):
        super().__init__()
        self.score = score

    def on_epoch_begin(self, epoch, logs=None):
        values = [5, 4, 4, 3, 3, 3, 2, 1, 1, 1, 0, 0, -1, -1, -1, -1]
        self.score.value.assign(values[epoch])

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.01)

    def on_epoch_end(self, epoch, logs=None):
        time.sleep(0.01)


def train(folder, order):
    """Train on from the last checkpoint, as a program would that is started again and again."""
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(STEPS * 2, 2)).astype("float32")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    score = Score()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse", metrics=[score])
    history = LRHistory(state_path=folder / "history.npz")
    cut = ReduceLROnPlateau(
        "score", factor=0.5, patience=2, cooldown=1, mode="min", state_path=folder / "plateau.json"
    )
    schedule = SCHEDULES[order]()
    ours = [Pace(score), schedule, cut, history]
    backup = [Backup(folder / "backup", double_checkpoint=True)]
    callbacks = ours + backup if order == "ours first" else backup + ours
    model.fit(x, x[:, :1], batch_size=2, epochs=EPOCHS, verbose=0, callbacks=callbacks)
    with open(folder / "rates.json", "w") as file:
        json.dump([history.step.tolist(), history.learning_rate.tolist(), cut.state_dict()], file)


class Backup(keras.callbacks.BackupAndRestore):
    """Keras's own; what a kill while Keras writes its own files has broken is mended here."""

    def on_train_begin(self, logs=None):
        metadata, older = (
            pathlib.Path(one)
            for one in (self._training_metadata_path, self._prev_training_metadata_path)
        )
        if not metadata.exists():
            # The first checkpoint was not through: Keras would begin with the weights that it has.
            shutil.rmtree(self.backup_dir, ignore_errors=True)
        variables = *self.model.variables, *self.model.optimizer.variables
        before = [(one, keras.ops.convert_to_numpy(one)) for one in variables]
        try:
            super().on_train_begin(logs)
        except (OSError, ValueError, RuntimeError):  # of files that are cut
            for variable, value in before:
                variable.assign(value)
            if older.exists():
                shutil.copy(self._prev_weights_path, self._weights_path)
                shutil.copy(older, metadata)
            else:
                shutil.rmtree(self.backup_dir)
            super().on_train_begin(logs)


def start(folder, order):
    """Start a training run in a process and return its number."""
    return start_process(lambda: train(folder, order))


def killed_training(folder, order, kills, moments):
    """Train with so many kills; return how many there were before the training ended."""
    done = 0
    while True:
        process = start(folder, order)
        if done < kills:
            seen = wait_for(folder / "history.npz", process)
            if seen is None:
                time.sleep(moments.uniform(0.0, 0.25))
                os.kill(process, signal.SIGKILL)
                seen = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            if seen == -signal.SIGKILL:
                done += 1
                print("killed", order, moments_of(folder), flush=True)
                continue
        else:
            seen = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if seen:
            sys.exit(f"a training run after {done} kills ended with {seen}")
        return done


def wait_for(path, process):
    """Wait until a first epoch of the process is through; return its status if it ended."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    while not path.exists() or path.stat().st_mtime_ns == before:
        status = ended(process)
        if status is not None:
            return status
        time.sleep(0.001)
    return None


def moments_of(folder):
    path = folder / "backup" / "training_metadata.json"
    return path.read_text() if path.exists() else "before the first checkpoint"


def main(folder, kills):
    moments = random.Random(0)
    orders = list(SCHEDULES)
    expected = {}
    for order in orders:
        whole = folder / order / "whole"
        whole.mkdir(parents=True)
        killed_training(whole, order, 0, moments)
        expected[order] = (whole / "rates.json").read_text()
    done = number = 0
    while done < kills:
        order = orders[number % len(orders)]
        place = folder / order / str(number)
        place.mkdir()
        done += killed_training(place, order, min(5, kills - done), moments)
        number += 1
        if (place / "rates.json").read_text() != expected[order]:
            sys.exit(f"{place / 'rates.json'} differs from {folder / order / 'whole'}")
    for order in orders:
        steps, rates, _ = json.loads(expected[order])
        if steps != list(range(EPOCHS * STEPS)) or len(set(rates)) < EPOCHS / 2:
            sys.exit(f"{order}: the record has gaps or nothing moved")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
