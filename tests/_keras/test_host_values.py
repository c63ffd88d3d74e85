"""Numbers read from where they live."""

import keras
import numpy as np
import pytest

from keras_lr._keras.host_values import STACKED, columns_of, from_jax, to_float, to_floats

pytestmark = pytest.mark.core


@pytest.mark.parametrize("convert", [float, np.float32, keras.ops.convert_to_tensor])
def test_scalars_are_the_numbers_one_by_one(convert):
    values = [convert(value) for value in (0.1, -3.0, float("nan"), 1e-30)]
    np.testing.assert_array_equal(to_floats(values), [to_float(value) for value in values])
    assert to_floats(values).dtype == np.float64
    assert to_floats([]).shape == (0,)


of_jax = pytest.param(
    from_jax, marks=pytest.mark.skipif(keras.backend.backend() != "jax", reason="arrays of JAX")
)


@pytest.mark.parametrize("read", [to_floats, of_jax])
@pytest.mark.parametrize("count", [1, STACKED - 1, STACKED, STACKED + 1, 3 * STACKED])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_no_scalar_of_many_is_lost(read, count, shape):
    values = [keras.ops.full(shape, i / 4) for i in range(count)]
    np.testing.assert_array_equal(read(values), np.arange(count) / 4)


@pytest.mark.parametrize("read", [to_floats, of_jax])
def test_only_scalars_are_read(read):
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        read([keras.ops.zeros(2)])


def test_logs_of_several_kinds_become_columns_by_name():
    logs = [{"loss": 1.0}, {"loss": keras.ops.convert_to_tensor(2.0), "parts": {"a": 3.0}}]
    columns = columns_of(logs)
    assert columns.keys() == {"loss", "a"}
    np.testing.assert_array_equal(columns["loss"], [1.0, 2.0])
    np.testing.assert_array_equal(columns["a"], [np.nan, 3.0])


def test_what_is_no_scalar_is_no_column():
    logs = [{"loss": keras.ops.convert_to_tensor(1.0), "confusion": keras.ops.ones((2, 2))}]
    assert columns_of(logs).keys() == {"loss"}


@pytest.mark.parametrize("first", [None, 1.0, "tensor"])
def test_nothing_in_the_logs_is_recorded_as_nan(first):
    value = keras.ops.convert_to_tensor(1.0) if first == "tensor" else first
    np.testing.assert_array_equal(
        columns_of([{"aux": value}, {"aux": None}])["aux"], [np.nan if first is None else 1, np.nan]
    )
