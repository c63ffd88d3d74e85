"""Keras's NNX mode on JAX, whose trainer compiles the training step of the class."""

import importlib.util

import pytest
from processes import run_program

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("jax", "flax"))), reason="needs JAX and Flax"
)


def test_every_update_is_made_with_its_rate():
    found = run_program("nnx.py", KERAS_BACKEND="jax", KERAS_NNX_ENABLED="true")
    assert found["nothing"] == found["history"] == found["recorded by history"] == [1.0] * 10
    assert found["plateau"] == [1.0] * 10 + [0.5] * 5
    falling = pytest.approx([1.0 - step / 10 for step in range(10)])
    assert found["schedule"] == found["recorded by schedule"] == falling
