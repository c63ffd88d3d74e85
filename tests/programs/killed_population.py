"""Trains a population in processes that are killed with SIGKILL and started again.

Usage: killed_population.py FOLDER KILLS
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import json
import pathlib
import sys

from kills import Slow, kill, start_process, wait
from problems import line, line_data

from keras_lr import PopulationBasedTraining


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


def killed(folder, kills):
    """Return what a population finds that was killed so many times, and the lines at each kill."""
    folder.mkdir()

    def start():
        return start_process(lambda: train(folder))

    moments = kill(folder / "members.jsonl", start, kills)
    wait(start())
    return json.loads((folder / "found.json").read_text()), moments


def main(folder, kills):
    whole, _ = killed(folder / "whole", 0)
    found, moments = killed(folder / "killed", kills)
    print(json.dumps([whole, found, moments]))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
