"""On several devices a rule sees the gradient of the whole batch."""

import keras
import numpy as np
import pytest
from processes import run_program

pytestmark = [pytest.mark.core, pytest.mark.slow]


@pytest.mark.parametrize(
    ("backend", "devices"), [("tensorflow", "mirrored"), ("jax", "data")], ids=str
)
def test_two_devices_do_what_one_does(backend, devices):
    if backend != keras.backend.backend():
        pytest.skip(f"for {backend}")
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"} if devices == "data" else {}
    one = run_program("rules.py", "one", KERAS_BACKEND=backend)
    two = run_program("rules.py", devices, KERAS_BACKEND=backend, **flags)
    for name, expected in one.items():
        np.testing.assert_allclose(two[name]["rates"], expected["rates"], rtol=1e-3, err_msg=name)
        for weight, other in zip(two[name]["weights"], expected["weights"], strict=True):
            np.testing.assert_allclose(weight, other, rtol=1e-3, atol=1e-4, err_msg=name)
