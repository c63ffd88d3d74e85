"""Ctrl-C at random moments: what a fit leaves is the state after some whole step.

More moments: ``KERAS_LR_INTERRUPTIONS=50 pytest -m slow ...``.
"""

import os

import keras
import pytest
from processes import run_program

pytestmark = [pytest.mark.core, pytest.mark.slow]

TIMES = int(os.environ.get("KERAS_LR_INTERRUPTIONS", 15))


def test_a_model_trains_on_after_an_interruption():
    found = run_program("interrupted.py", TIMES)
    assert found["problems"] == []
    # On JAX, Keras loses the model when it is interrupted just as a step returns, whatever the
    # callbacks: the step has used the old arrays up, and Keras has not stored the new ones.
    assert found["lost"] == 0 or keras.backend.backend() == "jax"
