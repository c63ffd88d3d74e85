"""A population on workers of Ray: the result of the local engine, also after a kill."""

import os
import signal

import keras
import pytest
from problems import line, line_data

from keras_lr import PopulationBasedTraining, RayEngine

ray = pytest.importorskip("ray", reason="it needs Ray: pip install 'keras-lr[ray]'")

pytestmark = [pytest.mark.slow, pytest.mark.core, pytest.mark.usefixtures("connected_ray")]

CORES = os.cpu_count()
ENGINE = RayEngine(workers=2, cpus_per_trial=CORES)
"""Each worker computes with as many threads as this process, so that the bits are the same."""


class Dies(keras.callbacks.Callback):
    """Kills its process, whenever it trains the line that it is for."""

    def on_epoch_end(self, epoch, logs=None):
        os.kill(os.getpid(), signal.SIGKILL)


def run(folder=None, **fit):
    training = PopulationBasedTraining(
        {"learning_rate": (1e-3, 1e-1)}, 4, optimizer="sgd", directory=folder, verbose=0
    )
    x, y = line_data()
    return training.run(line, x, y, **{"epochs": 3, "batch_size": 8} | fit)


def facts(result):
    rows = [(row.line, row.score, row.copied_from, row.status) for row in result.rows]
    return rows, [weight.tolist() for weight in result.model.get_weights()]


def test_ray_gives_what_the_local_engine_gives(tmp_path):
    usual = facts(run())
    assert facts(run(engine=ENGINE)) == usual
    assert facts(run(tmp_path, engine=ENGINE)) == usual
    # One engine continues from what another has written.
    lines = (tmp_path / "members.jsonl").read_bytes().splitlines(keepends=True)
    for engine in ("local", ENGINE):
        (tmp_path / "members.jsonl").write_bytes(b"".join(lines[:-2]))
        assert facts(run(tmp_path, engine=engine)) == usual


def test_a_member_whose_workers_die_is_replaced():
    def callbacks(line):
        return [Dies()] if line.seed == 1 and len(line.values) == 1 else []

    result = run(engine=ENGINE, callbacks=callbacks)
    (lost,) = (row for row in result.rows if row.is_lost)
    assert (lost.member, lost.round, lost.status) == (1, 1, "failed")
    (row,) = (row for row in result.rows if (row.member, row.round) == (1, 2))
    assert row.copied_from is not None
    assert "Member 1 failed in round 1 and was replaced by a copy of member" in result.report()
    assert "have died of it" in result.report()
