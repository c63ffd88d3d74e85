"""Bad arguments of schedules: what was wrong, the value received, and what to pass instead."""

import inspect
import math
import re

import numpy as np
import pytest
from shapes import SHAPES

import keras_lr
from keras_lr import (
    Constant,
    CosineDecay,
    CosineRestarts,
    ExponentialDecay,
    Function,
    InverseSqrtDecay,
    LinearDecay,
    OneCycle,
    PiecewiseConstant,
    PolynomialDecay,
    Schedule,
    StepDecay,
    TimeDecay,
    TriangularCLR,
    UnresolvedLength,
    WarmupStableDecay,
)
from keras_lr._fields.kinds import Rate
from keras_lr.schedules.base import schedule

# One valid value for every argument of every shape; `KIND` says what else each may be.
VALID = {
    Constant: {"lr": 0.1},
    PiecewiseConstant: {"boundaries": [1, 2], "values": [0.3, 0.2, 0.1]},
    StepDecay: {"initial_lr": 0.1, "factor": 0.5, "every": 2, "final_lr": None},
    LinearDecay: {"initial_lr": 0.1, "final_lr": 0.01, "over": 2, "endpoint": True},
    PolynomialDecay: {"initial_lr": 0.1, "final_lr": 0.01, "power": 2.0, "over": 2}
    | {"endpoint": True},
    TimeDecay: {"initial_lr": 0.1, "rate": 0.5, "every": 1, "compounding": True},
    ExponentialDecay: {"initial_lr": 0.1, "factor": 0.5, "every": 1, "final_lr": None},
    InverseSqrtDecay: {"initial_lr": 0.1, "timescale": 3},
    CosineDecay: {"initial_lr": 0.1, "final_lr": 0.01, "over": 2, "endpoint": True},
    TriangularCLR: {"base_lr": 0.01, "max_lr": 0.1, "step_size": 2}
    | {"mode": "exp_range", "gamma": 0.9, "step_size_down": 3, "scale": None}
    | {"scale_by": "step", "momentum": (0.85, 0.95)},
    CosineRestarts: {"initial_lr": 0.1, "final_lr": 0.01, "first_cycle": 2}
    | {"cycle_mult": 2.0, "lr_mult": 0.5, "highest_lr": None},
    OneCycle: {"max_lr": 0.1, "over": 9, "warmup": 2, "div": 25.0, "final_div": 10.0}
    | {"momentum": (0.85, 0.95), "shape": "cosine", "endpoint": True},
    WarmupStableDecay: {"max_lr": 0.1, "warmup": 1, "decay": 2, "shape": "sqrt"},
}


KIND = {
    "length": ("over",),
    "own length": ("every", "timescale", "step_size", "first_cycle"),
    "own length of a part": ("warmup", "decay"),
    "optional length": ("step_size_down",),
    "rate": ("final_lr", "base_lr", "lr", "highest_lr"),
    "factor": ("factor", "gamma", "lr_mult"),
    "positive": ("max_lr", "rate", "power"),
    "at least one": ("div", "final_div", "cycle_mult"),
    "word": ("mode", "shape", "scale_by"),
}


# Some integers are too large for a float.
NOT_FINITE = [math.nan, math.inf, -math.inf, np.float32("nan"), 10**400, -(10**400)]


WRONG = {
    "length": [0, -1, "5 bananas", "-3 epochs", "0%", "101%", "", *NOT_FINITE],
    "own length": ["rest", 0, -1, "5 bananas", "0 steps", "101%", *NOT_FINITE],
    "own length of a part": ["rest", -1, "5 bananas", "-1 steps", "101%", *NOT_FINITE],
    "optional length": ["rest", 0, -1, "5 bananas", *NOT_FINITE],
    "rate": [-0.1, -1, *NOT_FINITE],
    "factor": [0, -0.5, 1.5, *NOT_FINITE],
    "positive": [0, -0.1, *NOT_FINITE],
    "at least one": [0, 0.99, -1, *NOT_FINITE],
    "word": ["", "linaer", "COSINE", None, 3],
}
NO_NUMBER = ["0.1", True, [0.1], {}, 1j, object]
NO_LENGTH = [True, [1], {}, 1j, object]


def cases():
    """Yield a class, an argument, a wrong value and the error it must raise."""
    kind_of = {argument: kind for kind, arguments in KIND.items() for argument in arguments}
    ramps = (LinearDecay, PolynomialDecay, CosineDecay)
    for cls, valid in VALID.items():
        for argument in valid:
            kind = kind_of.get(argument)
            if argument == "initial_lr":
                kind = "rate" if cls in ramps else "positive"
            if kind is None:
                continue
            for value in WRONG[kind]:
                yield cls, argument, value, ValueError
            if "length" in kind:
                none = [] if "optional" in kind else [None]
                for value in NO_LENGTH + none:
                    yield cls, argument, value, TypeError
            elif kind != "word":
                none = [] if valid[argument] is None else [None]
                for value in NO_NUMBER + none:
                    yield cls, argument, value, TypeError


