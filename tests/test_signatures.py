"""Names, arguments and defaults of the shapes and rules, which callers and configs rely on."""

import dataclasses
import inspect
from typing import Annotated

import numpy as np
import pytest

import keras_lr
from keras_lr import Schedule
from keras_lr.schedules import ListOf, Number, Rate, schedule


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("Constant", "(lr)"),
        ("PiecewiseConstant", "(boundaries, values)"),
        ("StepDecay", "(initial_lr, factor=0.5, every=10, final_lr=None)"),
        ("LinearDecay", "(initial_lr, final_lr=0.0, over='rest', endpoint=False)"),
        ("PolynomialDecay", "(initial_lr, final_lr=0.0, power=2.0, over='rest', endpoint=False)"),
        ("TimeDecay", "(initial_lr, rate, every=1, compounding=False)"),
        ("ExponentialDecay", "(initial_lr, factor=0.96, every=1, final_lr=None)"),
        ("InverseSqrtDecay", "(initial_lr, timescale)"),
        ("CosineDecay", "(initial_lr, final_lr=0.0, over='rest', endpoint=False)"),
        (
            "TriangularCLR",
            "(base_lr, max_lr, step_size=4, mode='triangular', gamma=1.0, step_size_down=None, "
            "scale=None, scale_by='cycle', momentum=None)",
        ),
        (
            "CosineRestarts",
            "(initial_lr, final_lr=0.0, first_cycle=10, cycle_mult=2.0, lr_mult=1.0, "
            "highest_lr=None)",
        ),
        (
            "OneCycle",
            "(max_lr, over='rest', warmup='30%', div=25.0, final_div=10000.0, "
            "momentum=(0.85, 0.95), shape='cosine', endpoint=False)",
        ),
        (
            "HypergradientDescent",
            "(beta=0.1, rule='normalised', min_lr=1e-08, max_lr=None, state_path=None)",
        ),
        ("DistanceOverGradients", "(initial_distance=1e-06, layer_wise=False, state_path=None)"),
        (
            "Prodigy",
            "(d0=1e-06, d_coef=1.0, growth_rate=None, safeguard_warmup=True, state_path=None)",
        ),
        ("WarmupStableDecay", "(max_lr, warmup='5%', decay='20%', shape='linear')"),
    ],
)
def test_names_arguments_and_defaults(name, signature):
    parameters = inspect.signature(getattr(keras_lr, name)).parameters.values()
    shown = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters]
    assert f"({', '.join(shown)})" == signature


@pytest.mark.parametrize(
    ("name", "written", "meant"),
    [
        ("CosineDecay", "lr", "initial_lr"),
        ("OneCycle", "warm_up", "warmup"),
        ("Sequence", "stage", "stages"),
        ("ReduceLROnPlateau", "patince", "patience"),
        ("LRRangeTest", "min_rate", "min_lr"),
        ("LRHistory", "statepath", "state_path"),
        ("LayerRates", "defaults", "default"),
        ("LayerDecay", "block", "blocks"),
        ("Prodigy", "d", "d0"),
        ("LRSweep", "optimisers", "optimizers"),
        ("RayEngine", "worker", "workers"),
    ],
)
def test_an_unknown_argument_is_refused_with_the_one_that_was_meant(name, written, meant):
    words = rf"{name}: unknown argument `{written}`. Received: {written}=3. Did you mean `{meant}`"
    with pytest.raises(TypeError, match=words):
        getattr(keras_lr, name)(**{written: 3})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CosinDecay", "CosineDecay"),
        ("CosineAnnealingLR", "CosineDecay"),
        ("CosineDecayRestarts", "CosineRestarts"),
        ("LambdaLR", "Function"),
        ("LearningRateScheduler", "Function"),
        ("from_confg", "from_config"),
    ],
)
def test_a_name_that_is_not_there_is_answered_by_the_one_that_was_meant(name, meant):
    hint = rf"\. Did you mean `{meant}`\?"
    with pytest.raises(AttributeError, match=f"no attribute '{name}'{hint}"):
        getattr(keras_lr, name)
    with pytest.raises(ImportError, match=f"cannot import name '{name}' from 'keras_lr'{hint}"):
        exec(f"from keras_lr import {name}")
    assert not hasattr(keras_lr, name)


def test_submodules_are_imported_and_other_names_are_not_there():
    exec("from keras_lr import cli, compose, _hints")
    with pytest.raises(ImportError, match="cannot import name 'zzz'"):
        exec("from keras_lr import zzz")
    with pytest.raises(AttributeError, match=r"no attribute 'zzz'$"):
        keras_lr.zzz  # noqa: B018


def test_the_whole_package_says_what_it_takes():
    """Every public class refuses an argument that it does not know."""
    for name in keras_lr.__all__:
        cls = getattr(keras_lr, name)
        if inspect.isclass(cls) and name not in ("Schedule", "UnresolvedLength", "Timeline"):
            with pytest.raises((TypeError, ValueError)):
                cls(no_such_argument=1)


@schedule
class LayerWise(Schedule):
    """A schedule with a field of each kind that dataclasses have."""

    lr: Rate
    _: dataclasses.KW_ONLY
    factors: Annotated[tuple[float, ...], ListOf(Number())] = dataclasses.field(
        default_factory=lambda: (1.0, 0.5)
    )

    def value(self, step, timeline):
        return self.lr * np.take(self.factors, step.astype(int) % len(self.factors))


def test_a_schedule_of_your_own_may_have_keyword_only_fields_and_made_defaults():
    assert LayerWise(0.2).values(epochs=1, steps_per_epoch=2).tolist() == [0.2, 0.1]
    assert LayerWise(0.2) == LayerWise(0.2, factors=[1, 0.5]) != LayerWise(0.2, factors=[1])
    assert dataclasses.replace(LayerWise(0.2), lr=0.4)(1) == 0.2


@schedule
class Halved(Schedule):
    """A schedule with a constructor of its own."""

    lr: Rate

    def __init__(self, twice_the_rate: float) -> None:
        self.lr = twice_the_rate / 2
        self.__post_init__()

    def value(self, step, timeline):
        return np.full(step.shape, self.lr)


def test_a_constructor_of_your_own_stays():
    assert Halved(0.2)(0) == 0.1
