import sys

import pytest

from keras_lr import CosineDecay, LinearDecay, save


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to be in, beside a terminal of 80 columns; `sys.path` is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    monkeypatch.undo()


@pytest.fixture
def rate(folder):
    """The name of a file with a warmup and a decay."""
    save(LinearDecay(0.0, 0.1, over=2) >> CosineDecay(0.1), "lr.yaml")
    return "lr.yaml"
