"""Hyperparameters that Keras compiles into the step move: read off the weights, beside numpy's."""

import copy
from typing import Annotated

import keras
import numpy as np
import pytest
from models import COMPILE, mean_prediction, meter, settled

from keras_lr import (
    Constant,
    CosineDecay,
    Function,
    LinearDecay,
    OneCycle,
    ParamScheduler,
    Schedule,
    StepDecay,
)
from keras_lr._fields.kinds import Number
from keras_lr.schedules.base import schedule

pytestmark = pytest.mark.core

BACKEND = keras.backend.backend()
STEPS, EPOCHS = 4, 3
MOMENTUM = LinearDecay(0.9, 0.3)
MOMENTA = [0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35]

compiled = [
    pytest.param({}, id="graph"),
    pytest.param({"run_eagerly": True}, id="eager"),
]
if BACKEND != "torch":
    compiled += [
        pytest.param({"jit_compile": True}, id="jit"),
        pytest.param({"steps_per_execution": 3}, id="three"),
        pytest.param({"jit_compile": True, "steps_per_execution": 8}, id="jit-eight"),
    ]
every_way = pytest.mark.parametrize("compile_args", compiled)

keras.saving.register_keras_serializable("tests")(mean_prediction)


def model_of(optimizer, **compile_args):
    """A model of one weight with the gradient 1."""
    return meter(1, optimizer, **compile_args)


class Weights(keras.callbacks.Callback):
    """Remembers the weight at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(self.model.get_weights()[0].item())


def fit(model, *callbacks, epochs=EPOCHS, **options):
    """Fit a model and return its weight at the end of each epoch."""
    x, reader = np.ones((STEPS, 1), "float32"), Weights()
    options = {"epochs": epochs, "verbose": 0, "batch_size": 1} | options
    model.fit(x, x, callbacks=[*callbacks, reader], **options)
    return reader.seen


def sgd(rates, momenta, nesterov=False, state=(0.0, 0.0)):
    """Sutskever's momentum with the gradient 1: weights at the end of each epoch, and the state."""
    weight, velocity, seen = *state, []
    for rate, momentum in zip(rates, momenta, strict=True):
        velocity = momentum * velocity - rate
        weight += momentum * velocity - rate if nesterov else velocity
        seen.append(weight)
    return seen[STEPS - 1 :: STEPS], (weight, velocity)


def adam(rates, firsts, seconds=0.99, epsilon=1e-7):
    """Adam with the gradient 1, bias corrected by the powers of the present betas."""
    weight, first, second, seen = 0.0, 0.0, 0.0, []
    for step, (rate, one, two) in enumerate(np.broadcast(rates, firsts, seconds), 1):
        first += (1 - first) * (1 - one)
        second += (1 - second) * (1 - two)
        alpha = rate * np.sqrt(1 - two**step) / (1 - one**step)
        weight -= alpha * first / (np.sqrt(second) + epsilon)
        seen.append(weight)
    return seen[STEPS - 1 :: STEPS]


def plain(optimizer, **numbers):
    """Whether an optimizer's numbers are what they were, and floats."""
    config = optimizer.get_config()
    return all(
        type(getattr(optimizer, name)) is float
        and getattr(optimizer, name) == config[name] == value
        for name, value in numbers.items()
    )


@every_way
def test_momentum_moves(compile_args):
    optimizer = keras.optimizers.SGD(0.5, momentum=0.25)
    config = optimizer.get_config()
    scheduler = ParamScheduler(momentum=copy.deepcopy(MOMENTUM))
    weights = fit(model_of(optimizer, **compile_args), scheduler)
    np.testing.assert_allclose(weights, sgd([0.5] * 12, MOMENTA)[0], rtol=1e-6)
    np.testing.assert_allclose(scheduler.history["momentum"], MOMENTA, rtol=1e-6)
    np.testing.assert_array_equal(scheduler.history.learning_rate, np.float32(0.5))
    assert plain(optimizer, momentum=0.25)
    assert optimizer.get_config() == config


def test_nesterov_momentum_moves():
    optimizer = keras.optimizers.SGD(0.5, momentum=0.25, nesterov=True)
    weights = fit(model_of(optimizer), ParamScheduler(momentum=copy.deepcopy(MOMENTUM)))
    np.testing.assert_allclose(weights, sgd([0.5] * 12, MOMENTA, nesterov=True)[0], rtol=1e-6)


