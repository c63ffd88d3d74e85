"""Sweeps on a cluster of three machines, one of which is taken away when a rung has been trained.

The first machine has room for no worker, the others for one each.

Usage: ray_nodes.py
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import json
import pathlib
import tempfile
import time

import keras
import ray
from problems import line_data
from ray.cluster_utils import Cluster

from keras_lr import LRSweep, RayEngine

RATES, SEEDS = 4, 2
CORES = os.cpu_count()


class Notes(keras.callbacks.Callback):
    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch, logs=None):
        with open(f"{self.folder}/{os.getpid()}", "a") as file:
            file.write(f"{epoch}\n")
        while len(os.listdir(self.folder)) < 2:  # so that both machines train
            time.sleep(0.05)


def alive():
    return sum(node["Alive"] for node in ray.nodes())


class LosesMachine(RayEngine):
    """Loses a machine after the first rung."""

    def run(self, stretches):
        seen = 0
        for outcome in super().run(stretches):
            yield outcome
            seen += 1
        if seen == RATES * SEEDS:
            counts.append(alive())
            cluster.remove_node(node, allow_graceful=False)


def sweep(engine, **fit):
    swept = LRSweep(1e-7, 1e-4, 1, SEEDS, ["sgd"], halving=0.25, verbose=0)
    x, y = line_data()
    result = swept.run(wide, x, y, epochs=8, batch_size=8, engine=engine, **fit)
    return [[row.trial.learning_rate, row.trial.seed, row.status, row.logs] for row in result.rows]


def wide(optimizer):
    """Return a model whose state is too large to travel with a message."""
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(30000), keras.layers.Dense(1, use_bias=False)]
    )
    model.compile(optimizer, "mse", jit_compile=keras.backend.backend() == "jax")
    return model


counts = []
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=CORES, object_store_memory=80 * 2**20) for _ in range(2)]
node = nodes[0]
cluster.wait_for_nodes()
ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
with tempfile.TemporaryDirectory() as folder:
    found = sweep(LosesMachine(cpus_per_trial=CORES), callbacks=[Notes(folder)])
    trained = sum(len(file.read_text().split()) for file in pathlib.Path(folder).iterdir())
deadline = time.monotonic() + 60
while alive() > 2 and time.monotonic() < deadline:  # the cluster sees it late
    time.sleep(0.2)
counts.append(alive())
local = sweep("local")
epochs = sum(len(logs["loss"]) for *_, logs in found)
ray.shutdown()
cluster.shutdown()
print(json.dumps({"nodes": counts, "found": found, "local": local, "again": trained - epochs}))
