"""One object of every kind that a config can hold, and what the tests of configs share."""

import json
from pathlib import Path
from typing import Annotated

import jsonschema
import keras
import numpy as np
import pytest
import tomli_w
import yaml
from shapes import SHAPES, by_epoch, by_epoch_and_lr, one_over

import keras_lr
from keras_lr import (
    ConfigError,
    Constant,
    DistanceOverGradients,
    Function,
    HypergradientDescent,
    LayerRates,
    LinearDecay,
    LRHistory,
    LRRangeTest,
    OneCycle,
    ParamScheduler,
    Prodigy,
    ReduceLROnPlateau,
    Schedule,
    StepDecay,
    from_config,
    register,
)
from keras_lr._fields.kinds import Optional, PositiveRate, Text
from keras_lr.config.schema import schema
from keras_lr.schedules.base import schedule

register(by_epoch)
register(by_epoch_and_lr)
register(one_over)
register("renamed")(lambda epoch: 0.1)

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.*"))
FORMATS = ["yaml", "yml", "toml", "json"]


@register
@schedule
class Own(Schedule):
    """A schedule of a user.

    Args:
        lr: The rate.
        note: Anything.
    """

    lr: PositiveRate
    note: Annotated[str | None, Optional(Text())] = "all"

    def value(self, step, timeline):
        return np.full(step.shape, self.lr)


@register("own_keras")
class OwnKeras(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, rate=0.1):
        self.rate = rate

    def __call__(self, step):
        return keras.ops.convert_to_tensor(self.rate)

    def get_config(self):
        return {"rate": self.rate}


OTHERS = {
    "plateau": ReduceLROnPlateau(),
    "plateau-changed": ReduceLROnPlateau(
        "loss", 0.5, "20 steps", mode="max", min_delta=-1e-20, increase=1.5, state_path="a b/ü.json"
    ),
    "plateau-that-waits": ReduceLROnPlateau(start_after="warmup"),
    "range-test": LRRangeTest(),
    "range-test-changed": LRRangeTest(1e-5, 2, "2 epochs", rule="slide", validate_every=3),
    "range-test-in-a-fit": LRRangeTest(
        every="10 epochs", auto=LinearDecay(1.0).warmup("5%"), state_path="test.json"
    ),
    "parameters": ParamScheduler(
        optimizer="generator_optimizer",
        momentum=LinearDecay(0.95, 0.85),
        learning_rate=OneCycle(0.1),
    ),
    "layers": LayerRates(
        {"backbone/.*": 0.1, "head": Constant(0.0).lasting(2) >> Constant(1.0)},
        default=LinearDecay(1.0),
        optimizer="generator_optimizer",
    ),
    "layers-by-depth": LayerRates.decay(0.75, r"block_?(\d+)", optimizer="encoder"),
    "layers-thawed": LayerRates.thaw(
        ["head", "block_2", "block_1"], every="100 steps", optimizer="decoder"
    ),
    "hypergradient": HypergradientDescent(),
    "hypergradient-changed": HypergradientDescent(
        beta=1e-4, rule="additive", min_lr=1e-5, max_lr=0.5, state_path="state.json"
    ),
    "distance": DistanceOverGradients(initial_distance=1e-4, layer_wise=True),
    "prodigy": Prodigy(d0=1e-5, d_coef=2.0, growth_rate=1.02, safeguard_warmup=False),
    "history": LRHistory("record.npz"),
    "none-where-the-default-is-not": OneCycle(0.1, momentum=None),
    "keras": Function(
        keras.optimizers.schedules.PiecewiseConstantDecay((5, 10), (0.1, 0.01, 1e-3), name="x")
    ),
    "keras-cosine": Function(
        keras.optimizers.schedules.CosineDecay(0.0, 100, warmup_target=0.1, warmup_steps=10)
    ),
    "own": Own(0.2, "x"),
    "own-keras": Function(OwnKeras(0.3)),
    "renamed": Function(keras_lr.config.registry.functions()["renamed"]),
    "text-like-a-number": ReduceLROnPlateau("1e5", mode="min"),
    "text-like-a-flag": ReduceLROnPlateau("yes", mode="min"),
    "text-like-nothing": ReduceLROnPlateau("null", mode="min"),
    "text-like-none": ReduceLROnPlateau("none", mode="min"),
    "text-with-signs": ReduceLROnPlateau(": #\"'\n\t{%}", mode="min"),
    "length-with-signs": StepDecay(0.1, every="1_000 steps"),
    "tiny": Constant(5e-324),
    "huge": Constant(3.4028234663852886e38),
}
ALL = {name: shape.make() for name, shape in SHAPES.items()} | OTHERS


def write(path, data):
    texts = {".json": json.dumps, ".toml": tomli_w.dumps}
    path.write_text(texts.get(path.suffix, yaml.safe_dump)(data), encoding="utf-8")
    return path


def refused(call, *arguments):
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    return caught.value


def attempt(call, argument):
    """Return what a call gives, or the error that it may raise."""
    try:
        return call(argument), None
    except ConfigError as error:
        return None, error


def bad(callbacks):
    """Return the errors of a list of callbacks by their path."""
    return dict(problem[:2] for problem in refused(from_config, {"callbacks": callbacks}).problems)


validator = jsonschema.Draft202012Validator(schema())
