"""Python functions and Keras schedules as schedules."""

import decimal
import fractions
import functools
import math

import keras
import numpy as np
import pytest
from models import fit, meter

from keras_lr import Constant, CosineDecay, Function, LinearDecay, LRHistory

pytestmark = pytest.mark.core

schedules = keras.optimizers.schedules


class Calls:
    """A function of the epoch that remembers its calls."""

    def __init__(self, result):
        self.result = result
        self.calls = []

    def __call__(self, epoch):
        self.calls.append(epoch)
        return self.result(epoch)


class Half:
    def of(self, epoch):
        return 0.5**epoch

    @staticmethod
    def by(epoch, lr):
        return lr / 2


def with_default(epoch, drop=0.5):
    return drop**epoch


def with_lr_by_name(epoch, lr=None):
    return lr * 0.5


def with_learning_rate_by_name(epoch, learning_rate=None):
    return learning_rate * 0.5


def with_keyword_only(epoch, *, drop=0.5):
    return drop**epoch


def with_any(*epoch):
    (number,) = epoch
    return 0.5**number


@pytest.mark.parametrize(
    "fn",
    [
        lambda epoch: 0.5**epoch,
        lambda n: 0.5**n,
        Half().of,
        Calls(lambda epoch: 0.5**epoch),
        functools.partial(pow, 0.5),
        with_default,
        with_keyword_only,
        with_any,
        lambda epoch: np.float32(0.5) ** epoch,
        np.frompyfunc(lambda epoch: 0.5**epoch, 1, 1),
    ],
    ids=lambda fn: getattr(fn, "__name__", type(fn).__name__),
)
def test_a_function_of_the_epoch(fn):
    curve = Function(fn).values(epochs=3, steps_per_epoch=2)
    assert curve.tolist() == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    "fn",
    [
        lambda epoch, lr: lr * 0.5,
        lambda n, x: x * 0.5,
        Half.by,
        with_lr_by_name,
        with_learning_rate_by_name,
        functools.partial(lambda factor, epoch, lr: lr * factor, 0.5),
    ],
    ids=lambda fn: getattr(fn, "__name__", type(fn).__name__),
)
def test_a_function_of_epoch_and_rate(fn):
    curve = Function(fn, initial_lr=0.8).values(epochs=3, steps_per_epoch=2)
    assert curve.tolist() == [0.4, 0.4, 0.2, 0.2, 0.1, 0.1]


def test_it_is_asked_once_for_each_epoch_in_order():
    fn = Calls(lambda epoch: 1 / (epoch + 1))
    Function(fn).values(epochs=4, steps_per_epoch=5)
    assert fn.calls == [0, 1, 2, 3]


def test_in_a_fit_it_is_asked_once_for_each_epoch_in_order():
    fn = Calls(lambda epoch: 1 / (epoch + 1))
    rates = fit(meter(), Function(fn), epochs=3)
    assert fn.calls == [0, 1, 2]
    np.testing.assert_array_equal(rates, np.repeat(np.float32([1, 1 / 2, 1 / 3]), 5))


def test_in_a_fit_the_rate_begins_with_that_of_the_optimizer():
    """As with `keras.callbacks.LearningRateScheduler`, whose history is the reference."""

    def fn(epoch, lr):
        return lr * 0.5 if epoch else lr

    model, theirs = meter(learning_rate=0.8), meter(learning_rate=0.8)
    for _ in range(2):
        rates = fit(model, Function(fn), epochs=3)
        expected = fit(theirs, keras.callbacks.LearningRateScheduler(fn), epochs=3)
        np.testing.assert_array_equal(rates, expected)
    assert rates[0] == np.float32(0.2)


def test_initial_lr_goes_before_the_rate_of_the_optimizer():
    schedule = Function(lambda epoch, lr: lr / 2, initial_lr=0.5)
    rates = fit(meter(learning_rate=0.8), schedule, epochs=2)
    np.testing.assert_array_equal(rates, np.repeat([0.25, 0.125], 5))


