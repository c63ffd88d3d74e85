"""What holds for every schedule, whatever its formula."""

import copy
import dataclasses
import math
import pickle

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import EPOCHS, SHAPES, STEPS

import keras_lr
from keras_lr import Function, InGraph, Schedule, Timeline
from keras_lr._fields.serialization import encode

KerasSchedule = keras.optimizers.schedules.LearningRateSchedule

pytestmark = pytest.mark.core

FIT = {"epochs": EPOCHS, "steps_per_epoch": STEPS}
every_shape = pytest.mark.parametrize("name", SHAPES)
sizes = st.tuples(st.integers(1, 40), st.integers(1, 60))


def values(schedule, epochs=EPOCHS, steps_per_epoch=STEPS):
    return schedule.values(epochs=epochs, steps_per_epoch=steps_per_epoch)


def in_float32(schedule):
    return any(isinstance(getattr(part, "fn", None), KerasSchedule) for part in schedule.parts())


def test_the_list_has_every_shape():
    listed = {type(part) for shape in SHAPES.values() for part in shape.make().parts()}
    public = {getattr(keras_lr, name) for name in keras_lr.__all__}
    shapes = {item for item in public if isinstance(item, type) and issubclass(item, Schedule)}
    assert {shape.__name__ for shape in shapes - {Schedule}} == {kind.__name__ for kind in listed}


# The curve.


@every_shape
@given(size=sizes)
@settings(max_examples=15)
def test_a_curve_has_one_finite_value_within_bounds_for_every_step(name, size):
    shape, (epochs, steps) = SHAPES[name], size
    curve = values(shape.make(), epochs, steps)
    assert curve.dtype == np.float64
    assert curve.shape == (epochs * steps,)
    assert np.isfinite(curve).all()
    slack = 1e-12 * shape.high
    assert max(shape.low - slack, 0.0) <= curve.min()
    assert curve.max() <= shape.high + slack
    assert curve[0] == pytest.approx(shape.first, rel=1e-12) or (epochs, steps) == (1, 1)


@every_shape
def test_both_ends_are_exact(name):
    shape = SHAPES[name]
    schedule, timeline = shape.make(), Timeline(STEPS, EPOCHS)
    assert schedule(0, timeline) == shape.first
    if shape.end is not None:
        after = schedule([EPOCHS * STEPS, EPOCHS * STEPS + 1, 10**9], timeline)
        assert after.tolist() == [shape.end] * 3


@every_shape
@given(size=sizes, data=st.data())
@settings(max_examples=10)
def test_an_array_of_steps_is_the_steps_one_by_one(name, size, data):
    epochs, steps = size
    timeline = Timeline(steps, epochs)
    some = data.draw(st.lists(st.integers(0, 2 * epochs * steps), min_size=1, max_size=6))
    schedule = SHAPES[name].make()
    alone = [SHAPES[name].make()(step, timeline) for step in some]
    assert all(type(value) is float for value in alone)
    # Keras computes its own schedules in float32, in one order or another.
    rtol = 1e-5 if in_float32(schedule) else 0
    np.testing.assert_allclose(schedule(some, timeline), alone, rtol=rtol, atol=0)
    square = schedule(np.array([some, some]), timeline)
    np.testing.assert_allclose(square, [alone, alone], rtol=rtol, atol=0)


@every_shape
def test_evaluating_changes_nothing(name):
    schedule = SHAPES[name].make()
    first = values(schedule)
    values(schedule, 3, 7)
    schedule(np.arange(100)[::-1], Timeline(STEPS, EPOCHS))
    np.testing.assert_array_equal(values(schedule), first)
    assert schedule == SHAPES[name].make()


@every_shape
def test_no_steps_give_no_values(name):
    empty = SHAPES[name].make()(np.zeros(0), Timeline(STEPS, EPOCHS))
    assert empty.shape == (0,)


# How schedules combine.


@every_shape
def test_scaling_and_products_are_those_of_the_values(name):
    make = SHAPES[name].make
    curve = values(make())
    np.testing.assert_allclose(values(0.5 * make()), 0.5 * curve, rtol=1e-15)
    np.testing.assert_allclose(values(make() * 3), 3 * curve, rtol=1e-15)
    np.testing.assert_allclose(values(make() * make()), curve**2, rtol=1e-15)


