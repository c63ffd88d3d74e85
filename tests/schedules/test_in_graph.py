"""A schedule in the graph of the training step: the weights are those of the callback."""

import copy

import keras
import numpy as np
import pytest
from models import RATE, STEPS, compiled, curve, fit, mean_prediction, meter, rate

from keras_lr import (
    CosineRestarts,
    ExponentialDecay,
    Function,
    LinearDecay,
    OneCycle,
    TriangularCLR,
)

pytestmark = pytest.mark.core


EIGHT = {"steps_per_execution": 8, "jit_compile": True}


@pytest.mark.parametrize(
    ("schedule", "compile_args"),
    [
        (RATE, {}),
        (TriangularCLR(0.1, 0.5, "7 steps", "triangular2"), {}),
        (Function(lambda epoch: 0.5 / (epoch + 1)), {}),
        pytest.param(RATE, EIGHT, marks=compiled),
        pytest.param(OneCycle(0.5, momentum=None), EIGHT, marks=compiled),
        pytest.param(CosineRestarts(0.5, first_cycle="3 steps"), EIGHT, marks=compiled),
        pytest.param(
            (ExponentialDecay(0.5, 0.5).warmup(1) * LinearDecay(1.0)).per_epoch(),
            EIGHT,
            marks=compiled,
        ),
    ],
    ids=lambda value: type(value).__name__ if value else "plain",
)
def test_in_the_graph_the_weights_are_those_of_the_callback(schedule, compile_args):
    schedule, steps = copy.deepcopy(schedule), 10
    inside = schedule.in_graph(epochs=3, steps_per_epoch=steps)
    rates = fit(meter(steps, learning_rate=inside, **compile_args), [], epochs=3)
    expected = fit(meter(steps, **compile_args), schedule, epochs=3)
    np.testing.assert_array_equal(rates, expected)
    np.testing.assert_array_equal(rates, curve(schedule, steps=steps))


def test_in_the_graph_a_step_is_a_batch_under_accumulation_too():
    def trained(learning_rate, *callbacks):
        optimizer = keras.optimizers.SGD(learning_rate, gradient_accumulation_steps=2)
        return fit(meter(6, optimizer), list(callbacks), epochs=3)

    inside = RATE.in_graph(epochs=3, steps_per_epoch=6)
    np.testing.assert_array_equal(trained(inside), trained(1.0, rate()))


def test_a_model_is_saved_with_its_schedule_in_the_graph(tmp_path):
    inside = RATE.in_graph(epochs=3, steps_per_epoch=STEPS)
    keras.saving.register_keras_serializable("tests")(mean_prediction)
    model = meter(learning_rate=inside)
    first = fit(model, [], epochs=2)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer._learning_rate == inside
    rest = fit(loaded, [], epochs=3, initial_epoch=2)
    np.testing.assert_array_equal(np.concatenate([first, rest]), curve())
