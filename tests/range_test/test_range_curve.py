"""The curve of a range test: its file and its picture."""

import keras
import numpy as np
import pytest
from models import X, Y, network
from short_tests import quick

from keras_lr import LRRangeTest, RangeTestResult

pytestmark = pytest.mark.core


@pytest.mark.full
def test_the_curve_survives_a_file(tmp_path):
    result = quick(rule="edge", steps=40, repeats=2).run(network(), X, Y)
    result.to_csv(tmp_path / "curve.csv")
    again = RangeTestResult.from_csv(tmp_path / "curve.csv")
    for name in ("rates", "values", "lower", "upper"):
        np.testing.assert_array_equal(getattr(result, name), getattr(again, name))
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"other\.csv is not a curve"):
        RangeTestResult.from_csv(tmp_path / "other.csv")


def test_a_curve_that_was_cut_or_altered_is_refused(tmp_path):
    path = tmp_path / "curve.csv"
    rates = np.geomspace(1e-4, 1.0, 9)
    RangeTestResult.from_curve(rates, 1.0 - rates).to_csv(path)
    whole = path.read_bytes()
    digits = [place for place in range(len(whole)) if whole[place : place + 1] in b"12345678"]
    damaged = [whole[:length] for length in range(len(whole))]
    damaged += [whole[:place] + b"9" + whole[place + 1 :] for place in digits]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"curve\.csv is (damaged|not a curve)"):
            RangeTestResult.from_csv(path)


@pytest.mark.full
def test_the_picture_names_what_it_shows():
    axes = quick().run(network(), X, Y).plot()
    below = axes.figure.axes[1]
    assert axes.get_xscale() == below.get_xscale() == "log"
    assert axes.get_xlim() == below.get_xlim()
    assert below.get_xlabel() == "learning rate"
    assert axes.get_ylabel() == "loss"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "smoothed" in labels


LOGS = np.linspace(-6.0, 1.0, 60)
DIP = -0.5 * np.exp(-(((LOGS + 1.0) / 0.6) ** 2)) + np.exp(8.0 * (LOGS - 0.2))


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize(
    "losses",
    [
        1.0 + DIP + 2.0 * np.exp(-(((LOGS + 3.5) / 0.4) ** 2)),
        np.append(1.1, 1.4 + 0.2 * np.sin(np.arange(59) ** 2)),
    ],
    ids=["a hump before the fall", "flat from a low first value"],
)
def test_the_picture_holds_the_smoothed_curve_as_far_as_it_falls(losses, up):
    values = -losses if up else losses
    axes = RangeTestResult.from_curve(10.0**LOGS, values, up=up).plot()
    (line,) = (one for one in axes.lines if one.get_label() == "smoothed")
    smoothed = np.asarray(line.get_ydata())
    best = int((-smoothed if up else smoothed).argmin())
    low, high = axes.get_ylim()
    room = 0.02 * (high - low)
    shown = smoothed[: best + 1] if best else smoothed
    assert low + room < shown.min()
    assert shown.max() < high - room
    assert high - low < 10.0


def test_the_legend_is_in_front_of_the_slope():
    axes = RangeTestResult.from_curve(10.0**LOGS, 1.0 + DIP).plot()
    (slope,) = (one for one in axes.figure.axes if "slope" in one.get_ylabel())
    assert axes.get_zorder() > slope.get_zorder()


@pytest.mark.full
@pytest.mark.parametrize(("noise", "scale"), [(0.0, "log"), (1.0, "linear")])
def test_final_losses_that_vanish_at_some_rates_are_told_apart(noise, scale):
    random = np.random.default_rng(0)
    x = random.normal(size=(640, 4)).astype("float32")
    y = x.sum(1, keepdims=True) + noise * random.normal(size=(640, 1))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(), "mse")
    result = LRRangeTest(verbose=0).run(model, x, y)
    assert result.plot().figure.axes[1].get_yscale() == scale
