"""Runs a sweep in processes that are killed with SIGKILL and started again, or in two at once.

Usage: killed_sweep.py FOLDER KILLS
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import json
import pathlib
import sys

from kills import Slow, kill, start_process, wait
from problems import line, line_data

from keras_lr.search import LRSweep


def sweep(folder):
    """Run the sweep, or what is left of it."""
    swept = LRSweep(
        1e-4, 1.0, per_decade=1, seeds=2, optimizers=["sgd"], halving=0.25, verbose=0,
        directory=folder,
    )  # fmt: skip
    x, y = line_data()
    result = swept.run(line, x, y, epochs=4, batch_size=8, callbacks=[Slow()])
    rows = [[row.trial.learning_rate, row.trial.seed, row.status, row.logs] for row in result.rows]
    (folder / f"rows-{os.getpid()}.json").write_text(json.dumps(rows))


def start(folder):
    return start_process(lambda: sweep(folder))


def rows_of(folder, process):
    return json.loads((folder / f"rows-{process}.json").read_text())


def killed(folder, kills):
    """Return the rows of a sweep that was killed so many times, and the lines at each kill."""
    folder.mkdir()
    moments = kill(folder / "trials.jsonl", lambda: start(folder), kills)
    process = start(folder)
    wait(process)
    return rows_of(folder, process), moments


def together(folder):
    """Return the rows that each of two processes has that run the sweep at once."""
    folder.mkdir()
    processes = [start(folder), start(folder)]
    for process in processes:
        wait(process)
    return [rows_of(folder, process) for process in processes]


def main(folder, kills):
    whole, _ = killed(folder / "whole", 0)
    rows, moments = killed(folder / "killed", kills)
    both = together(folder / "together")
    print(json.dumps([whole, rows, moments, both]))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