def check(error, cls, argument, value):
    """Make sure that an error names the class, the argument, what it must be and what it got."""
    text = str(error)
    assert text.startswith(f"{cls.__name__}: argument `{argument}` must be ")
    assert f"Received: {argument}=" in text
    assert repr(value) in text or repr(tuple(value)) in text
    said = text.removeprefix(f"{cls.__name__}: argument `{argument}` must be ").split(". Rec")[0]
    assert re.search(r"number|length|share|one of|list|True|schedule|fn\(", said)


def test_every_argument_of_every_shape_is_tried():
    tried = {(cls, argument) for cls, argument, *_ in cases()}
    elsewhere = {"boundaries", "values", "momentum", "compounding", "endpoint", "scale"}
    assert tried == {
        (cls, name)
        for cls in VALID
        for name in inspect.signature(cls).parameters
        if name not in elsewhere
    }
    shapes = {type(shape.make()) for name, shape in SHAPES.items() if "-" not in name}
    operators = {type(shape.make()) for name, shape in list(SHAPES.items())[-20:]}
    assert shapes - operators <= set(VALID) | {Function}


def test_wrong_values():
    for cls, argument, value, kind in cases():
        with pytest.raises(kind) as caught:
            cls(**VALID[cls] | {argument: value})
        check(caught.value, cls, argument, value)


@pytest.mark.parametrize(
    ("cls", "argument", "value"),
    [
        (TimeDecay, "compounding", 1),
        (TimeDecay, "compounding", "yes"),
        (TimeDecay, "compounding", None),
        (CosineDecay, "endpoint", 1),
        (OneCycle, "endpoint", "yes"),
        (PiecewiseConstant, "boundaries", 3),
        (PiecewiseConstant, "boundaries", "3 steps"),
        (PiecewiseConstant, "boundaries", [1, None]),
        (PiecewiseConstant, "values", 0.1),
        (PiecewiseConstant, "values", [0.3, "0.2", 0.1]),
        (OneCycle, "momentum", 0.9),
        (OneCycle, "momentum", ["0.8", 0.9]),
        (TriangularCLR, "momentum", 0.9),
        (TriangularCLR, "scale", 0.5),
        (TriangularCLR, "scale", "triangular2"),
        (TriangularCLR, "scale", dict),
        (TriangularCLR, "scale", lambda: 1.0),
        (TriangularCLR, "scale", lambda cycle, lr: 1.0),
    ],
)
def test_wrong_types_in_lists_and_flags(cls, argument, value):
    with pytest.raises(TypeError) as caught:
        cls(**VALID[cls] | {argument: value})
    check(caught.value, cls, argument, value)


@pytest.mark.parametrize(
    ("cls", "argument", "value"),
    [
        (PiecewiseConstant, "boundaries", [2, 1]),
        (PiecewiseConstant, "boundaries", [1, 1]),
        (PiecewiseConstant, "boundaries", [0, 1]),
        (PiecewiseConstant, "boundaries", [1, "rest"]),
        (PiecewiseConstant, "boundaries", [1, "5 bananas"]),
        (PiecewiseConstant, "values", []),
        (PiecewiseConstant, "values", [0.1, 0.2, -0.3]),
        (PiecewiseConstant, "values", [0.1, 0.2, math.nan]),
        (TriangularCLR, "momentum", (0.85,)),
        (TriangularCLR, "momentum", (0.85, 1.0)),
        (OneCycle, "momentum", (0.85,)),
        (OneCycle, "momentum", (0.8, 0.9, 0.95)),
        (OneCycle, "momentum", (0.85, 1.0)),
        (OneCycle, "momentum", (-0.1, 0.9)),
        (OneCycle, "momentum", (math.nan, 0.9)),
    ],
)
def test_wrong_values_in_lists(cls, argument, value):
    with pytest.raises(ValueError, match="must be") as caught:
        cls(**VALID[cls] | {argument: value})
    check(caught.value, cls, argument, value)


@pytest.mark.parametrize("values", [[0.1], [0.1, 0.2], [0.1] * 4])
def test_as_many_values_as_boundaries_and_one(values):
    with pytest.raises(ValueError, match=r"`values` must be 3 rates for 2 boundaries.*values=\("):
        PiecewiseConstant([1, 2], values)


