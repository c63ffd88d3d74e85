"""The rule of ReduceLROnPlateau, which knows neither Keras nor time: laws for any metric."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_lr.callbacks.plateau_rule import Rule, State

PLAIN = Rule(
    up=False,
    factor=0.5,
    patience=2,
    min_delta=0.0,
    threshold_mode="absolute",
    cooldown=0,
    min_lr=0.0,
    on_nan="count",
    stop_at_min_lr=False,
    increase=None,
    increase_when="good",
    increase_after=3,
    max_lr=None,
)

sizes = st.floats(-100.0, 100.0, width=32)
metrics = st.lists(sizes, min_size=1, max_size=60)
broken = st.lists(st.one_of(sizes, st.sampled_from([math.nan, math.inf, -math.inf])), max_size=60)
rules = st.builds(
    dataclasses.replace,
    st.just(PLAIN),
    up=st.booleans(),
    factor=st.sampled_from([0.1, 0.5, 0.9]),
    patience=st.integers(0, 5),
    min_delta=st.sampled_from([0.0, 0.25, 2.0]),
    threshold_mode=st.sampled_from(["absolute", "relative"]),
    cooldown=st.integers(0, 4),
    min_lr=st.sampled_from([0.0, 0.01]),
    on_nan=st.sampled_from(["count", "reduce"]),
    stop_at_min_lr=st.booleans(),
)
raising = st.builds(
    dataclasses.replace,
    rules,
    increase=st.sampled_from([1.5, 4.0]),
    increase_when=st.sampled_from(["good", "stuck"]),
    increase_after=st.integers(1, 4),
)


def step(rule, state, value, count, epoch, scheduled):
    state, wish, _ = rule.count_value(state, value, count, epoch)
    return rule.change_rates(state, wish, epoch, [scheduled])


def follow(rule, values, rate=1.0, top=1.0, scheduled=None):
    """Return state and action after each value."""
    state = State(rates=(rate,), tops=(top,)) if scheduled is None else State()
    trail = []
    for epoch, value in enumerate(values):
        used = None if scheduled is None else float(rule.scale_values(scheduled, state.scale))
        state, action = step(rule, state, value, 1, epoch, used)
        trail.append((state, action))
    return trail


def rates(trail):
    return [state.rates[0] for state, _ in trail]


def actions(trail):
    return [action for _, action in trail]


def rises_never(values):
    return all(b <= a for a, b in itertools.pairwise(values))


@given(rules, broken)
def test_without_increase_the_rate_never_rises_and_stays_above_min_lr(rule, values):
    found = [1.0, *rates(follow(rule, values))]
    assert rises_never(found)
    assert min(found) >= rule.min_lr


@given(raising, broken, st.sampled_from([0.005, 0.1, 1.0]))
def test_with_increase_the_rate_stays_between_min_lr_and_the_top(rule, values, rate):
    for found in rates(follow(rule, values, rate, top=1.0)):
        assert min(rate, rule.min_lr) <= found <= 1.0


@given(rules, broken)
def test_the_rate_is_the_start_times_the_factor_once_per_reduction(rule, values):
    trail = follow(rule, values)
    cuts = actions(trail).count("reduce")
    expected = 1.0
    for _ in range(cuts):
        expected *= rule.factor
    if trail:
        assert rates(trail)[-1] == pytest.approx(max(expected, rule.min_lr), rel=1e-12)


@given(rules, metrics)
def test_reductions_keep_their_distance(rule, values):
    cuts = [i for i, action in enumerate(actions(follow(rule, values))) if action == "reduce"]
    # The epoch in which a cooldown ends counts already, as it does in Keras.
    least = max(rule.patience, 1) + max(rule.cooldown - 1, 0)
    assert all(b - a >= least for a, b in itertools.pairwise(cuts))
    assert not cuts or cuts[0] >= max(rule.patience, 1)


@given(rules, st.integers(1, 40))
def test_a_metric_that_always_improves_never_reduces(rule, length):
    # Steps of 5 %, and of more than 2 in absolute terms, pass every threshold above but 2.0 times
    # the best, which nothing passes.
    relative = rule.threshold_mode == "relative"
    rule = dataclasses.replace(rule, min_delta=min(rule.min_delta, 0.04) if relative else 2.0)
    values = [1000.0 * (1.05**i if rule.up else 0.95**i) for i in range(length)]
    values = values if relative else [(3.0 if rule.up else -3.0) * i for i in range(length)]
    assert set(actions(follow(rule, values))) == {"none"}


@given(rules, st.integers(1, 30))
def test_a_flat_metric_reduces_every_patience_epochs(rule, length):
    rule = dataclasses.replace(rule, cooldown=0, min_lr=0.0)
    cuts = [i for i, a in enumerate(actions(follow(rule, [1.0] * length))) if a == "reduce"]
    assert cuts == list(range(max(rule.patience, 1), length, max(rule.patience, 1)))


@given(rules, broken)
def test_more_is_better_is_less_is_better_upside_down(rule, values):
    mirrored = dataclasses.replace(rule, up=not rule.up)
    assert actions(follow(rule, values)) == actions(follow(mirrored, [-v for v in values]))


@given(rules, metrics, st.sampled_from([0.25, 8.0]))
def test_a_relative_threshold_does_not_depend_on_the_unit(rule, values, unit):
    rule = dataclasses.replace(rule, threshold_mode="relative")
    # Powers of two change no digit, unless a number is so small that digits are lost.
    values = [v if abs(v) > 1e-30 else 0.0 for v in values]
    assert actions(follow(rule, values)) == actions(follow(rule, [v * unit for v in values]))


@given(raising, broken)
def test_nan_and_infinity_never_become_the_best(rule, values):
    for state, _ in follow(rule, values):
        assert state.best is None or math.isfinite(state.best)


@given(rules, st.integers(1, 5))
def test_nan_reduces_at_once_where_that_is_asked_for(rule, good):
    values = [1.0, *[1.0] * (good - 1), math.nan]
    rule = dataclasses.replace(rule, patience=100, cooldown=0)
    expected = "reduce" if rule.on_nan == "reduce" else "none"
    assert actions(follow(rule, values))[-1] == expected


@given(rules, broken)
def test_stop_comes_only_where_asked_for_and_where_nothing_is_left_to_reduce(rule, values):
    for state, action in follow(rule, values, rate=0.04):
        if action == "stop":
            assert rule.stop_at_min_lr
            assert state.rates[0] <= np.float32(rule.min_lr)


@given(raising, broken)
def test_a_state_survives_json(rule, values):
    for state, _ in follow(rule, values):
        assert State.from_dict(json.loads(json.dumps(state.to_dict()))) == state


@given(st.sampled_from([field.name for field in dataclasses.fields(State)]))
def test_a_state_that_lacks_something_is_refused(name):
    state = State().to_dict()
    del state[name]
    with pytest.raises(ValueError, match=f"lacks {name}"):
        State.from_dict(state)


# Together with a schedule.


@given(rules, broken, st.floats(0.001, 1.0))
def test_cuts_alone_never_bring_a_schedule_below_min_lr(rule, values, rate):
    curve = np.linspace(0.0, 1.0, 11)
    for state, _ in follow(rule, values, scheduled=np.float64(rate)):
        found = rule.scale_values(curve, state.scale)
        assert (found <= curve).all()
        assert (found >= np.minimum(curve, rule.min_lr)).all()


@pytest.mark.parametrize(
    ("scale", "found"),
    [
        (1.0, [0.0, 0.04, 0.2, 1.0]),
        (0.5, [0.0, 0.04, 0.1, 0.5]),
        (0.25, [0.0, 0.04, 0.05, 0.25]),
        (0.0625, [0.0, 0.04, 0.05, 0.0625]),
    ],
)
def test_the_whole_curve_is_scaled_down_to_min_lr(scale, found):
    rule = dataclasses.replace(PLAIN, min_lr=0.05)
    curve = np.array([0.0, 0.04, 0.2, 1.0])  # what is lower by itself stays
    np.testing.assert_allclose(rule.scale_values(curve, scale), found, rtol=1e-12)


@given(raising, broken)
def test_raising_a_schedule_never_exceeds_it_without_max_lr(rule, values):
    for state, _ in follow(rule, values, scheduled=np.float64(0.5)):
        assert state.scale <= 1.0


@given(raising, broken)
def test_raising_a_schedule_respects_max_lr(rule, values):
    rule = dataclasses.replace(rule, max_lr=0.8)
    for state, _ in follow(rule, values, scheduled=np.float64(0.5)):
        assert rule.scale_values(np.float64(0.5), state.scale) <= 0.8


@pytest.mark.parametrize(
    ("options", "values", "found"),
    [
        # Two reductions, then three good epochs in a row, twice.
        (
            {"increase": 2.0, "increase_when": "good", "increase_after": 3},
            [9, 9, 9, 9, 9, 8, 7, 6, 5, 4, 3],
            [1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.5, 0.5, 0.5, 1],
        ),
        # Reduced after 2 and 4, raised by 8 after 5 bad epochs, up to the top.
        (
            {"increase": 8.0, "increase_when": "stuck", "increase_after": 5},
            [9] * 8,
            [1, 1, 0.5, 0.5, 0.25, 1, 1, 0.5],
        ),
        # Good epochs must come in a row.
        (
            {"increase": 2.0, "increase_when": "good", "increase_after": 2, "patience": 1},
            [9, 9, 8, 9, 7, 6],
            [1, 0.5, 0.5, 0.25, 0.25, 0.5],
        ),
    ],
)
def test_raising_by_hand(options, values, found):
    assert rates(follow(dataclasses.replace(PLAIN, **options), values)) == found


def test_raising_has_no_effect_at_the_top():
    rule = dataclasses.replace(PLAIN, increase=2.0, increase_after=1)
    assert actions(follow(rule, [3.0, 2.0, 1.0])) == ["none"] * 3


def test_a_value_can_stand_for_several_steps():
    rule = dataclasses.replace(PLAIN, patience=4)
    state = State(rates=(1.0,), tops=(1.0,))
    found = []
    for value in [1.0, 1.0, 1.0, 1.0, 1.0]:
        state, action = step(rule, state, value, 2, 0, None)
        found.append(action)
    assert found == ["none", "none", "reduce", "none", "reduce"]


# Several optimizers.


def test_each_of_several_rates_follows_the_rule_for_itself():
    rule = dataclasses.replace(PLAIN, patience=1, min_lr=0.1, stop_at_min_lr=True)
    state = State(rates=(0.3, 7.0, 0.8), tops=(0.3, 7.0, 0.8))
    found = []
    for epoch in range(6):
        used = 7.0 if epoch == 0 else float(rule.scale_values(np.float64(1.6), state.scale_of(1)))
        state, wish, _ = rule.count_value(state, 1.0, 1, epoch)
        state, action = rule.change_rates(state, wish, epoch, [None, used, None])
        found.append((state.rates[0], state.scale_of(1), state.rates[2], action))
        assert State.from_dict(json.loads(json.dumps(state.to_dict()))) == state
    assert found == [
        (0.3, 1.0, 0.8, "none"),
        (0.15, 0.5, 0.4, "reduce"),
        (0.1, 0.25, 0.2, "reduce"),
        (0.1, 0.125, 0.1, "reduce"),
        (0.1, 0.0625, 0.1, "reduce"),
        (0.1, 0.0625, 0.1, "stop"),
    ]


def test_each_of_several_rates_is_raised_to_its_own_top():
    rule = dataclasses.replace(PLAIN, increase=4.0, increase_after=1)
    state = State(rates=(0.1, 0.1), tops=(0.2, 9.0), scale=(1.0, 0.5))
    state, wish, _ = rule.count_value(state, 1.0, 1, 0)
    both, action = rule.change_rates(state, wish, 0, [None, None])
    assert (both.rates, action) == ((0.2, 0.4), "increase")
    mixed, action = rule.change_rates(state, wish, 0, [None, 0.1])
    assert (mixed.rates, mixed.scale, action) == ((0.2, 0.1), 1.0, "increase")
