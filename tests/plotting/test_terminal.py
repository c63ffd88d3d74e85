"""Curves in a terminal: the drawing, its axis, and the steps that a table lists."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_lr import CosineRestarts, LinearDecay, StepDecay, TriangularCLR, plotting
from keras_lr.plotting.downsampling import find_jumps
from keras_lr.plotting.scales import Scale
from keras_lr.plotting.terminal import draw, find_bends

SIZE = {"epochs": 40, "steps_per_epoch": 10}


def dots(text):
    """Return how many braille dots a drawing has."""
    return sum(bin(ord(char) - 0x2800).count("1") for char in text if "⠀" <= char <= "⣿")


def test_a_drawing_has_the_width_that_it_is_given():
    text = draw(np.linspace(0, 1, 1000), 100, width=60, plain=False)
    assert max(len(line) for line in text.splitlines()[:-1]) == 60
    ascii_text = draw(np.linspace(0, 1, 1000), 100, width=60, plain=True)
    assert ascii_text.isascii()
    assert len(ascii_text.splitlines()) == len(text.splitlines())


def test_a_rising_line_rises():
    lines = draw(np.linspace(0, 1, 500), 50, width=61, plain=True).splitlines()[:11]
    firsts = [line.index("*") for line in lines]
    assert firsts == sorted(firsts, reverse=True)
    assert lines[0].startswith("  1 |")
    assert lines[5].startswith("0.5 |")
    assert lines[10].startswith("  0 |*")


def test_every_column_of_a_jumping_curve_is_drawn():
    curve = np.where(np.arange(997) % 100 < 50, 1.0, 0.0)
    lines = draw(curve, 100, width=61, plain=True).splitlines()[:11]
    columns = zip(*(line.ljust(61)[5:] for line in lines), strict=True)
    assert all("*" in column for column in columns)


def test_a_scale_is_logarithmic_where_a_curve_is_long_at_small_values():
    scale = Scale.of([np.geomspace(1e-6, 1, 100)])
    assert scale.log
    assert scale.place(np.array([1e-3]))[0] == pytest.approx(0.5, abs=0.05)
    assert scale.at(1.0) == 1.0
    assert draw([999.8, 999.8], 1, scale=Scale(0.0, 999.8)).startswith("1,000 ")
    assert not Scale.of([np.linspace(1, 0, 100)]).log
    assert "(logarithmic)" in draw(np.geomspace(1e-6, 1, 100), 10)


@pytest.mark.parametrize(
    "curve", [[0.0], [0.1] * 5, [np.nan] * 4, [1, np.nan, 3], [0.0] * 9, [-1.0, -1.0]]
)
def test_few_flat_and_missing_values_are_drawn(curve):
    assert dots(draw(curve, 1, width=40, plain=False)) > 0 or np.isnan(curve).all()


def test_bends_are_jumps_and_turns():
    ramp = np.concatenate([np.linspace(0, 1, 101), np.linspace(1, 0.5, 100), [0.5] * 50, [2] * 50])
    assert find_bends(ramp) == [100, 200, 251]
    assert find_bends(np.ones(50)) == []
    assert find_bends(np.array([1.0])) == []


def test_steps_far_below_the_first_value_are_found_where_they_begin():
    rate = StepDecay(0.1, factor=0.1, every=10).values(**SIZE)
    assert find_bends(rate) == [100, 200, 300]
    rises, falls = find_jumps(rate)
    assert (rises.tolist(), falls.tolist()) == ([], [100, 200, 300])


def test_small_steps_are_bends_but_no_sudden_falls():
    rate = StepDecay(0.1, factor=0.95, every=10).values(**SIZE)
    assert find_bends(rate) == [100, 200, 300]
    assert [len(found) for found in find_jumps(rate)] == [0, 0]


def test_restarts_are_sudden_and_turns_are_not():
    restarts = CosineRestarts(0.1, first_cycle=10, cycle_mult=1).values(**SIZE)
    assert find_jumps(restarts)[0].tolist() == [100, 200, 300]
    triangles = TriangularCLR(0.01, 0.1, step_size=10).values(**SIZE)
    assert [len(found) for found in find_jumps(triangles)] == [0, 0]
    assert find_bends(triangles) == [100, 200, 300]


def test_rounding_is_no_change():
    rate = np.full(100, 0.1)
    rate[50:] = np.nextafter(0.1, 1)
    assert find_bends(rate) == []
    assert [len(found) for found in find_jumps(rate, least=0.0)] == [0, 0]


@pytest.mark.parametrize(
    "rate",
    [StepDecay(0.1, 0.1, every=10), StepDecay(0.1, 0.5, every=20), LinearDecay(0.1)],
)
def test_a_picture_and_a_drawing_choose_the_same_axis(rate):
    values = rate.values(epochs=40, steps_per_epoch=10_000)
    ax = plotting.plot_curves({"rate": values}, 10_000, ax=Figure().add_subplot())
    assert ax.get_yscale() == ("log" if Scale.of([values]).log else "linear")