@pytest.mark.parametrize("compile_args", compiled[1::3])
def test_momentum_and_rate_move_together(compile_args):
    optimizer = keras.optimizers.SGD(0.5, momentum=0.25)
    scheduler = ParamScheduler(
        momentum=copy.deepcopy(MOMENTUM), learning_rate=StepDecay(0.4, 0.5, every=1)
    )
    weights = fit(model_of(optimizer, **compile_args), scheduler)
    rates = np.repeat([0.4, 0.2, 0.1], 4)
    np.testing.assert_allclose(weights, sgd(rates, MOMENTA)[0], rtol=1e-6)
    assert plain(optimizer, momentum=0.25)


def test_momentum_moves_after_and_before_fits_without():
    optimizer = keras.optimizers.SGD(0.5, momentum=0.25)
    model, state = model_of(optimizer), (0.0, 0.0)
    for callbacks, momenta in [
        ([], [0.25] * 12),
        ([ParamScheduler(momentum=copy.deepcopy(MOMENTUM))], MOMENTA),
        ([], [0.25] * 12),
        ([ParamScheduler(momentum=Constant(0.75))], [0.75] * 12),
        ([CosineDecay(0.5).clip(min=0.5)], [0.25] * 12),
        ([], [0.25] * 12),
    ]:
        weights, (expected, state) = fit(model, *callbacks), sgd([0.5] * 12, momenta, state=state)
        np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_a_number_that_the_user_changes_between_fits_counts():
    optimizer = keras.optimizers.SGD(0.5, momentum=0.25)
    model = model_of(optimizer)
    fit(model, ParamScheduler(momentum=Constant(0.75)))
    optimizer.momentum = 0.5
    model.compile(optimizer, mean_prediction, **COMPILE)
    model.set_weights([np.zeros((1, 1))])
    for variable in optimizer.variables[2:]:
        variable.assign([[0.0]])
    np.testing.assert_allclose(fit(model), sgd([0.5] * 12, [0.5] * 12)[0], rtol=1e-6)


def test_momentum_moves_in_a_model_that_was_loaded(tmp_path):
    optimizer = keras.optimizers.SGD(0.5, momentum=0.25)
    model = model_of(optimizer)
    _, state = sgd([0.5] * 12, MOMENTA)
    fit(model, ParamScheduler(momentum=copy.deepcopy(MOMENTUM)))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert plain(loaded.optimizer, momentum=0.25)
    weights = fit(loaded, ParamScheduler(momentum=copy.deepcopy(MOMENTUM)))
    np.testing.assert_allclose(weights, sgd([0.5] * 12, MOMENTA, state=state)[0], rtol=1e-6)


@every_way
def test_one_cycle_moves_beta_1_of_adam(compile_args):
    """Up and down in straight lines: 12 steps, 3 of them up."""
    optimizer = keras.optimizers.Adam(0.5, beta_1=0.9, beta_2=0.99)
    schedule = OneCycle(0.3, warmup="25%", div=3, final_div=4, momentum=(0.6, 0.9), shape="linear")
    weights = fit(model_of(optimizer, **compile_args), schedule)
    betas = [0.9, 0.8, 0.7, *np.linspace(0.6, 0.9, 10)[:9]]
    rates = [0.1, 0.1 + 0.2 / 3, 0.1 + 0.4 / 3, *np.linspace(0.3, 0.025, 10)[:9]]
    np.testing.assert_allclose(weights, adam(rates, betas), rtol=2e-6)
    np.testing.assert_allclose(schedule.history["beta_1"], betas, rtol=1e-6)
    np.testing.assert_allclose(schedule.history.learning_rate, rates, rtol=1e-6)
    assert plain(optimizer, beta_1=0.9, beta_2=0.99)


def test_one_cycle_moves_momentum_of_sgd():
    optimizer = keras.optimizers.SGD(0.5, momentum=0.25)
    schedule = OneCycle(0.3, warmup="25%", div=3, momentum=(0.6, 0.9), shape="linear")
    fit(model_of(optimizer), schedule)
    betas = [0.9, 0.8, 0.7, *np.linspace(0.6, 0.9, 10)[:9]]
    np.testing.assert_allclose(schedule.history["momentum"], betas, rtol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "momentum"),
    [
        (keras.optimizers.SGD(0.5), (0.85, 0.95)),
        (keras.optimizers.SGD(0.5, momentum=0.25), None),
        (keras.optimizers.Adagrad(0.5), (0.85, 0.95)),
    ],
    ids=["no momentum", "None", "Adagrad"],
)
def test_one_cycle_leaves_momentum_alone(optimizer, momentum):
    schedule = OneCycle(0.3, momentum=momentum)
    fit(model_of(optimizer), schedule)
    assert not {"momentum", "beta_1"} & set(schedule.history.names)


