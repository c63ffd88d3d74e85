"""Trains a population in processes that are killed with SIGKILL and started again.

Each process is a fork of this one, which has imported everything and computed nothing.

Usage: killed_population.py FOLDER KILLS
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import json
import pathlib
import random
import signal
import sys
import time

import keras
from killed import ended, start_process
from problems import line, line_data

from keras_lr import PopulationBasedTraining


class Slow(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        time.sleep(0.02)


def train(folder):
    """Train the population, or what is left of it."""
    training = PopulationBasedTraining(
        {"learning_rate": (1e-3, 1e-1), "beta_1": (0.5, 0.95)},
        population=4,
        optimizer="adam",
        directory=folder,
        verbose=0,
    )
    x, y = line_data()
    result = training.run(line, x, y, epochs=5, batch_size=8, callbacks=[Slow()])
    rows = [[r.round, r.member, r.copied_from, r.values, r.logs] for r in result.rows]
    weights = [weight.tolist() for weight in result.model.get_weights()]
    (folder / "found.json").write_text(json.dumps([rows, result.best.member, weights]))


def lines(folder):
    path = folder / "members.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def killed(folder, kills):
    """Return what a population finds that was killed so many times, and the lines at each kill."""
    folder.mkdir()
    moments, random_moment = [], random.Random(0)
    for _ in range(kills):
        before, process = lines(folder), start_process(lambda: train(folder))
        while lines(folder) < before + 3 and ended(process) is None:
            time.sleep(0.002)
        time.sleep(random_moment.uniform(0.0, 0.1))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        moments.append(lines(folder))
    process = start_process(lambda: train(folder))
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status:
        sys.exit(f"a population ended with {status}")
    return json.loads((folder / "found.json").read_text()), moments


def main(folder, kills):
    whole, _ = killed(folder / "whole", 0)
    found, moments = killed(folder / "killed", kills)
    print(json.dumps([whole, found, moments]))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
