"""Runs a sweep on a Ray of its own, and is interrupted as by Ctrl-C when some trials are through.

Usage: ray_interrupted.py
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import json
import pathlib
import signal
import sys
import tempfile
import time

import keras
from problems import line, line_data

from keras_lr import LRSweep, RayEngine


class Notes(keras.callbacks.Callback):
    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch, logs=None):
        pathlib.Path(self.folder, str(os.getpid())).touch()
        while len(os.listdir(self.folder)) < 2:  # for the other worker
            time.sleep(0.05)
        # The other trials must not be through before a busy machine handles the signal.
        time.sleep(0.5)


class Interrupted(RayEngine):
    """Interrupts this process in the middle of the trials."""

    def run(self, stretches):
        for number, outcome in enumerate(super().run(stretches)):
            yield outcome
            if number == 3:
                signal.setitimer(signal.ITIMER_REAL, 0.05)


def process():
    """Return what a library may change in a process."""
    handlers = {str(one): signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    return {**os.environ, **handlers, "path": list(sys.path), "hook": sys.excepthook}


def is_alive(process):
    try:
        return pathlib.Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
before = process()
x, y = line_data()
with tempfile.TemporaryDirectory() as folder:
    swept = LRSweep(1e-5, 1.0, 4, 1, ["sgd"], verbose=0)
    engine = Interrupted(workers=2)
    result = swept.run(line, x, y, epochs=2, batch_size=8, callbacks=[Notes(folder)], engine=engine)
    workers = [int(name) for name in os.listdir(folder)]
deadline = time.monotonic() + 120
while any(map(is_alive, workers)) and time.monotonic() < deadline:
    time.sleep(0.1)
after = process()
facts = {
    "interrupted": result.interrupted,
    "trials": len(result.rows),
    "workers": len(workers),
    "alive": [one for one in workers if is_alive(one)],
    "changed": sorted(name for name in {*before, *after} if before.get(name) != after.get(name)),
}
print(json.dumps(facts))
