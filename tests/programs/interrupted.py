"""Interrupts fits and range tests at random moments, as Ctrl-C does, and says what was left.

Usage: interrupted.py TIMES

Every gradient is 1, so that the state after each number of steps is known: what is left must be one
of these, and a fit must continue from it.
"""

import functools
import json
import random
import signal
import sys
import time

import keras
import numpy as np
from models import COMPILE

from keras_lr import LinearDecay, LRHistory, LRRangeTest, ParamScheduler, ReduceLROnPlateau

EPOCHS, STEPS, RATE, MOMENTUM = 3, 30, 0.125, 0.5
UNCOMPILED = keras.backend.backend() == "torch"
"""Whether Python, and so an interruption, can come between the operations of one update."""
FRAGILE = keras.backend.backend() == "tensorflow"
"""Whether an exception in the backend's own Python code can corrupt the memory of the process."""
X = np.ones((STEPS, 1), "float32")
RATES = np.linspace(1.0, 0.1, EPOCHS * STEPS, endpoint=False)
MOMENTA = np.linspace(0.9, 0.3, EPOCHS * STEPS, endpoint=False)


def build(**options):
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    model.compile(
        keras.optimizers.SGD(RATE, momentum=MOMENTUM),
        lambda y, p: keras.ops.mean(p),
        **COMPILE | options,
    )
    return model


def callbacks():
    falling = ParamScheduler(learning_rate=LinearDecay(1.0, 0.1), momentum=LinearDecay(0.9, 0.3))
    return [falling, LRHistory()]


def fit(model, some, **options):
    model.fit(X, X, batch_size=1, epochs=EPOCHS, verbose=0, callbacks=some, **options)


def state(model):
    """Return the weight, its velocity, the rate and the number of steps."""
    optimizer = model.optimizer
    (momentum,) = (v for v in optimizer.variables if v.path.endswith("momentum"))
    values = [model.trainable_variables[0], momentum, optimizer.learning_rate, optimizer.iterations]
    return [float(np.ravel(keras.ops.convert_to_numpy(v))[0]) for v in values]


def follow(weight, velocity, rates, momenta):
    """Return the weight and its velocity before each step and after the last."""
    states = [(weight, velocity)]
    for rate, momentum in zip(rates, momenta, strict=True):
        velocity = momentum * velocity - rate
        weight += velocity
        states.append((weight, velocity))
    return np.array(states)


def interrupt(function, seconds):
    """Run a function for some time and return whether it was interrupted."""

    def stop(number, frame):
        if FRAGILE and "keras" not in frame.f_code.co_filename:
            signal.setitimer(signal.ITIMER_REAL, 1e-5)
        else:
            raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        function()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        if UNCOMPILED:
            # An interruption can leave PyTorch's own `no_grad` switched on.
            import torch

            torch.set_grad_enabled(True)
        return True
    return False


def duration(function):
    function()
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def check_fits(times, moments, problems):
    """Interrupt fits of one model, each of which continues from what the one before left."""
    model = build()
    seconds = duration(functools.partial(fit, model, callbacks()))
    left = state(model)
    while times:
        weight, velocity, _, before = left
        run = functools.partial(fit, model, callbacks())
        times -= interrupt(run, moments.uniform(0, seconds))
        left = state(model)
        steps = round(left[3] - before)
        known = follow(weight, velocity, RATES, MOMENTA)[steps : steps + 1 + UNCOMPILED]
        if UNCOMPILED and steps < len(MOMENTA):
            known = np.append(known, known[:1] * [[1, MOMENTA[steps]]], axis=0)
        if not np.isclose(known, left[:2], rtol=1e-4, atol=1e-4).any(axis=0).all():
            problems.append(f"after {steps} steps: {left[:2]}, not {known.tolist()}")
        if not np.isclose([*RATES, RATE], left[2], rtol=1e-5).any():
            problems.append(f"after {steps} steps: a rate of {left[2]}")
        if model.optimizer.momentum != MOMENTUM:
            problems.append(f"after {steps} steps: a momentum of {model.optimizer.momentum}")
        fit(model, [])
        constant = [left[2]] * EPOCHS * STEPS, [MOMENTUM] * EPOCHS * STEPS
        expected = follow(*left[:2], *constant)[-1]
        left = state(model)
        if not np.allclose(left[:2], expected, rtol=1e-4, atol=1e-3):
            problems.append(f"a fit without callbacks: {left[:2]}, not {expected.tolist()}")


def check_constant_rates(times, moments, problems):
    """Interrupt fits whose rate stays, with several steps per execution, and their evaluations."""
    some = [
        lambda: [LRHistory()],
        lambda: [ReduceLROnPlateau("loss", patience=100)],
        lambda: [LRRangeTest(min_lr=1e-3, max_lr=1.0, steps=10, budget=60, verbose=0)],
    ]
    models = [build(), build(steps_per_execution=4)]
    kinds = [(model, callbacks) for callbacks in some for model in models]
    validated = functools.partial(fit, validation_data=(X, X))
    lasts = [duration(functools.partial(validated, model, make())) for model, make in kinds]
    for index in range(times):
        kind = index % len(kinds)
        model, make = kinds[kind]
        weight, velocity, rate, before = state(model)
        run = functools.partial(validated, model, make())
        interrupt(run, moments.uniform(0, lasts[kind]))
        left = state(model)
        steps = round(left[3] - before)
        known = follow(weight, velocity, [rate] * steps, [MOMENTUM] * steps)
        if not np.allclose(known[-1], left[:2], rtol=1e-4, atol=1e-3):
            problems.append(f"{index}: after {steps} steps: {left}, not {known[-1].tolist()}")
        fit(model, [])
        if state(model)[3] - left[3] != EPOCHS * STEPS:
            problems.append(f"{index}: a fit of {state(model)[3] - left[3]} steps")


def check_range_tests(times, moments, problems):
    """Interrupt range tests, which must leave the model as it was."""
    model = build()

    def measure():
        LRRangeTest(steps=30, budget=60, verbose=0).run(model, X, X, batch_size=1)

    seconds = duration(measure)
    while times:
        before = state(model)
        times -= interrupt(measure, moments.uniform(0, seconds))
        left = state(model)
        if left != before or model.optimizer.momentum != MOMENTUM:
            problems.append(f"range test: {left}, not {before}")
        fit(model, [])


if __name__ == "__main__":
    problems, moments = [], random.Random(0)
    check_range_tests(int(sys.argv[1]), moments, problems)
    check_fits(int(sys.argv[1]), moments, problems)
    if keras.backend.backend() == "jax":  # whose steps use up the state
        check_constant_rates(int(sys.argv[1]), moments, problems)
    print(json.dumps({"problems": problems}))
