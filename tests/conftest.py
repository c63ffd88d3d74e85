import gc
import os
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")
# Many tests compare weights bit for bit. The sums of oneDNN depend on how many threads are free.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import keras
import pytest
from hypothesis import settings

# The first call of a backend compiles, so the time of one example says nothing.
settings.register_profile("keras_lr", deadline=None)
settings.load_profile("keras_lr")

# Programs that tests start in a process of their own.
collect_ignore = ["programs"]
# Searched for doctests, these would be modules of one name.
collect_ignore_glob = ["*conftest.py"]


def pytest_report_header():
    return f"keras: {keras.__version__}, backend {keras.backend.backend()}"


def pytest_configure(config):
    # To optimize a graph takes TensorFlow longer than to run so small ones. It stays on in the slow
    # tests, some of which compare with other processes, and where CI tests what leans on Keras.
    keeps = "KERAS_LR_OPTIMIZE_GRAPHS" in os.environ or "not slow" not in config.option.markexpr
    if keras.backend.backend() == "tensorflow" and not keeps:
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture(autouse=True, scope="session")
def untuned_pipelines():
    """Keep tf.data from tuning pipelines that live for a moment.

    Its tuner can miss, on a busy machine, that its iterator is gone, and sleeps on for up to a
    minute while the main thread waits for it.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    begin, options = tf.data.Dataset.__iter__, tf.data.Options()
    options.autotune.enabled = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.data.Dataset, "__iter__", lambda data: begin(data.with_options(options)))
        yield


@pytest.fixture(autouse=True, scope="module")
def short_collections():
    """Spare the garbage collector what is there already: the libraries, and what they compiled."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def no_figure_stays():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
