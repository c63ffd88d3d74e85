"""Curves in a notebook: what is drawn, over which fit, how large it is, and that nothing fails."""

import copy
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import keras
import numpy as np
import pytest
from models import fit, meter
from shapes import SHAPES

from keras_lr import (
    Constant,
    CosineDecay,
    ExponentialDecay,
    Function,
    InverseSqrtDecay,
    LayerRates,
    LinearDecay,
    LRHistory,
    LRRangeTest,
    OneCycle,
    ParamScheduler,
    PiecewiseConstant,
    RangeTestResult,
    ReduceLROnPlateau,
    StepDecay,
    TriangularCLR,
)
from keras_lr.plotting.svg import Line, Panel, draw_panels, format_number, frame

MAX_BYTES = 10_000


def svg(html):
    """Return the picture in a cell, as a tree."""
    return ElementTree.fromstring(re.search(r"<svg.*</svg>", html, re.DOTALL)[0])


def words(html):
    return [element.text for element in svg(html).iter() if element.tag.endswith("text")]


def note(html):
    return html.rpartition("</svg>")[2]


def path(html, color="#2f81f7"):
    """Return the points of the thickest line of a colour."""
    lines = [one for one in svg(html).iter() if one.get("stroke") == color]
    (line,) = [one for one in lines if one.get("stroke-width") == "18"][:1]
    x, y = [], []
    for kind, a, b in re.findall(r"([Ml])(-?\d+) (-?\d+)", line.get("d")):
        before = (0, 0) if kind == "M" else (x[-1], y[-1])
        x.append(before[0] + int(a))
        y.append(before[1] + int(b))
    return np.array(x), np.array(y)


def record(steps, seed=0):
    random = np.random.default_rng(seed)
    history = LRHistory()
    history.load_state_dict(
        {
            "step": np.arange(steps),
            "epoch": np.arange(steps) // 10,
            "learning_rate": random.uniform(0.001, 0.1, steps),
            "loss": random.uniform(0.1, 3.0, steps),
        }
    )
    return history


# Schedules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
def test_every_schedule_has_a_curve_before_any_fit(name):
    html = SHAPES[name].make()._repr_html_()
    assert len(html.encode()) <= MAX_BYTES
    x, y = path(html)
    assert len(x) >= 2
    assert np.all(np.diff(x) >= 0)
    assert x[-1] - x[0] > 3500
    assert ((y >= 240) & (y <= 1040)).all()
    HTMLParser().feed(html)
    assert "<script" not in html
    assert "currentColor" in html


@pytest.mark.parametrize(
    ("schedule", "unit", "last", "said"),
    [
        (CosineDecay(0.1), "% of the fit", "100", ""),
        (OneCycle(0.1), "% of the fit", "100", ""),
        (LinearDecay(0.1, over="50%") >> Constant(0.01), "% of the fit", "100", ""),
        (CosineDecay(0.1).warmup(5), "epochs", "30", "as in a fit of 30 epochs"),
        (StepDecay(0.1), "epochs", "60", "as in a fit of 60 epochs"),
        (CosineDecay(0.1, over=20), "epochs", "20", "over its own length"),
        (CosineDecay(0.1, over="2000 steps"), "steps", "2000", "over its own length"),
        (CosineDecay(0.1).warmup("500 steps"), "steps", "3000", "as in a fit of 3,000 steps"),
        (CosineDecay(0.1).per_epoch(), "epochs", "30", "as in a fit of 30 epochs"),
        (PiecewiseConstant([40, 80], [3, 2, 1]), "epochs", "100", "as in a fit of 100 epochs"),
        (
            CosineDecay(0.1, over="3000 steps").warmup(5),
            "epochs",
            "35",
            "over its own length, with 100 steps in an epoch",
        ),
    ],
)
def test_the_axis_shows_the_whole(schedule, unit, last, said):
    html = schedule._repr_html_()
    assert said in note(html)
    assert bool(said) == ("<div" in note(html))
    found = words(html)
    assert found[:2] == ["learning rate", unit]
    assert last in found[-2:]


def test_a_warmup_stands_where_its_share_of_the_fit_is():
    x, y = path(LinearDecay(0.1).warmup("25%")._repr_html_())
    peak = x[np.argmin(y)]
    assert (peak - x[0]) / (4270 - x[0]) == pytest.approx(0.25, abs=0.01)


