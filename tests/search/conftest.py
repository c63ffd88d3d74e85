import functools
import os

import keras
import pytest

from keras_lr.search.trials import whole_epochs


@pytest.fixture
def trainings(monkeypatch):
    """Count the training runs of trials by either route, without those that only try out a step."""
    found = []
    fit, fit_whole_epochs = keras.Model.fit, whole_epochs.fit_whole_epochs

    @functools.wraps(fit)
    def counted_fit(self, *args, **kwargs):
        found.append(kwargs.get("initial_epoch") is not None)
        return fit(self, *args, **kwargs)

    def counted_whole_epochs(*args):
        found.append(True)
        return fit_whole_epochs(*args)

    monkeypatch.setattr(keras.Model, "fit", counted_fit)
    monkeypatch.setattr(whole_epochs, "fit_whole_epochs", counted_whole_epochs)
    return lambda: sum(found)


@pytest.fixture(scope="module")
def connected_ray():
    """Connect to a Ray of this machine that has room for two workers with all its cores each."""
    import ray

    ray.init(
        address="local",
        num_cpus=2 * os.cpu_count(),
        object_store_memory=100 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
    )
    yield
    ray.shutdown()