def test_one_cycle_inside_a_composition_moves_the_rate_alone():
    schedule = OneCycle(0.3).lasting(2) >> Constant(0.1)
    fit(model_of(keras.optimizers.SGD(0.5, momentum=0.25)), schedule)
    assert "momentum" not in schedule.history.names


def test_beta_2_of_adam_moves():
    seconds = LinearDecay(0.99, 0.75)
    optimizer = keras.optimizers.Adam(0.5, beta_1=0.8, beta_2=0.9)
    weights = fit(model_of(optimizer), ParamScheduler(beta_2=seconds))
    expected = adam([0.5] * 12, [0.8] * 12, np.linspace(0.99, 0.75, 13)[:12])
    np.testing.assert_allclose(weights, expected, rtol=2e-6)
    assert plain(optimizer, beta_1=0.8, beta_2=0.9)


def test_weight_decay_moves():
    """Decoupled: the weight shrinks by rate times decay before it is updated."""
    optimizer = keras.optimizers.SGD(0.5, weight_decay=0.1)
    weights = fit(model_of(optimizer), ParamScheduler(weight_decay=LinearDecay(0.6, 0.0)))
    weight, expected = 0.0, []
    for decay in np.linspace(0.6, 0.0, 13)[:12]:
        weight -= weight * decay * 0.5
        weight -= 0.5
        expected.append(weight)
    np.testing.assert_allclose(weights, expected[3::4], rtol=1e-6)
    assert plain(optimizer, weight_decay=0.1)


def test_rho_of_rmsprop_moves():
    optimizer = keras.optimizers.RMSprop(0.5, rho=0.9)
    weights = fit(model_of(optimizer), ParamScheduler(rho=LinearDecay(0.9, 0.3)))
    weight, square, expected = 0.0, 0.0, []
    for rho in MOMENTA:
        square = rho * square + (1 - rho)
        weight -= 0.5 / np.sqrt(square + 1e-7)
        expected.append(weight)
    np.testing.assert_allclose(weights, expected[3::4], rtol=1e-6)


@schedule
class Falling(Schedule):
    """From one number to another, of any sign."""

    first: Annotated[float, Number()]
    last: Annotated[float, Number()]

    def value(self, step, timeline):
        return self.first + timeline.progress(step, "rest") * (self.last - self.first)


FTRL = {
    "learning_rate_power": (-0.5, -1.0),
    "l1_regularization_strength": (0.5, 0.25),
    "l2_regularization_strength": (0.25, 0.5),
    "l2_shrinkage_regularization_strength": (0.125, 0.25),
    "beta": (0.25, 0.5),
}


def ftrl(*moved):
    """Ftrl-proximal, whose accumulator begins at 1 and adds the gradients of 1."""
    numbers = {name: np.full(12, first) for name, (first, _) in FTRL.items()}
    numbers |= {name: np.linspace(*FTRL[name], 13)[:12] for name in moved}
    weight, linear, seen = 0.0, 0.0, []
    for t, (power, one, two, shrinkage, beta) in enumerate(zip(*numbers.values(), strict=True)):
        before, after = (1.0 + t) ** -power, (2.0 + t) ** -power
        linear += 1.0 + 2.0 * shrinkage * weight - (after - before) / 0.5 * weight
        quadratic = after / 0.5 + 2.0 * (two + beta / (2.0 * 0.5))
        weight = (np.clip(linear, -one, one) - linear) / quadratic
        seen.append(weight)
    return seen[3::4]


@every_way
def test_the_numbers_of_ftrl_move(compile_args):
    """One of them goes into an operation that JAX compiles, and that TensorFlow gives a float."""
    first = {name: ends[0] for name, ends in FTRL.items()}
    optimizer = keras.optimizers.Ftrl(0.5, initial_accumulator_value=1.0, **first)
    model = model_of(optimizer, **compile_args)
    weights = fit(model, ParamScheduler(**{name: Falling(*FTRL[name]) for name in FTRL}))
    np.testing.assert_allclose(weights, ftrl(*FTRL), rtol=1e-5)
    assert plain(optimizer, **first)
    for name in FTRL:
        others = set(FTRL) - {name}
        assert not np.allclose(ftrl(*others), ftrl(*FTRL), rtol=1e-3)