def test_a_jump_stands_upright():
    x, y = path(StepDecay(1.0, factor=0.5, every=10)._repr_html_())
    falls = np.flatnonzero(np.diff(y) > 20)
    assert len(falls) == 5
    assert (np.diff(x)[falls] <= 2).all()


def test_after_a_fit_the_axis_is_that_fit():
    rate = CosineDecay(0.1).warmup(1)
    fit(meter(), rate, epochs=4)
    html = rate._repr_html_()
    assert words(html)[1] == "epochs"
    assert words(html)[-1] == "4"
    assert "<div" not in note(html)


def test_a_function_that_cannot_be_drawn_says_why_in_the_cell():
    def broken(epoch):
        raise RuntimeError("<not here>")

    html = Function(broken)._repr_html_()
    assert "<svg" not in html
    assert "no curve: " in html
    assert "&lt;not here&gt;" in html
    assert " at 0x" not in html
    assert "initial_lr=" in Function(lambda epoch, lr: lr)._repr_html_()


def test_the_text_above_is_safe_and_not_too_long():
    assert frame("<b>&", "") == frame("<b>&", "").replace("<b>", "&lt;b&gt;")
    deep = Constant(0.1)
    for _ in range(300):
        deep = deep.warmup(1)
    assert len(deep._repr_html_().encode()) <= MAX_BYTES


# Records ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 100, 20_000])
def test_a_record_shows_rate_and_loss(steps):
    html = record(steps)._repr_html_()
    assert len(html.encode()) <= MAX_BYTES
    assert [one for one in words(html) if one in ("learning rate", "loss")] == [
        "learning rate",
        "loss",
    ]
    assert f"LRHistory({steps} step{'s' * (steps > 1)} in epochs" in html


def test_an_empty_record_shows_its_text_alone():
    assert LRHistory()._repr_html_() is None
    assert ReduceLROnPlateau()._repr_html_() is None
    assert LRRangeTest()._repr_html_() is None


def test_gaps_and_a_loss_that_is_not_finite_are_left_out():
    history = record(30)
    state = history.state_dict()
    state["loss"][10:20] = np.nan, *[np.inf] * 9
    history.load_state_dict(state)
    html = history._repr_html_()
    faint = [one.get("d") for one in svg(html).iter() if one.get("stroke-width") == "9"]
    assert [line.count("M") for line in faint] == [2]
    state["loss"][:] = np.nan
    history.load_state_dict(state)
    assert "loss" not in words(history._repr_html_())


def test_several_schedules_are_curves_before_any_fit():
    both = ParamScheduler(learning_rate=CosineDecay(0.1), momentum=LinearDecay(0.9, 0.5).warmup(5))
    html = both._repr_html_()
    assert len(html.encode()) <= MAX_BYTES
    assert [one for one in words(html) if one.isalpha() or " " in one] == [
        *("learning rate", "epochs", "momentum", "epochs"),
    ]


def test_no_number_of_the_axis_leaves_the_picture_or_is_the_rounding_of_another():
    noam = InverseSqrtDecay.transformer(512, 4000)._repr_html_()
    assert {"6.99e-4", "3.49e-4", "0"} <= {*words(noam)}
    below = (CosineDecay(0.1) - 0.05)._repr_html_()
    assert {"0.05", "0", "-0.05"} <= {*words(below)}


@pytest.mark.core
def test_callbacks_show_what_the_fit_did():
    plateau = ReduceLROnPlateau(monitor="loss", patience=1, min_delta=10.0, factor=0.5)
    both = ParamScheduler(momentum=LinearDecay(0.9, 0.5))
    fit(meter(optimizer=keras.optimizers.SGD(0.01, momentum=0.9)), [plateau, both], epochs=6)
    for callback in (plateau, both):
        html = callback._repr_html_()
        assert len(html.encode()) <= MAX_BYTES
        assert words(html)[0].startswith("learning rate")
    _, height = path(plateau._repr_html_())
    assert height[-1] > height[0]
    assert copy.deepcopy(plateau)._repr_html_() == plateau._repr_html_()