def test_a_fit_that_goes_on_asks_for_the_epochs_before_where_it_begins_with_a_rate():
    schedule = Function(lambda epoch, lr: lr / 2, initial_lr=0.5)
    rates = fit(meter(), schedule, epochs=4, initial_epoch=2)
    np.testing.assert_array_equal(rates, np.repeat([0.0625, 0.03125], 5))


def test_in_a_later_stage_epochs_count_from_its_start():
    fn = Calls(lambda epoch: 1 / (epoch + 1))
    curve = (Constant(0.1).lasting(2) >> Function(fn)).values(epochs=4, steps_per_epoch=1)
    assert curve.tolist() == [0.1, 0.1, 1.0, 0.5]


def test_it_combines_with_the_rest():
    half = Function(lambda epoch: 0.5**epoch)
    curve = (2 * half.warmup(1)).clip(max=1.5) * Constant(2.0)
    assert curve.values(epochs=3, steps_per_epoch=2).tolist() == [0, 2, 3, 3, 2, 2]
    assert half.repeat(2).values(epochs=4, steps_per_epoch=1).tolist() == [1, 0.5, 1, 0.5]


@pytest.mark.parametrize("error", [TypeError, KeyError, ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("arguments", [1, 2])
def test_an_exception_in_the_function_comes_out_unchanged(error, arguments):
    problem, calls = error("from the function"), []

    def one(epoch):
        calls.append(epoch)
        if epoch == 1:
            raise problem
        return 0.1

    def two(epoch, lr):
        return one(epoch)

    fn = one if arguments == 1 else two
    with pytest.raises(error) as caught:
        Function(fn, initial_lr=0.1).values(epochs=3, steps_per_epoch=2)
    assert caught.value is problem
    assert calls == [0, 1]
    calls.clear()
    with pytest.raises(error) as caught:
        fit(meter(), Function(fn), epochs=3)
    assert caught.value is problem
    assert calls == [0, 1]


def test_an_exception_in_a_keras_schedule_comes_out_unchanged():
    class Broken(schedules.LearningRateSchedule):
        def __call__(self, step):
            raise ZeroDivisionError("from the schedule")

    with pytest.raises(ZeroDivisionError, match="from the schedule"):
        Function(Broken()).values(epochs=1, steps_per_epoch=5)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, None, "0.1", [0.1]])
