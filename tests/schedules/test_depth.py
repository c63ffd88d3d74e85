"""Schedules that a loop builds, two thousand stages long or deep."""

import copy
import pickle

import numpy as np
import pytest
from models import fit, meter
from selection import mostly_full

from keras_lr import (
    Constant,
    CosineDecay,
    Function,
    LinearDecay,
    Product,
    Sequence,
    Timeline,
    from_config,
    load,
    register,
    save,
    to_config,
)

COUNT = 2000
LINE = LinearDecay(1.0, 0.5, over="5 steps")
LOOPS = {
    "sequence": (LINE, lambda rate, i: rate >> LINE),
    "sequence-before": (LINE, lambda rate, i: LINE >> rate),
    "sequence-in-sequence": (LINE, lambda rate, i: Sequence([rate, LINE])),
    "lasting-sequence": (CosineDecay(1.0), lambda rate, i: rate.lasting("5 steps") >> LINE),
    "lasting": (CosineDecay(1.0), lambda rate, i: rate.lasting(f"{i + 1} steps")),
    "product": (LINE, lambda rate, i: rate * Constant(0.999)),
    "product-before": (LINE, lambda rate, i: Constant(0.999) * rate),
    "product-in-product": (LINE, lambda rate, i: Product([rate, Constant(0.999)])),
    "scale": (LINE, lambda rate, i: 0.999 * rate),
    "sum": (LINE, lambda rate, i: rate + 1e-6),
    "difference": (LINE, lambda rate, i: rate - 1e-6),
    "clip": (LINE, lambda rate, i: rate.clip(1e-6 * i, 0.9)),
    "clip-and-scale": (LINE, lambda rate, i: rate.clip(1e-6 * i, 0.9) * 0.999),
    "warmup": (LINE, lambda rate, i: rate.warmup("1 steps", 0.5)),
    "repeat": (LINE, lambda rate, i: rate.repeat(1, stretch=2.0, scale=0.5)),
    "repeat-lasting": (LINE, lambda rate, i: rate.lasting("5 steps").repeat(2)),
    "per-epoch": (LINE, lambda rate, i: rate.per_epoch()),
    "per-epoch-and-scale": (LINE, lambda rate, i: rate.per_epoch() * 1.001),
    "all": (
        LINE,
        lambda rate, i: (rate.warmup("2 steps").lasting("9 steps") >> LINE).clip(max=0.9) * 0.999,
    ),
}
USUAL = "sequence", "per-epoch", "all"


def built(name):
    rate, step = LOOPS[name]
    for i in range(COUNT):
        rate = step(rate, i)
    return rate


@pytest.mark.full
@pytest.mark.parametrize("name", mostly_full(LOOPS, USUAL))
def test_what_a_loop_builds_can_be_all_that_a_schedule_is(name, tmp_path):
    rate, again = built(name), built(name)
    curve = rate.values(epochs=2, steps_per_epoch=100)
    assert np.isfinite(curve).all()
    assert rate == again
    assert hash(rate) == hash(again)
    assert repr(rate) == repr(again)
    assert rate != rate.warmup(1)
    for same in (
        copy.deepcopy(rate),
        copy.copy(rate),
        pickle.loads(pickle.dumps(rate)),
        from_config(to_config(rate)),
        type(rate).from_config(rate.get_config()),
    ):
        assert same == rate
        np.testing.assert_array_equal(same.values(epochs=2, steps_per_epoch=100), curve)
    timeline = Timeline(100, 2)
    assert len(list(rate.parts())) <= 6 * COUNT
    assert rate.length(timeline) >= 0
    assert len(rate.stage_starts(timeline)) <= 6 * COUNT
    assert len(rate.unreached_stages(timeline)) <= 6 * COUNT
    assert float(rate.in_graph(epochs=1, steps_per_epoch=9)(5)) >= 0


@pytest.mark.full
def test_values_of_ten_thousand_steps_are_those_of_each_stage():
    curve = built("sequence").values(epochs=1, steps_per_epoch=10_000)
    np.testing.assert_allclose(curve, np.tile([1, 0.9, 0.8, 0.7, 0.6], 2000))
    warm = built("warmup").values(epochs=1, steps_per_epoch=2005)
    np.testing.assert_allclose(warm, [0.5] * 2000 + [1, 0.9, 0.8, 0.7, 0.6])
    nested = built("lasting-sequence").values(epochs=1, steps_per_epoch=20)
    np.testing.assert_allclose(nested[5:], [1, 0.9, 0.8, 0.7, 0.6, *[0.5] * 10])


def test_an_error_deep_inside_comes_out_unchanged():
    problem = KeyError("deep")

    def raising(epoch):
        raise problem

    rate = Function(raising).lasting("5 steps")
    for _ in range(COUNT):
        rate = 2 * (rate >> LINE).clip(max=1.0)
        rate = rate.lasting("5 steps")
    with pytest.raises(KeyError) as caught:
        rate.values(epochs=1, steps_per_epoch=5)
    assert caught.value is problem


def test_operators_that_can_be_one_are_one():
    assert 2 * (3 * LINE) == 6 * LINE
    assert LINE.clip(0.1, 0.9).clip(0.2, 1.0) == LINE.clip(0.2, 0.9)
    assert LINE.clip(0.5, 0.9).clip(0.1, 0.3) == LINE.clip(0.3, 0.3)
    assert LINE.clip(min=0.5).clip(max=0.7) == LINE.clip(0.5, 0.7)
    assert LINE.per_epoch().per_epoch() == LINE.per_epoch()
    assert (LINE * LINE) * LINE == LINE * (LINE * LINE) == Product([LINE, LINE, LINE])
    assert (LINE + LINE) - (LINE - 0.1) == LINE + LINE + 0.1 - LINE
    # Where the factor of both would be no number, there are two.
    assert (1e-200 * (1e-200 * LINE)).factor == 1e-200


def test_a_part_that_stands_twice_stands_twice_in_a_copy():
    for again in (copy.deepcopy(LINE * LINE), pickle.loads(pickle.dumps(LINE * LINE))):
        assert again.factors[0] is again.factors[1]


def test_a_record_of_a_part_is_copied():
    inner = CosineDecay(0.1)
    fit(meter(), inner, epochs=2)
    for again in (copy.deepcopy(inner.warmup(1)), pickle.loads(pickle.dumps(inner.warmup(1)))):
        assert again.schedule.history == inner.history
        assert len(again.schedule.history) == 10


def test_a_file_says_how_deep_it_may_be(tmp_path):
    deep = LINE
    for _ in range(400):
        deep = deep.warmup("1 steps")
    with pytest.raises(ValueError, match="nested at most 150 levels deep"):
        save(deep, tmp_path / "lr.json")
    long = built("sequence")
    save(long, tmp_path / "lr.json")
    assert load(tmp_path / "lr.json") == [long]


@register
def hundredth(epoch):
    return 0.01


def test_functions_and_lists_are_copied_too():
    rate = Function(hundredth).lasting(1) >> LINE * Function(hundredth)
    assert pickle.loads(pickle.dumps([rate, rate]))[1] == rate
