"""Random compositions: the weights of a fit move by what a formula written here says.

Each composition is made together with a plain function of the step, so that neither the record nor
`Schedule.values` is believed. More of them: ``KERAS_LR_COMPOSITIONS=2000 pytest ...``.
"""

import math
import os
import random

import numpy as np
import pytest
from models import fit, meter
from selection import mostly_full

from keras_lr import (
    Constant,
    CosineDecay,
    ExponentialDecay,
    InverseSqrtDecay,
    LinearDecay,
    PiecewiseConstant,
    StepDecay,
    TriangularCLR,
)

pytestmark = pytest.mark.core

COUNT = int(os.environ.get("KERAS_LR_COMPOSITIONS", 60))
GROUPS = 10
EPOCHS, STEPS = 3, 7
RAMPS = {
    "linear": lambda w: w,
    "cosine": lambda w: (1 - math.cos(math.pi * w)) / 2,
    "sqrt": math.sqrt,
    "square": lambda w: w * w,
}


class Composer:
    """Makes schedules and, beside each, the function from a step to the rate that it stands for."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def rate(self):
        return round(10 ** self.random.uniform(-3, 0), 4)

    def steps(self):
        return self.random.randint(1, EPOCHS * STEPS)

    def compose(self, depth):
        """Return a schedule nested at most ``depth`` deep, and its function."""
        if depth == 0:
            return self.random.choice([getattr(self, name) for name in SHAPES])()
        return self.random.choice([getattr(self, name) for name in OPERATORS])(depth - 1)

    # Shapes

    def constant(self):
        rate = self.rate()
        return Constant(rate), lambda t: rate

    def line(self):
        first, last, over = self.rate(), self.rate(), self.steps()
        schedule = LinearDecay(first, last, over=f"{over} steps")
        return schedule, lambda t: first + (last - first) * min(t / over, 1)

    def line_to_the_last_update(self):
        first, last, count = self.rate(), self.rate(), 1 + self.steps()
        schedule = LinearDecay(first, last, over=f"{count} steps", endpoint=True)
        return schedule, lambda t: first + (last - first) * min(t / (count - 1), 1)

    def growth(self):
        first, factor, every = self.rate(), self.random.uniform(1.1, 3), self.steps()
        last = first * self.random.uniform(1, 5)
        schedule = ExponentialDecay(first, factor, every=f"{every} steps", final_lr=last)
        return schedule, lambda t: min(first * factor ** (t / every), last)

    def cosine(self):
        first, last, over = self.rate(), self.rate(), self.steps()
        schedule = CosineDecay(first, last, over=f"{over} steps")
        return (
            schedule,
            lambda t: last + (first - last) * (1 + math.cos(math.pi * min(t / over, 1))) / 2,
        )

    def exponential(self):
        first, factor, every = self.rate(), self.random.uniform(0.3, 0.99), self.steps()
        schedule = ExponentialDecay(first, factor, every=f"{every} steps")
        return schedule, lambda t: first * factor ** (t / every)

    def stairs(self):
        first, factor, every = self.rate(), self.random.uniform(0.3, 0.99), self.steps()
        schedule = StepDecay(first, factor, every=f"{every} steps")
        return schedule, lambda t: first * factor ** (t // every)

    def root(self):
        first, scale = self.rate(), self.steps()
        schedule = InverseSqrtDecay(first, timescale=f"{scale} steps")
        return schedule, lambda t: first * (scale / (scale + t)) ** 0.5

    def pieces(self):
        ends = sorted(self.random.sample(range(1, EPOCHS * STEPS), 2))
        rates = [self.rate() for _ in range(3)]
        schedule = PiecewiseConstant([f"{end} steps" for end in ends], rates)
        return schedule, lambda t: rates[sum(t >= end for end in ends)]

    def triangles(self):
        low, size = self.rate(), self.steps()
        high = low + self.rate()
        schedule = TriangularCLR(low, high, step_size=f"{size} steps")
        return schedule, lambda t: low + (high - low) * (1 - abs(t % (2 * size) / size - 1))

    # Operators

    def sequence(self, depth):
        (first, f), (then, g) = self.compose(depth), self.compose(depth)
        size = self.steps()
        return first.lasting(f"{size} steps") >> then, lambda t: f(t) if t < size else g(t - size)

    def warmup(self, depth):
        (then, f), over, start = self.compose(depth), self.steps(), self.rate()
        shape, ramp = self.random.choice(list(RAMPS.items()))
        shift = self.random.choice([True, False])
        schedule = then.warmup(f"{over} steps", start, shape, shift)

        def rate(t):
            if t < over:
                return start + (f(0) - start) * ramp(t / over)
            return f(t - over if shift else t)

        return schedule, rate

    def scaled(self, depth):
        (inner, f), factor = self.compose(depth), self.random.uniform(0.1, 2)
        return factor * inner, lambda t: factor * f(t)

    def product(self, depth):
        (first, f), (second, g) = self.compose(depth), self.compose(depth)
        return first * second, lambda t: f(t) * g(t)

    def clipped(self, depth):
        (inner, f), (low, high) = self.compose(depth), sorted((self.rate(), self.rate()))
        return inner.clip(low, high), lambda t: min(max(f(t), low), high)

    def repeated(self, depth):
        (inner, f), size, scale = self.compose(depth), self.steps(), self.random.uniform(0.5, 1)
        schedule = inner.lasting(f"{size} steps").repeat(EPOCHS * STEPS, scale=scale)
        return schedule, lambda t: scale ** (t // size) * f(t % size)


SHAPES = ["constant", "line", "cosine", "exponential", "stairs", "root", "pieces", "triangles"]
SHAPES += ["line_to_the_last_update", "growth"]
OPERATORS = ["sequence", "warmup", "scaled", "product", "clipped", "repeated"]


@pytest.mark.parametrize("group", mostly_full(range(GROUPS), range(3)))
def test_weights_move_by_the_rates_of_random_compositions(group):
    model = meter(STEPS)
    for seed in range(group, COUNT, GROUPS):
        composer = Composer(seed)
        schedule, rate = composer.compose(composer.random.randint(1, 5))
        expected = np.array([rate(step) for step in range(EPOCHS * STEPS)])
        if composer.random.random() < 0.3:
            schedule = schedule.per_epoch()
            expected = expected.reshape(EPOCHS, STEPS)[:, [0] * STEPS].ravel()
        moved = fit(model, schedule, epochs=EPOCHS)
        np.testing.assert_allclose(moved, expected, rtol=3e-6, atol=1e-9, err_msg=repr(schedule))