def test_what_it_returns_must_be_a_rate(value):
    schedule = Function(lambda epoch: 0.1 if epoch < 2 else value)
    with pytest.raises(ValueError, match="must return a finite rate of at least 0") as caught:
        schedule.values(epochs=3, steps_per_epoch=1)
    assert f"Received: {value!r} at epoch 2" in str(caught.value)
    assert repr(schedule) in str(caught.value)


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (lambda: 0.1, "takes neither one nor two arguments"),
        (lambda a, b, c: 0.1, "takes neither one nor two arguments"),
        (0.1, r"fn\(epoch\), fn\(epoch, lr\) or a keras.optimizers.schedules"),
        (None, r"fn\(epoch\), fn\(epoch, lr\) or a keras.optimizers.schedules"),
        ("cosine", "Received: fn='cosine'"),
        (CosineDecay(0.1), "a schedule of keras_lr needs no Function around it"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_function_of_the_epoch(fn, words):
    with pytest.raises(TypeError, match=words):
        Function(fn)


def test_without_a_fit_or_a_rate_it_says_what_to_pass():
    schedule = Function(lambda epoch, lr: lr)
    with pytest.raises(ValueError, match=r"does not know the rate.*Pass initial_lr="):
        schedule.values(epochs=1, steps_per_epoch=1)


class Sawtooth(schedules.LearningRateSchedule):
    """A user's schedule that asks Python questions, which no vectorised call survives."""

    def __call__(self, step):
        return 0.5 if int(step) % 3 == 0 else 0.25


KERAS = {
    "CosineDecay": lambda: schedules.CosineDecay(0.1, 9, alpha=0.1),
    "CosineDecay-warmup": lambda: schedules.CosineDecay(
        0.01, 9, alpha=0.1, warmup_target=0.1, warmup_steps=3
    ),
    "CosineDecayRestarts": lambda: schedules.CosineDecayRestarts(0.1, 3, m_mul=0.5),
    "ExponentialDecay": lambda: schedules.ExponentialDecay(0.1, 4, 0.5, staircase=True),
    "InverseTimeDecay": lambda: schedules.InverseTimeDecay(0.1, 4, 0.5),
    "PiecewiseConstantDecay": lambda: schedules.PiecewiseConstantDecay([3, 7], [0.1, 0.2, 0.05]),
    "PolynomialDecay": lambda: schedules.PolynomialDecay(0.1, 4, 0.01, 2.0, cycle=True),
    "own": Sawtooth,
}


@pytest.mark.parametrize("name", KERAS)
def test_a_keras_schedule_has_its_own_values(name):
    theirs = KERAS[name]()
    expected = [float(theirs(step)) for step in range(15)]
    curve = Function(theirs).values(epochs=3, steps_per_epoch=5)
    np.testing.assert_allclose(curve, expected, rtol=1e-6)
    later = Constant(9.0).lasting(1) >> Function(theirs)
    np.testing.assert_allclose(
        later.values(epochs=3, steps_per_epoch=5)[5:], expected[:10], rtol=1e-6
    )


@pytest.mark.parametrize("name", ["CosineDecayRestarts", "PiecewiseConstantDecay", "own"])
def test_a_keras_schedule_drives_a_fit_as_it_would_from_the_optimizer(name):
    theirs = KERAS[name]()
    expected = np.float32([float(theirs(step)) for step in range(15)])
    rates = fit(meter(), Function(theirs), epochs=3)
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


@pytest.mark.parametrize("name", KERAS)
def test_history_records_the_schedule_of_the_optimizer(name):
    if name == "own" and keras.backend.backend() != "torch":
        pytest.skip("a compiled step cannot ask Python questions")
    theirs = KERAS[name]()
    history = LRHistory()
    rates = fit(meter(learning_rate=theirs), history, epochs=3)
    np.testing.assert_allclose(history.learning_rate, rates, rtol=1e-6)
    assert rates[0] == np.float32(float(theirs(0)))


def test_an_adapter_of_a_schedule_that_is_in_the_graph():
    rate = LinearDecay(1.0).in_graph(epochs=1, steps_per_epoch=4)
    assert Function(rate).values(epochs=1, steps_per_epoch=4).tolist() == [1, 0.75, 0.5, 0.25]


NUMBERS = {
    "float32": np.float32,
    "array": np.asarray,
    "array-of-one": lambda value: np.array([value]),
    "array-of-one-by-one": lambda value: np.array([[value]]),
    "tensor": keras.ops.convert_to_tensor,
    "tensor-of-one": lambda value: keras.ops.convert_to_tensor([value]),
    "variable": keras.Variable,
    "decimal": decimal.Decimal,
    "fraction": fractions.Fraction,
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_function_may_return_whatever_is_one_number(name):
    number = NUMBERS[name]
    by_epoch = Function(lambda epoch: number(0.5 / 2**epoch))
    assert fit(meter(), by_epoch, epochs=2).tolist() == [0.5] * 5 + [0.25] * 5
    by_rate = Function(lambda epoch, rate: number(rate / 2), initial_lr=1.0)
    assert fit(meter(), by_rate, epochs=2).tolist() == [0.5] * 5 + [0.25] * 5


@pytest.mark.parametrize(
    "value", ["0.1", b"0.1", [0.1], (0.1,), np.array([0.1, 0.2]), np.array([]), 1j, {}, "nan", math]
)
def test_what_is_not_one_number_is_refused(value):
    with pytest.raises(ValueError, match=r"must return a finite rate.* at epoch 0"):
        Function(lambda epoch: value).values(epochs=1, steps_per_epoch=1)
