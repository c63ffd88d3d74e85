"""By which route a sweep trains its trials, and whether the numbers are those of ``fit``."""

import keras
import pytest
from problems import line, line_data, sweep

BACKEND = keras.backend.backend()
compiles = pytest.mark.skipif(BACKEND == "torch", reason="PyTorch compiles no step")
FAST = "whole epochs"


def run_line(swept, epochs=3, **fit):
    x, y = line_data()
    return swept.run(line, x, y, **{"epochs": epochs, "batch_size": 8} | fit)


def by_hand(build, optimizer, fit, seed=0):
    """Return what the loop that people write logs."""
    keras.utils.set_random_seed(seed)
    return build(optimizer).fit(verbose=0, **fit).history


def check_same(build, fit, route=FAST, make=keras.optimizers.SGD):
    """Check that a sweep gives the numbers of ``fit`` and takes a route; return its rows."""
    result = sweep(optimizers=[make()], seeds=2).run(build, **fit)
    assert {row.route for row in result.rows} == {route}, result.rows[0].route_reason
    for row in (result.rows[0], result.rows[-1]):
        history = by_hand(build, make(row.trial.learning_rate), fit, row.trial.seed)
        assert row.logs == history, row.trial
        assert list(row.logs) == list(history)
    return result.rows