def test_the_peak_is_above_the_base():
    words = r"TriangularCLR: argument `max_lr` must be at least base_lr=0.1. Received: max_lr=0.01"
    with pytest.raises(ValueError, match=words):
        TriangularCLR(base_lr=0.1, max_lr=0.01)
    assert TriangularCLR(0.1, 0.1).max_lr == 0.1


@pytest.mark.parametrize(
    ("value", "near"), [("triangluar2", "triangular2"), ("exp-range", "exp_range")]
)
def test_a_misspelt_word_is_answered_by_the_nearest(value, near):
    with pytest.raises(ValueError, match=rf"one of 'triangular', .* \(did you mean '{near}'\?\)"):
        TriangularCLR(0.01, 0.1, mode=value)


@pytest.mark.parametrize("cls", VALID, ids=lambda cls: cls.__name__)
def test_a_misspelt_keyword_is_answered_by_the_nearest(cls):
    for argument in VALID[cls]:
        misspelt = argument[:-1] + "x" + argument[-1:]
        options = {name: value for name, value in VALID[cls].items() if name != argument}
        with pytest.raises(TypeError, match=f"unknown argument `{misspelt}`") as caught:
            cls(**options, **{misspelt: 3})
        text = str(caught.value)
        assert f"Received: {misspelt}=3." in text
        assert f"Did you mean `{argument}`?" in text
        assert f"Known: {', '.join(VALID[cls])}" in text


@pytest.mark.parametrize(
    ("cls", "written", "meant"),
    [
        (CosineDecay, "lr", "initial_lr"),
        (CosineDecay, "learning_rate", "initial_lr"),
        (CosineDecay, "min_lr", "final_lr"),
        (OneCycle, "lr", "max_lr"),
        (TriangularCLR, "size", "step_size"),
    ],
)
def test_a_part_of_a_name_is_answered_by_the_name(cls, written, meant):
    """In the words that configs have, too."""
    with pytest.raises(TypeError) as of_constructor:
        cls(**{written: 0.1})
    with pytest.raises(keras_lr.ConfigError) as of_config:
        keras_lr.from_config({cls.__name__: {written: 0.1}})
    for error in (of_constructor.value, of_config.value):
        assert f"Did you mean `{meant}`? Known: {', '.join(VALID[cls])}" in str(error)


@pytest.mark.parametrize(
    ("cls", "written", "hint"),
    [
        (OneCycle, "pct_start", "`warmup`, such as warmup='30%'?"),
        (OneCycle, "warmup_steps", "`warmup`, such as warmup='2000 steps'?"),
        (OneCycle, "total_steps", "`over`, such as over='2000 steps'?"),
        (StepDecay, "step_size", "`every`?"),
        (StepDecay, "gamma", "`factor`?"),
        (CosineDecay, "T_max", "`over`?"),
        (CosineDecay, "eta_min", "`final_lr`?"),
        (CosineDecay, "alpha", "`final_lr`, a rate and not a share of the first one?"),
        (CosineRestarts, "T_mult", "`cycle_mult`?"),
        (TimeDecay, "decay_rate", "`rate`?"),
        (TimeDecay, "decay_steps", "`every`, such as every='2000 steps'?"),
        (Constant, "learning_rate", "`lr`?"),
    ],
)
def test_an_argument_of_other_libraries_is_answered_by_the_name_here(cls, written, hint):
    with pytest.raises(TypeError, match=re.escape(f"Did you mean {hint}")):
        cls(**{written: 0.1})
    with pytest.raises(keras_lr.ConfigError, match=re.escape(f"Did you mean {hint}")):
        keras_lr.from_config({cls.__name__: {written: 0.1}})


def test_a_keyword_that_is_like_none_lists_the_known():
    with pytest.raises(
        TypeError, match=r"`verbose`. Received: verbose=1. Known: initial_lr, final"
    ):
        CosineDecay(0.1, verbose=1)


@pytest.mark.parametrize("cls", VALID, ids=lambda cls: cls.__name__)
def test_a_missing_or_extra_argument_names_the_class(cls):
    name, first = cls.__name__, next(iter(VALID[cls]))
    with pytest.raises(TypeError, match=f"{name}: missing a required argument: '{first}'"):
        cls()
    with pytest.raises(TypeError, match=f"{name}: too many positional arguments"):
        cls(*range(1, 20))
    with pytest.raises(TypeError, match=f"{name}: multiple values for argument '{first}'"):
        cls(1, **{first: 1})


