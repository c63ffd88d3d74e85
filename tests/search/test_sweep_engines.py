"""Engines by name, what travels to the workers of Ray, and what is refused; all without Ray."""

import os
import pickle
import sys
import threading

import keras
import numpy as np
import pytest
from problems import line, line_data

from keras_lr import LRSweep, RayEngine
from keras_lr.search.arguments import check_fit
from keras_lr.search.engines.ray_connection import room_on, worker_environment
from keras_lr.search.engines.ray_parcel import pack, unpack
from keras_lr.search.trials.problem import Problem

X, Y = line_data()


def problem(build=line, **fit):
    arguments = check_fit({"x": X, "y": Y, "batch_size": 8} | fit, None)
    return Problem({"": build}, {"SGD": keras.optimizers.SGD(momentum=0.9)}, arguments, 2, "loss")


def test_without_ray_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    swept = LRSweep(0.01, 0.1, optimizers=["sgd"], verbose=0)
    with pytest.raises(ImportError, match=r"engine='ray' needs Ray: pip install 'keras-lr\[ray\]'"):
        swept.run(line, X, Y, epochs=1, engine="ray")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"workers": 0}, "`workers` must be a whole number of at least 1"),
        ({"cpus_per_trial": 0.5}, "`cpus_per_trial` must be a whole number of at least 1"),
        ({"gpus_per_trial": -1}, "`gpus_per_trial` must be a finite number of at least 0"),
        ({"gpus_per_trial": 1.5}, "`gpus_per_trial` must be a whole number, or a part of one GPU"),
        ({"adress": "auto"}, "unknown argument `adress`.* Did you mean `address`"),
    ],
)
def test_arguments_of_the_engine(arguments, words):
    with pytest.raises((TypeError, ValueError), match=words):
        RayEngine(**arguments)


def test_a_problem_comes_out_of_its_parcel_as_it_was():
    validation = (X[:5], Y[:5])
    packed = pack(problem(validation_data=validation, class_weight={0: 2.0}), pickle.dumps)
    assert [array.shape for array in packed.arrays] == [(40, 3), (40, 1), (5, 3), (5, 1)]
    assert packed.arrays[0] is X
    assert len(packed.content) < 4000
    found = unpack(*packed)
    assert found.fit["x"] is X
    assert found.fit["validation_data"][1] is validation[1]
    assert found.fit["class_weight"] == {0: 2.0}
    assert found.builds[""] is line
    assert found.optimizers["SGD"].momentum == 0.9
    assert (found.epochs, found.monitor) == (2, "loss")


def test_the_settings_of_keras_travel():
    keras.config.set_epsilon(1e-3)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        packed = pack(problem(), pickle.dumps)
        keras.config.set_epsilon(1e-7)
        keras.config.set_dtype_policy("float32")
        unpack(*packed)
        assert keras.config.epsilon() == 1e-3
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_epsilon(1e-7)
        keras.config.set_dtype_policy("float32")


class Locked(keras.utils.PyDataset):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ({"build": lambda optimizer: line(optimizer)}, "build"),
        ({"x": Locked(), "y": None, "batch_size": None}, "x"),
        ({"validation_data": Locked()}, "validation_data"),
        ({"sample_weight": np.array([threading.Lock()] * 40)}, "sample_weight"),
    ],
)
def test_what_cannot_travel_is_refused_by_name(parts, name):
    with pytest.raises(ValueError, match=rf"LRSweep.run: argument `{name}` cannot be sent.*pickle"):
        pack(problem(**parts), pickle.dumps)


def test_a_worker_has_the_backend_and_threads_that_are_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("TF_CUDNN_DETERMINISTIC", "1")
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "64")
    monkeypatch.setenv("TF_CONFIG", "{}")
    monkeypatch.syspath_prepend(tmp_path)
    found = worker_environment(2, 0)
    assert found["KERAS_BACKEND"] == keras.backend.backend()
    assert found["OMP_NUM_THREADS"] == found["TF_NUM_INTRAOP_THREADS"] == found["NPROC"] == "2"
    assert found["TF_CUDNN_DETERMINISTIC"] == "1"
    assert "TF_CONFIG" not in found
    assert found["CUDA_VISIBLE_DEVICES"] == ""
    folders = found["PYTHONPATH"].split(os.pathsep)
    assert folders[0] == str(tmp_path)
    assert not [folder for folder in folders if "site-packages" in folder]
    assert "CUDA_VISIBLE_DEVICES" not in worker_environment(1, 2)
    assert worker_environment(1, 0.5)["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.450"
    assert worker_environment(1, 0.5)["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"


@pytest.mark.parametrize(
    ("cpus", "gpus", "room"),
    [
        (1, 0, 16),
        (4, 0, 4),
        (1, 1, 2),
        (1, 0.5, 4),
        (1, 0.3, 6),
        (1, 2, 1),
        (1, 3, 0),
        (10, 0.1, 1),
    ],
)
def test_how_many_workers_a_machine_has_room_for(cpus, gpus, room):
    assert room_on({"CPU": 16.0, "GPU": 2.0, "memory": 1e9}, cpus, gpus) == room
