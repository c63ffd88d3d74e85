"""Long training runs: memory, live objects, threads and traces stay flat.

At full size, with 200,000 steps, 300 fits and 100 compilations: ``KERAS_LR_LONG=1 pytest -m slow``.
"""

import os

import pytest
from processes import run_program

pytestmark = [pytest.mark.core, pytest.mark.slow]

LONG = bool(os.environ.get("KERAS_LR_LONG"))
STEPS, FITS, COMPILES = (200_000, 300, 100) if LONG else (20_000, 60, 20)


def grown(*arguments):
    return run_program("long_run.py", *arguments, timeout=3600)


@pytest.mark.parametrize(("what", "count"), [("steps", STEPS), ("fits", FITS)])
def test_nothing_grows(what, count):
    found = grown(what, count)
    assert found["traces"] == found["threads"] == 0
    assert found["objects"] < 100
    # The record of a step takes a few bytes.
    assert found["megabytes"] < 30


def test_a_compilation_leaves_no_more_behind_than_without_callbacks():
    found, plain = grown("compiles", COMPILES), grown("compiles", COMPILES, "plain")
    assert found["traces"] == plain["traces"]
    assert found["threads"] == 0
    # TensorFlow keeps much of every function that it has compiled.
    assert found["objects"] < 1.25 * plain["objects"] + 100
    assert found["megabytes"] < 2 * plain["megabytes"] + 30