@every_shape
def test_clip_and_per_epoch_are_those_of_the_values(name):
    make = SHAPES[name].make
    curve = values(make())
    np.testing.assert_array_equal(values(make().clip(0.05, 0.15)), curve.clip(0.05, 0.15))
    held = np.repeat(curve[::STEPS], STEPS)
    np.testing.assert_array_equal(values(make().per_epoch()), held)


@every_shape
def test_a_stage_is_a_fit_of_its_length(name):
    make = SHAPES[name].make
    curve = values(make().lasting(2) >> make().lasting("rest"))
    np.testing.assert_allclose(curve[:20], values(make(), 2), rtol=1e-12)
    np.testing.assert_allclose(curve[20:], values(make(), 4), rtol=1e-12)


@every_shape
def test_sequences_do_not_depend_on_parentheses(name):
    make = SHAPES[name].make
    a, b, c = make().lasting(1), make().lasting("11 steps"), make().lasting("rest")
    left, right = (a >> b) >> c, a >> (b >> c)
    assert left == right
    np.testing.assert_array_equal(values(left), values(right))


@every_shape
def test_a_warmup_is_a_straight_line_to_the_first_value(name):
    shape = SHAPES[name]
    curve = values(shape.make().lasting("rest").warmup(2, start=0.01))
    line = np.linspace(0.01, values(shape.make(), 4)[0], 21)[:-1]
    np.testing.assert_allclose(curve[:20], line, rtol=1e-12)
    np.testing.assert_allclose(curve[20:], values(shape.make(), 4), rtol=1e-12)


@every_shape
def test_a_repetition_is_the_curve_again(name):
    make = SHAPES[name].make
    once = values(make(), 3)
    np.testing.assert_allclose(values(make().lasting(3).repeat(2)), np.tile(once, 2), rtol=1e-9)
    scaled = np.concatenate([once, 0.5 * once])
    np.testing.assert_allclose(
        values(make().lasting(3).repeat(2, scale=0.5)), scaled, rtol=1e-9, atol=1e-15
    )
    if make().duration_kind != "own":
        np.testing.assert_allclose(values(make().repeat(2)), np.tile(once, 2), rtol=1e-9)


@every_shape
def test_a_stretched_cycle_is_the_first_one_slower(name):
    make = SHAPES[name].make
    curve = values(make().lasting(2).repeat(2, stretch=2))
    rtol = 1e-6 if in_float32(make()) else 1e-9
    np.testing.assert_allclose(curve[20:60:2], curve[:20], rtol=rtol, atol=1e-15)


# Compositions of any shape and depth, with their bounds.

rates = st.floats(1e-6, 10.0)
own_lengths = st.one_of(
    st.integers(1, 9),
    st.floats(0.01, 30.0),
    st.integers(1, 300).map("{} steps".format),
    st.floats(0.1, 100.0).map("{:.3f}%".format),
)
lengths = own_lengths | st.just("rest")


@st.composite
def leaves(draw):
    """Draw a simple shape with the bounds of its values."""
    low, high = sorted([draw(rates), draw(rates)])
    first, last = draw(st.permutations([low, high]))
    over, period = draw(lengths), draw(own_lengths)
    return draw(
        st.sampled_from(
            [
                (keras_lr.Constant(low), low, low),
                (keras_lr.LinearDecay(first, last, over), low, high),
                (keras_lr.CosineDecay(first, last, over), low, high),
                (keras_lr.PolynomialDecay(first, last, 0.9, over), low, high),
                (keras_lr.LinearDecay(first, last, over, endpoint=True), low, high),
                (keras_lr.StepDecay(high, 0.3, period), 0.0, high),
                (keras_lr.StepDecay(low, 1.7, period, final_lr=high), low, high),
                (keras_lr.ExponentialDecay(high, 0.3, period), 0.0, high),
                (keras_lr.ExponentialDecay(low, 1.7, period, final_lr=high), low, high),
                (keras_lr.TimeDecay(high, 2.0, period), 0.0, high),
                (keras_lr.InverseSqrtDecay(high, period), 0.0, high),
                (keras_lr.TriangularCLR(low, high, period, "triangular2"), low, high),
                (
                    keras_lr.TriangularCLR(
                        *(low, high, period), scale=keras_lr.CosineDecay(1.0, over=over)
                    ),
                    *(low, high),
                ),
                (keras_lr.CosineRestarts(high, low, period), low, high),
                (keras_lr.CosineRestarts(low, 0.0, period, 1.2, 1.5, high), 0.0, high),
                (keras_lr.OneCycle(high, "rest", "45%", 4.0, 5.0), high / 20, high),
                (keras_lr.OneCycle(high, "rest", "45%", 4.0, 5.0, endpoint=True), high / 20, high),
                (keras_lr.WarmupStableDecay(high, "45%", "55%").lasting(over), 0.0, high),
                (keras_lr.Function(lambda epoch: low + (high - low) * (epoch % 2)), low, high),
            ]
        )
    )