@pytest.mark.parametrize("kind", [CosineDecay, LinearDecay, PolynomialDecay])
def test_a_length_in_the_place_of_a_rate_is_noticed(kind, recwarn):
    kind(0.0, 30.0), kind(0.1, 1.0), kind(0.1, 7.5), kind(10.0, 100.0)
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"a rate of 1000.*over=1000 \(epochs\)"):
        kind(0.1, 1000)


def test_a_number_that_came_as_text_says_why():
    with pytest.raises(TypeError, match=r"not text .*write 1.0e-3\). Received: lr='1e-3'"):
        Constant("1e-3")
    with pytest.raises(TypeError, match=r"at least 0\. Received: lr=.fast."):
        Constant("fast")


def test_a_number_of_more_digits_than_python_writes():
    with pytest.raises(ValueError, match=r"Received: lr=an integer of 16610 bits"):
        Constant(10**5000)
    with pytest.raises(ValueError, match=r"Received: an integer of 16610 bits"):
        keras_lr.from_config({"Constant": {"lr": 10**5000}})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: StepDecay(0.1, 1.5),
            "`factor` must be a number .* or go with a final_lr",
        ),
        (
            lambda: ExponentialDecay(0.1, 1.001),
            "`factor` must be a number .* or go with a final_lr",
        ),
        (
            lambda: CosineRestarts(0.1, lr_mult=2),
            "`lr_mult` must be a number .* or go with a highest_lr",
        ),
        (lambda: StepDecay(0.1, 2, final_lr=0.05), "`final_lr` must be at least initial_lr=0.1"),
        (lambda: ExponentialDecay(0.1, 0.5, final_lr=1), "`final_lr` must be at most initial_lr"),
        (
            lambda: CosineRestarts(0.1, highest_lr=0.05),
            "`highest_lr` must be at least initial_lr=0.1",
        ),
    ],
)
def test_growth_needs_an_end(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_momentum_that_moves_with_the_rate_is_refused():
    with pytest.raises(ValueError, match=r"momentum.*the first not the higher"):
        OneCycle(0.1, momentum=(0.95, 0.85))
    with pytest.raises(ValueError, match=r"momentum.*the first not the higher"):
        TriangularCLR(0.1, 0.2, momentum=(0.95, 0.85))
    assert OneCycle(0.1, momentum=(0.9, 0.9)).momentum == (0.9, 0.9)


def test_a_field_has_a_kind_and_a_name_of_its_own():
    with pytest.raises(TypeError, match=r"Named.*'values'|Named: .*a method of Schedule"):

        @schedule
        class Named(Schedule):
            values: Rate

    with pytest.raises(TypeError, match=r"Bare\.rate is declared as .*declare it with a kind"):

        @schedule
        class Bare(Schedule):
            rate: float


# The size of a fit --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "steps_per_epoch", "words"),
    [
        (0, 10, "epochs=0"),
        (-1, 10, "epochs=-1"),
        (3, 0, "steps_per_epoch=0"),
        (3, math.nan, "steps_per_epoch=nan"),
        (math.inf, 3, "epochs=inf"),
        ("3", 3, "epochs='3'"),
        (3, None, "needs `steps_per_epoch`, and no fit has given it"),
        (None, 3, "needs `epochs`, and no fit has given it"),
    ],
)
@pytest.mark.parametrize("method", ["values", "plot"])
def test_the_size_of_a_fit(method, epochs, steps_per_epoch, words):
    call = getattr(Constant(0.1), method)
    with pytest.raises((TypeError, ValueError), match=words):
        call(epochs=epochs, steps_per_epoch=steps_per_epoch)


@pytest.mark.parametrize(
    ("epochs", "steps_per_epoch", "words"),
    [
        (0, 10, "argument `epochs` must be a finite number above 0. Received: epochs=0"),
        (None, 10, "argument `epochs` must be a finite number above 0. Received: epochs=None"),
        (3, -1, "argument `steps_per_epoch` must be .* Received: steps_per_epoch=-1"),
        (3, None, "argument `steps_per_epoch` must be .* Received: steps_per_epoch=None"),
    ],
)
def test_the_size_of_a_fit_in_the_graph(epochs, steps_per_epoch, words):
    call = CosineDecay(0.1).in_graph
    with pytest.raises((TypeError, ValueError), match=words):
        call(epochs=epochs, steps_per_epoch=steps_per_epoch)


def test_a_value_without_a_fit_says_what_is_missing():
    with pytest.raises(UnresolvedLength, match="Pass `epochs` and `steps_per_epoch`"):
        CosineDecay(0.1)(3)
    with pytest.raises(UnresolvedLength, match="steps_per_epoch"):
        StepDecay(0.1)(3)
    assert CosineDecay(0.1, over="4 steps")(2) == pytest.approx(0.05)
