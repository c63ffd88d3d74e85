"""Loggers of other packages, offline: each sees the rate of every epoch without being told."""

import csv
import zipfile

import keras
import numpy as np
import pytest
from models import COMPILE

from keras_lr import CosineDecay

EPOCHS, STEPS = 3, 4


@pytest.fixture
def train():
    """Return a function that fits with a logger, and the rates that the logger should have."""
    rate = CosineDecay(0.5, 0.1)

    def run(*loggers):
        x = np.random.default_rng(0).normal(size=(STEPS * 8, 3)).astype("float32")
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(), "mse", **COMPILE)
        y = x.sum(axis=1, keepdims=True)
        model.fit(x, y, batch_size=8, epochs=EPOCHS, verbose=0, callbacks=[*loggers, rate])
        return rate.values(epochs=EPOCHS, steps_per_epoch=STEPS)[STEPS - 1 :: STEPS]

    return run


def test_csv(train, tmp_path):
    rates = train(keras.callbacks.CSVLogger(tmp_path / "log.csv"))
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose([float(row["learning_rate"]) for row in rows], rates, rtol=1e-6)


def test_wandb(train, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    from wandb.integration.keras import WandbMetricsLogger

    monkeypatch.setenv("WANDB_SILENT", "true")
    logged = []
    with wandb.init(project="demo", mode="offline", dir=tmp_path) as run:
        log = wandb.log
        monkeypatch.setattr(wandb, "log", lambda row: (logged.append(row), log(row)))
        rates = train(WandbMetricsLogger())
        last = run.summary["epoch/learning_rate"]
    seen = [row["epoch/learning_rate"] for row in logged if "epoch/learning_rate" in row]
    np.testing.assert_allclose(seen, rates, rtol=1e-6)
    assert last == pytest.approx(rates[-1])


def test_mlflow(train, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    # Its small package has no database.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file:{tmp_path}")
    mlflow.set_experiment("demo")
    with mlflow.start_run() as run:
        rates = train(mlflow.keras.MlflowCallback())
    client = mlflow.tracking.MlflowClient()
    seen = [one.value for one in client.get_metric_history(run.info.run_id, "learning_rate")]
    np.testing.assert_allclose(seen, rates, rtol=1e-6)


def test_comet(train, tmp_path):
    comet_ml = pytest.importorskip("comet_ml")
    experiment = comet_ml.OfflineExperiment(
        offline_directory=str(tmp_path), display_summary_level=0, project_name="demo"
    )
    rates = train(
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: experiment.log_metrics(logs, epoch=epoch)
        )
    )
    experiment.end()
    (archive,) = tmp_path.glob("*.zip")
    with zipfile.ZipFile(archive) as opened:
        text = opened.read("messages.json").decode()
    assert text.count('"learning_rate"') >= EPOCHS
    for rate in rates:
        assert f"{rate:.4f}"[:6] in text