@st.composite
def combined(draw, children):
    """Draw a combination of schedules with the bounds of its values."""
    one, low, high = draw(children)
    operator = draw(
        st.sampled_from(
            ["sequence", "warmup", "lasting", "scale", "product", "clip", "repeat", "per_epoch"]
        )
    )
    if operator in ("sequence", "product"):
        other, other_low, other_high = draw(children)
        if operator == "product":
            return one * other, low * other_low, high * other_high
        return one.lasting(draw(own_lengths)) >> other, min(low, other_low), max(high, other_high)
    if operator == "warmup":
        start, shape = draw(rates), draw(st.sampled_from(["linear", "cosine", "sqrt", "square"]))
        warmed = one.warmup(draw(own_lengths), start, shape, shift=draw(st.booleans()))
        return warmed, min(low, start), max(high, start)
    if operator == "lasting":
        return one.lasting(draw(lengths)), low, high
    if operator == "scale":
        factor = draw(st.floats(0.01, 100.0))
        return factor * one, factor * low, factor * high
    if operator == "clip":
        least, most = sorted([draw(rates), draw(rates)])
        return one.clip(least, most), min(max(low, least), most), min(max(high, least), most)
    if operator == "repeat":
        scale = draw(st.floats(0.3, 1.0))
        times = draw(st.integers(1, 4))
        stretch = draw(st.floats(0.5, 3.0))
        return one.repeat(times, stretch, scale), low * scale ** (times - 1), high
    return one.per_epoch(), low, high


nested = st.recursive(leaves(), lambda children: combined(children), max_leaves=6)


@given(drawn=nested, size=sizes, data=st.data())
@settings(max_examples=300)
def test_compositions_stay_finite_and_within_bounds(drawn, size, data):
    (schedule, low, high), (epochs, steps) = drawn, size
    curve = values(schedule, epochs, steps)
    assert curve.shape == (epochs * steps,)
    assert np.isfinite(curve).all()
    assert (1 - 1e-9) * low <= curve.min()
    assert curve.max() <= (1 + 1e-9) * high
    step = data.draw(st.integers(0, epochs * steps - 1))
    assert schedule(step, Timeline(steps, epochs)) == curve[step]


@given(drawn=nested, size=sizes)
@settings(max_examples=40)
def test_compositions_are_the_same_in_the_graph(drawn, size):
    schedule, (epochs, steps) = drawn[0], size
    rate = schedule.in_graph(epochs=epochs, steps_per_epoch=steps)
    inside = keras.ops.convert_to_numpy(rate(np.arange(epochs * steps)))
    np.testing.assert_allclose(inside, values(schedule, epochs, steps), rtol=1e-6, atol=1e-37)


# In the graph.


@every_shape
def test_in_the_graph_is_the_same_curve(name):
    schedule = SHAPES[name].make()
    rate = schedule.in_graph(**FIT)
    assert isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
    inside = rate(keras.ops.arange(EPOCHS * STEPS))
    assert keras.backend.standardize_dtype(inside.dtype) == "float32"
    curve = values(schedule)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(inside), curve, rtol=1e-6, atol=1e-37)
    np.testing.assert_allclose(float(rate(7)), curve[7], rtol=1e-6)


@every_shape
def test_in_the_graph_holds_after_the_last_step(name):
    shape = SHAPES[name]
    rate = shape.make().in_graph(**FIT)
    late = [float(rate(step)) for step in (EPOCHS * STEPS, 10**6)]
    assert late[0] == late[1]
    if shape.end is not None:
        assert late[0] == np.float32(shape.end)