def test_factors_that_move_are_curves_over_one_axis():
    """The default goes down to the end, and the body thaws at 20 of 30 epochs."""
    body = Constant(0.0).lasting(20) >> Constant(0.1)
    rates = LayerRates({"net/body/.*": body, "head": 2.0}, default=LinearDecay(1.0))
    html = rates._repr_html_()
    assert len(html.encode()) <= MAX_BYTES
    titles = [one for one in words(html) if one.startswith("factor of")]
    assert titles == ["factor of net/body", "factor of default"]
    assert words(html).count("epochs") == 2
    x, y = path(html)
    assert "as in a fit of 120 epochs" in note(html)
    (jump,) = np.flatnonzero(np.diff(y) < -500)
    assert (x[jump] - 560) / (4270 - 560) == pytest.approx(20 / 120, abs=0.01)


def test_of_many_factors_the_cell_says_how_many_it_leaves_out():
    rates = LayerRates.thaw([f"block_{number}" for number in range(30)], every=1)
    html = rates._repr_html_()
    assert len(html.encode()) <= MAX_BYTES
    shown = [one for one in words(html) if one.startswith("factor of")]
    assert len(shown) >= 5
    assert f"and {29 - len(shown)} more" in note(html)


def test_after_a_fit_the_factors_are_over_that_fit():
    thaw = LayerRates({".*kernel": Constant(0.0).lasting("5 steps") >> Constant(1.0)})
    fit(meter(), thaw, epochs=2)
    html = thaw._repr_html_()
    assert words(html)[:2] == ["factor of .*kernel", "epochs"]
    assert words(html)[-1] == "2"
    assert "<div style" not in note(html)


def test_factors_that_are_numbers_show_the_record():
    numbers, decay = LayerRates({".*kernel": 0.5}), LayerRates.decay(0.5, blocks=r"dense_?(\d*)")
    assert numbers._repr_html_() is None
    assert decay._repr_html_() is None
    fit(meter(), numbers)
    assert words(numbers._repr_html_())[0] == "learning rate"


# Range tests --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 60, 5000])
def test_a_range_test_shows_curve_suggestion_and_bounds(count):
    rates = np.geomspace(1e-6, 10.0, count)
    result = RangeTestResult.from_curve(rates, (np.log10(rates) + 2.0) ** 2 + 0.5)
    html = result._repr_html_()
    assert len(html.encode()) <= MAX_BYTES
    if count == 1:
        assert "<svg" not in html
        return
    tree = svg(html)
    assert words(html)[:2] == ["loss", "learning rate"]
    assert {"1e-6", "1e-4", "0.01", "1"} <= {*words(html)}
    (mark,) = [one for one in tree.iter() if one.get("stroke-dasharray")]
    (band,) = [one for one in tree.iter() if one.tag.endswith("rect")]
    left, width = int(band.get("x")), int(band.get("width"))

    def place(rate):
        return 560 + (4400 - 560 - 130) * (np.log10(rate) + 6) / 7

    assert int(re.match(r"M(\d+)", mark.get("d"))[1]) == pytest.approx(
        place(result.suggestion), abs=1
    )
    assert [left, left + width] == pytest.approx([place(one) for one in result.bounds], abs=1)


def test_a_range_test_without_a_suggestion_says_why():
    rates = np.geomspace(1e-6, 10.0, 50)
    result = RangeTestResult.from_curve(rates, np.full(50, 2.0), reason="the loss is flat")
    html = result._repr_html_()
    assert "the loss is flat" in html
    assert "dasharray" not in html


# The picture --------------------------------------------------------------------------------------


def test_panels_name_themselves_for_readers_of_the_screen():
    tree = ElementTree.fromstring(
        draw_panels([Panel("a & b", [Line([0, 1], [0.0, 1.0])], "steps")] * 2)
    )
    assert tree.get("role") == "img"
    assert tree.get("aria-label") == "a & b; a & b"
    assert tree.get("viewBox") == "0 0 4400 2500"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.0, "0"), (-3.49e-4, "-3.49e-4"), (0.00099999, "0.001"), (0.001, "0.001")),
        *((1e-10, "1e-10"), (0.1, "0.1"), (999.6, "1e3"), (2500.0, "2500"), (1e5, "100k")),
    ],
)
def test_numbers_are_short(value, text):
    assert format_number(value) == text


def test_ipython_shows_the_curve():
    formatters = pytest.importorskip("IPython.core.formatters")
    shown, _ = formatters.DisplayFormatter().format(ExponentialDecay(0.1) * TriangularCLR(0.5, 1.0))
    assert "<svg" in shown["text/html"]
    assert shown["text/plain"].startswith("Product(")
