import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import keras
import pytest
from hypothesis import settings

# The first call of a backend compiles, so the time of one example says nothing.
settings.register_profile("keras_lr", deadline=None)
settings.load_profile("keras_lr")

# Programs that tests start in a process of their own.
collect_ignore = ["programs"]


def pytest_report_header():
    return f"keras: {keras.__version__}, backend {keras.backend.backend()}"


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)