@pytest.mark.parametrize("name", ["CosineDecay", "PiecewiseConstant-one", "Nested", "OneCycle"])
def test_plot_draws_the_values(name):
    schedule = SHAPES[name].make()
    axes = schedule.plot(**FIT)
    drawn = axes.lines[0].get_ydata()
    np.testing.assert_array_equal(drawn[:-1], values(schedule))
    assert drawn[-1] == drawn[-2]  # held until the last step ends
    assert schedule.plot(**FIT, ax=axes) is axes


# What a config file, a worker process or a test needs.


@every_shape
def test_get_config_and_back(name):
    schedule = SHAPES[name].make()
    config = schedule.get_config()
    again = type(schedule).from_config(config)
    assert again == schedule
    assert again.get_config() == config


@every_shape
def test_keras_serialises_it(name):
    schedule = SHAPES[name].make()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert type(again) is type(schedule)
    assert again == schedule
    np.testing.assert_array_equal(values(again), values(schedule))


@every_shape
def test_a_config_is_plain_data(name):
    def plain(value):
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(item) for key, item in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return value is None or type(value) in (bool, int, float, str)

    assert plain(keras.saving.serialize_keras_object(SHAPES[name].make()))


@every_shape
def test_keras_serialises_it_in_the_graph(name):
    rate = SHAPES[name].make().in_graph(**FIT)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(rate))
    assert isinstance(again, InGraph)
    assert again == rate
    assert float(again(5)) == float(rate(5))


@every_shape
@pytest.mark.parametrize(
    "duplicate",
    [lambda value: pickle.loads(pickle.dumps(value)), copy.deepcopy, copy.copy],
    ids=["pickle", "deepcopy", "copy"],
)
def test_copies_are_equal(name, duplicate):
    schedule = SHAPES[name].make()
    again = duplicate(schedule)
    assert again is not schedule
    assert again == schedule
    assert hash(again) == hash(schedule)
    np.testing.assert_array_equal(values(again), values(schedule))


def test_equal_only_to_itself():
    made = [shape.make() for shape in SHAPES.values()]
    again = [shape.make() for shape in SHAPES.values()]
    equal = [[a == b for b in again] for a in made]
    np.testing.assert_array_equal(equal, np.eye(len(made), dtype=bool))
    assert len(set(made + again)) == len(made)
    assert all(schedule != "CosineDecay" for schedule in made)


@every_shape
def test_repr_evaluates_to_the_same(name):
    schedule = SHAPES[name].make()
    if "<function" in repr(schedule) or any(isinstance(p, Function) for p in schedule.parts()):
        assert repr(schedule).count("fn=") >= 1 or "scale=<function" in repr(schedule)
    else:
        assert eval(repr(schedule), vars(keras_lr)) == schedule


@every_shape
def test_a_built_schedule_does_not_change(name):
    schedule = SHAPES[name].make()
    for field in dataclasses.fields(schedule):
        before = getattr(schedule, field.name)
        with pytest.raises(AttributeError, match=rf"{field.name} cannot change .*replace\("):
            setattr(schedule, field.name, before)
        assert getattr(schedule, field.name) is before
    assert dataclasses.replace(schedule) == schedule


def other(value):
    """Return another value of the same kind."""
    if value is None or callable(value) or isinstance(value, Schedule):
        return keras_lr.Constant(0.25)
    if isinstance(value, tuple):
        return [other(item) for item in value]
    return "7%" if isinstance(value, str) else value / 2


@every_shape
def test_replace_takes_an_argument_by_its_name(name):
    """Also where the field bears another name, because a method has the argument's."""
    for part in SHAPES[name].make().parts():
        for field, argument in part.arguments.items():
            value = other(getattr(part, field))
            changed = dataclasses.replace(part, **{argument: value})
            assert changed.get_config() == part.get_config() | {argument: encode(value)}
            assert changed == dataclasses.replace(part, **{field: value}) != part


@every_shape
def test_it_is_a_callback(name):
    schedule = SHAPES[name].make()
    assert isinstance(schedule, keras.callbacks.Callback)
    assert math.isinf(schedule.length(Timeline(STEPS, EPOCHS))) == (
        schedule.duration_kind == "never"
    )
