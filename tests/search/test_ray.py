"""Sweeps on workers of Ray: the result of the local engine, whatever happens to the workers."""

import importlib
import os
import signal

import keras
import numpy as np
import pytest
from models import COMPILE
from problems import classifier, digits, line, line_data
from processes import run_program

from keras_lr import LRSweep, OneCycle, RayEngine
from keras_lr.cli.main import main

ray = pytest.importorskip("ray", reason="it needs Ray: pip install 'keras-lr[ray]'")

pytestmark = [pytest.mark.slow, pytest.mark.core, pytest.mark.usefixtures("connected_ray")]

CORES = os.cpu_count()
ONE, ENGINE = (RayEngine(workers=count, cpus_per_trial=CORES) for count in (1, 2))
"""Each worker computes with as many threads as this process, so that the bits are the same."""


@pytest.fixture(autouse=True)
def still_connected():
    yield
    assert ray.is_initialized()


def sweep(**more):
    options = {"per_decade": 1, "seeds": 1, "optimizers": ["sgd"], "verbose": 0}
    return LRSweep(**{"min_lr": 0.001, "max_lr": 1.0} | options | more)


def run_line(swept, engine=ENGINE, **fit):
    x, y = line_data()
    return swept.run(line, x, y, engine=engine, **{"epochs": 8, "batch_size": 8} | fit)


def facts(result):
    """Return everything that a sweep tells, besides times."""
    return [(row.trial, row.status, row.reason, row.epochs, row.steps, row.logs, row.test)
            for row in result.rows]  # fmt: skip


class Notes(keras.callbacks.Callback):
    """Writes a line for each epoch into a file of its process."""

    def __init__(self, folder):
        super().__init__()
        self.folder = str(folder)

    def on_epoch_end(self, epoch, logs=None):
        with open(f"{self.folder}/{os.getpid()}", "a") as file:
            file.write(f"{epoch}\n")


def noted(folder):
    """Return how many epochs each process has trained."""
    return {int(file.name): len(file.read_text().split()) for file in folder.iterdir()}


# Results ------------------------------------------------------------------------------------------


def test_the_result_is_that_of_the_local_engine(tmp_path):
    (x, y), validation = digits()
    swept = sweep(min_lr=0.01, optimizers=["sgd", "adam"], seeds=2, halving=0.25, refine=1)
    fit = {"validation_data": validation, "test_data": validation, "epochs": 4, "batch_size": 32}
    local = swept.run(classifier, x, y, **fit)
    notes = [Notes(tmp_path)]
    found = swept.run(classifier, x, y, engine=ENGINE, callbacks=notes, **fit)
    assert facts(found) == facts(local)
    # A trial that continues is not trained again from the start, on whichever worker.
    trained = noted(tmp_path)
    assert sum(trained.values()) == sum(row.epochs for row in found.rows)
    # On a busy machine one worker may have trained all of them before the other has started.
    assert 1 <= len(trained) <= 2
    assert os.getpid() not in trained


class Shuffled(keras.utils.PyDataset):
    """A dataset that shuffles its indices in place."""

    def __init__(self):
        super().__init__()
        self.x, self.y = line_data()
        self.indices = np.arange(40)

    def __len__(self):
        return 5

    def __getitem__(self, index):
        rows = self.indices[8 * index : 8 * index + 8]
        return self.x[rows], self.y[rows]

    def on_epoch_end(self):
        self.indices[:] = np.roll(self.indices, 1)


def test_settings_of_keras_data_and_functions_of_the_program_travel():
    keras.config.set_dtype_policy("bfloat16")
    scale = 2.0

    def build(optimizer):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(optimizer, lambda y, p: scale * (y - p) ** 2, **COMPILE)
        assert model.layers[0].compute_dtype == "bfloat16"
        return model

    stop = keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=1)
    fit = {"epochs": 4, "callbacks": [stop]}
    try:
        swept = sweep(min_lr=0.01, max_lr=0.1)
        # The dataset continues in its order, so each engine gets its own.
        found = swept.run(build, Shuffled(), engine=ONE, **fit)
        local = swept.run(build, Shuffled(), **fit)
    finally:
        keras.config.set_dtype_policy("float32")
    assert [row.status for row in found.rows] == ["stopped"] * 2
    assert facts(found) == facts(local)