def test_a_number_other_than_a_rate_can_be_negative():
    first = {name: ends[0] for name, ends in FTRL.items()}
    optimizer = keras.optimizers.Ftrl(0.5, initial_accumulator_value=1.0, **first)
    weights = fit(model_of(optimizer), ParamScheduler(learning_rate_power=Falling(-0.5, -1.0)))
    np.testing.assert_allclose(weights, ftrl("learning_rate_power"), rtol=2e-6)
    with pytest.raises(ValueError, match=r"learning_rate=-0\.5 for batch 0 of the epoch.*negative"):
        fit(model_of(keras.optimizers.SGD(0.5)), Falling(-0.5, -1.0))


def test_inside_a_loss_scale_optimizer():
    inner = keras.optimizers.SGD(0.5, momentum=0.25)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=4.0)
    weights = fit(model_of(optimizer), ParamScheduler(momentum=copy.deepcopy(MOMENTUM)))
    np.testing.assert_allclose(weights, sgd([0.5] * 12, MOMENTA)[0], rtol=1e-6)
    assert plain(inner, momentum=0.25)


def test_a_function_of_a_number_begins_with_that_number():
    """As a rate begins with the optimizer's rate, a momentum begins with its momentum."""
    optimizer = keras.optimizers.SGD(0.5, momentum=0.8)
    scheduler = ParamScheduler(momentum=Function(lambda epoch, value: value / 2))
    fit(model_of(optimizer), scheduler)
    np.testing.assert_allclose(scheduler.history["momentum"][::4], [0.4, 0.2, 0.1], rtol=1e-6)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("compile_args", compiled[:2])
def test_an_exception_leaves_plain_numbers(error, compile_args):
    class Raise(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations >= 6:
                raise error

    optimizer = keras.optimizers.SGD(0.5, momentum=0.25)
    config = optimizer.get_config()
    model = model_of(optimizer, **compile_args)
    with pytest.raises(error):
        fit(model, ParamScheduler(momentum=copy.deepcopy(MOMENTUM)), Raise())
    assert plain(settled(model).optimizer, momentum=0.25)
    assert optimizer.get_config() == config
    model.set_weights([np.zeros((1, 1))])
    optimizer.momentums[0].assign([[0.0]])
    np.testing.assert_allclose(fit(model), sgd([0.5] * 12, [0.25] * 12)[0], rtol=1e-6)


def test_an_exception_in_the_step_leaves_plain_numbers():
    class Model(keras.Sequential):
        def train_step(self, *arguments):
            raise ZeroDivisionError("in the step")

    optimizer = keras.optimizers.SGD(0.5, momentum=0.25)
    model = Model([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", **COMPILE)
    with pytest.raises(ZeroDivisionError):
        fit(model, ParamScheduler(momentum=Constant(0.5)))
    assert (type(optimizer.momentum), optimizer.momentum) == (float, 0.25)


def test_while_a_fit_runs_the_optimizer_has_its_own_numbers():
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(plain(self.model.optimizer, momentum=0.25))

    optimizer = keras.optimizers.SGD(0.5, momentum=0.25)
    fit(model_of(optimizer), ParamScheduler(momentum=copy.deepcopy(MOMENTUM)), Look())
    assert seen == [True] * 12


# Several optimizers.


class Two(keras.Sequential):
    """A model with an optimizer of its own beside the compiled one, for a weight of its own."""

    def train_step(self, *arguments):
        result = super().train_step(*arguments)
        (weight,) = self.layers[1].trainable_variables
        self.second.apply([keras.ops.ones_like(weight)], [weight])
        return result


@pytest.mark.skipif(BACKEND == "jax", reason="on JAX a train_step has no side effects")
@pytest.mark.parametrize("by", ["name", "object"])
def test_another_optimizer_of_the_model(by):
    first, second = (
        keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros") for _ in range(2)
    )
    second.trainable = True
    model = Two([keras.Input((1,)), first, second])
    model.second = keras.optimizers.SGD(0.5, momentum=0.25)
    model.second.build(second.trainable_variables)
    model.compile(keras.optimizers.SGD(0.0), mean_prediction, **COMPILE)
    chosen = "second" if by == "name" else model.second
    scheduler = ParamScheduler(
        chosen, momentum=copy.deepcopy(MOMENTUM), learning_rate=Constant(1.0)
    )
    fit(model, scheduler, StepDecay(1e-9, every=1))
    weight = model.get_weights()[1].item()
    np.testing.assert_allclose(weight, sgd([1.0] * 12, MOMENTA)[0][-1], rtol=1e-6)
    assert plain(model.second, momentum=0.25)