def test_data_stand_in_the_store_once(monkeypatch):
    x = np.random.default_rng(0).normal(size=(2**18, 20)).astype("float32")  # 20 MiB
    y = x.sum(1, keepdims=True)
    before = ray.available_resources()["object_store_memory"]
    used = []

    class Looks(RayEngine):
        def run(self, stretches):
            for outcome in super().run(stretches):
                used.append(before - ray.available_resources()["object_store_memory"])
                yield outcome

    def build(optimizer):
        model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(1, use_bias=False)])
        model.compile(optimizer, "mse", **COMPILE)
        return model

    engine = Looks(workers=2, cpus_per_trial=CORES)
    result = sweep().run(build, x, y, epochs=1, batch_size=2**12, engine=engine)
    assert [row.status for row in result.rows] == ["trained"] * 4
    assert max(used) < 1.5 * (x.nbytes + y.nbytes)


def test_trials_that_fail_or_diverge():
    def build(optimizer):
        if isinstance(optimizer, keras.optimizers.Adam):
            raise RuntimeError("no Adam here")
        return line(optimizer)

    x, y = line_data()
    swept = sweep(min_lr=0.1, max_lr=1e20, optimizers=["adam", "sgd"])
    local = swept.run(build, x, y, epochs=1, batch_size=8)
    found = swept.run(build, x, y, epochs=1, batch_size=8, engine=ONE)
    assert facts(found) == facts(local)
    assert {row.status for row in found.rows} == {"failed", "trained", "diverged"}


# Workers that die ---------------------------------------------------------------------------------


class Remembers(keras.layers.Layer):
    """Keeps state of every kind that Keras does not list."""

    def __init__(self):
        super().__init__()
        self.random = np.random.RandomState(0)
        self.calls = 0
        self.parts = [keras.layers.Dense(3)]
        self.dropout = keras.layers.Dropout(0.5)

    def build(self, shape):
        self.last = keras.Variable(np.zeros(()), trainable=False, dtype="float32")

    def call(self, x, training=False):
        self.calls += 1
        self.last.assign(keras.ops.mean(x) + 0.5 * self.last)
        return self.parts[0](self.dropout(x, training=training)) + self.last


def of_own_layers(optimizer):
    model = keras.Sequential([keras.Input((3,)), Remembers(), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", **COMPILE)
    return model


def one_cycle(rate):
    return OneCycle(rate)


class Kills(Notes):
    """Kills its process at the end of an epoch, as often as it is told."""

    def __init__(self, folder, epoch, times, mark):
        super().__init__(folder)
        self.epoch, self.times, self.mark = epoch, times, str(mark)

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        with open(self.mark, "a+") as file:
            file.seek(0)
            if epoch == self.epoch and len(file.read()) < self.times:
                file.write(".")
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_costs_one_trial_and_states_go_to_another_one(tmp_path):
    swept = sweep(
        min_lr=1e-4, max_lr=0.01, seeds=2, halving=0.125, schedule=one_cycle,
        optimizers=[keras.optimizers.SGD(momentum=0.9)],
    )  # fmt: skip
    notes, mark = tmp_path / "notes", tmp_path / "mark"
    notes.mkdir()
    fit = {"epochs": 8, "batch_size": 8}
    local = swept.run(of_own_layers, *line_data(), **fit)
    kills = [Kills(notes, 3, 1, mark)]  # in the third rung, from the second one's state
    found = swept.run(of_own_layers, *line_data(), engine=ENGINE, callbacks=kills, **fit)
    assert facts(found) == facts(local)
    assert mark.read_text() == "."
    trained = noted(notes)
    assert len(trained) >= 2
    # Only the two epochs of the third rung were trained again.
    assert sum(trained.values()) == sum(row.epochs for row in found.rows) + 2


def test_a_trial_that_kills_its_workers_has_failed(tmp_path):
    def callbacks(trial):
        return [Kills(tmp_path, 0, 9, tmp_path / "mark")] if trial.learning_rate == 0.01 else []

    found = run_line(sweep(), epochs=2, callbacks=callbacks)
    assert [row.status for row in found.rows] == ["trained", "failed", "trained", "trained"]
    assert "3 workers in a row have died of it: Actor" in found.rows[1].reason


def test_a_machine_that_is_lost_costs_what_was_there():
    facts = run_program("ray_nodes.py", KERAS_BACKEND=keras.backend.backend())
    assert facts["nodes"] == [3, 2]
    assert facts["found"] == facts["local"]
    assert facts["again"] > 0
    assert {status for *_, status, _ in facts["found"]} == {"partial", "trained"}


# Ctrl-C, and what is left behind ------------------------------------------------------------------


def test_ctrl_c_keeps_what_is_finished_and_ends_the_workers():
    facts = run_program("ray_interrupted.py", KERAS_BACKEND=keras.backend.backend())
    assert facts["interrupted"]
    assert 2 <= facts["trials"] < 20
    assert facts["workers"] == 2
    assert facts["alive"] == []
    assert facts["changed"] == []


def test_a_keyboard_interrupt_in_a_worker_ends_the_sweep():
    class Interrupts(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    def callbacks(trial):
        return [Interrupts()] if trial.learning_rate > 0.5 else []

    result = run_line(sweep(), engine=ONE, epochs=1, callbacks=callbacks)
    assert result.interrupted
    assert [row.trial.learning_rate for row in result.rows] == [0.001, 0.01, 0.1]


# Refusals -----------------------------------------------------------------------------------------


def test_what_a_worker_cannot_import_is_refused(tmp_path, monkeypatch):
    text = "from problems import line\ndef build(optimizer): return line(optimizer)\n"
    (tmp_path / "only_here.py").write_text(text)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        build = importlib.import_module("only_here").build
    with pytest.raises(RuntimeError, match=r"No module named 'only_here'.*ray\.init\(runtime_env"):
        sweep().run(build, *line_data(), epochs=1, engine=ONE)


def test_what_is_refused_is_refused_with_the_same_words():
    with pytest.raises(TypeError, match=r"must return a compiled Keras model. Received: None"):
        sweep().run(lambda optimizer: None, *line_data(), epochs=1, engine=ONE)
    with pytest.raises(ValueError, match=r"`until` must name a value that an epoch logs.*loss"):
        run_line(sweep(until="accuracy >= 0.9"), engine=ONE)


def test_no_room_is_refused():
    with pytest.raises(ValueError, match=r"`gpus_per_trial` must be what a machine of the cluster"):
        run_line(sweep(), engine=RayEngine(gpus_per_trial=1000))
    with pytest.raises(ValueError, match=r"`cpus_per_trial` must be what a machine of the cluster"):
        run_line(sweep(), engine=RayEngine(cpus_per_trial=1000))
    with pytest.raises(ValueError, match=r"`address` must be that of the cluster"):
        run_line(sweep(), engine=RayEngine(address="192.0.2.1:6379"))


# The command line ---------------------------------------------------------------------------------

STUDY = """
import keras
import numpy as np
from keras_lr import LRSweep

x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
data = {"x": x, "y": x.sum(1, keepdims=True), "epochs": 1}
sweep = LRSweep(0.01, 0.1, per_decade=1, seeds=1, optimizers=["sgd"], directory="found")


def build(optimizer):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model
"""


def test_the_command_line_sweeps_on_ray(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.py").write_text(STUDY)
    assert main(["sweep", "study.py", "--engine", "ray", "--workers", "1"]) == 0
    assert "2 trials" in capsys.readouterr().out
    assert main(["sweep", "show", "found"]) == 0
