"""Pictures: labels, axes and what is drawn, asked of the axes that come back."""

import dataclasses
import functools

import keras
import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.cbook import pts_to_poststep
from matplotlib.figure import Figure

from keras_lr import (
    Constant,
    CosineDecay,
    Function,
    LinearDecay,
    OneCycle,
    PiecewiseConstant,
    TriangularCLR,
    plotting,
)
from keras_lr.history.plot import plot_history, plot_run
from keras_lr.plotting.downsampling import downsample_extrema


def halving(epoch, first=0.1):
    return first * 0.5**epoch


@dataclasses.dataclass
class Record:
    """A history with given arrays."""

    learning_rate: np.ndarray
    loss: np.ndarray
    step: np.ndarray
    epoch: np.ndarray

    def __getitem__(self, name):
        return getattr(self, name)

    def __len__(self):
        return len(self.step)


def record(rate, loss=None, steps_per_epoch=10):
    step = np.arange(len(rate))
    loss = np.full(len(rate), np.nan) if loss is None else loss
    return Record(np.asarray(rate), np.asarray(loss), step, step // steps_per_epoch)


def axes_of_loss(ax):
    (twin,) = [other for other in ax.figure.axes if other is not ax]
    return twin


def across(line):
    """Return where the strokes of a line that run from left to right begin and end, and their y."""
    assert line.get_drawstyle() == "steps-post"
    x, y = pts_to_poststep(*line.get_data())
    flat = [(a, b, c) for a, b, c, d in zip(x, x[1:], y, y[1:], strict=False) if a < b and c == d]
    return [tuple(map(float, stroke)) for stroke in flat]


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


COSINE = 0.05 * (1 + np.cos(np.linspace(0, np.pi, 200)))


class TestCurves:
    def test_draws_every_value_over_epochs_and_says_what_it_is(self):
        ax = plotting.plot_curves({"CosineDecay(0.1)": COSINE}, steps_per_epoch=50)
        (line,) = ax.lines
        # The last value holds until the step ends.
        np.testing.assert_array_equal(line.get_ydata(), [*COSINE, COSINE[-1]])
        np.testing.assert_allclose(line.get_xdata(), np.arange(201) / 50)
        assert ax.get_xlabel() == "epochs"
        assert ax.get_ylabel() == "learning rate"
        assert ax.get_title() == "CosineDecay(0.1): learning rate over 4 epochs"
        (above,) = ax.child_axes
        assert above.get_xlabel() == "steps"
        ax.figure.canvas.draw()
        assert above.get_xlim() == pytest.approx((0, 200))

    def test_the_title_of_a_long_composition_names_what_it_is_made_of(self):
        rate = LinearDecay(0.0, 0.123456, over="1 epochs") >> (0.5 * CosineDecay(0.123456)).clip(
            min=0.001, max=0.1
        )
        ax = rate.plot(epochs=4, steps_per_epoch=10)
        assert ax.get_title() == (
            "Sequence of LinearDecay, CosineDecay: learning rate over 4 epochs"
        )

    def test_the_title_of_one_shape_is_what_one_types(self):
        rate = TriangularCLR(0.001, 0.006, step_size="2000 steps", mode="exp_range", gamma=0.99994)
        title = rate.plot(epochs=4, steps_per_epoch=10).get_title()
        assert title.replace("\n", " ") == f"{rate!r}: learning rate over 4 epochs"

    def test_a_title_has_no_more_digits_than_one_reads(self):
        title = CosineDecay(0.0284397544081606).plot(epochs=4, steps_per_epoch=10).get_title()
        assert title == "CosineDecay(initial_lr=0.0284398): learning rate over 4 epochs"

    def test_narrow_axes_have_fewer_labels(self):
        left = plt.figure(figsize=(7, 3)).add_subplot(1, 2, 1)
        plotting.plot_curves({"a": COSINE}, 391, ax=left)
        wide = plotting.plot_curves({"a": COSINE}, 391)
        assert len(left.get_xticks()) <= 4 < len(wide.get_xticks())

    def test_a_very_long_title_is_cut(self):
        rate = PiecewiseConstant(range(1, 60), np.geomspace(1, 1e-3, 60))
        title = rate.plot(epochs=4, steps_per_epoch=10).get_title()
        assert title.startswith("PiecewiseConstant(boundaries=(1, 2, 3,")
        assert title.endswith(" ...): learning rate over 4 epochs")
        assert len(title) < 190

    @pytest.mark.parametrize(
        ("fn", "name"),
        [
            (lambda epoch: 0.1, "lambda"),
            (halving, "halving"),
            (functools.partial(halving, first=0.2), "functools.partial(halving, first=0.2)"),
            (keras.optimizers.schedules.CosineDecay(0.1, 100), "CosineDecay"),
        ],
    )
    def test_the_title_of_a_function_says_its_name(self, fn, name):
        rate = Function(fn)
        assert rate.plot(epochs=4, steps_per_epoch=10).get_title() == (
            f"Function(fn={name}): learning rate over 4 epochs"
        )
        assert repr(fn) in repr(rate)
        title = rate.warmup(1).plot(epochs=4, steps_per_epoch=10).get_title()
        assert " at 0x" not in title

    def test_title_and_axes_may_be_given(self):
        figure = Figure()
        ax = figure.add_subplot()
        assert plotting.plot_curves({"a": COSINE}, 1, ax=ax, title="Mine") is ax
        assert ax.get_title() == "Mine"
        assert not ax.child_axes, "steps are epochs here"
        assert not plt.get_fignums(), "pyplot has nothing to do with axes that are given"

    def test_several_curves_differ_without_colour(self):
        curves = {str(number): COSINE * number for number in range(1, 7)}
        ax = plotting.plot_curves(curves, 10)
        assert len({line.get_linestyle() + str(line._dash_pattern) for line in ax.lines}) == 6
        assert legend_of(ax) == list(curves)

    @pytest.mark.parametrize("count", [3, 5, 12, 30])
    @pytest.mark.parametrize("name", ["run {}", "finetune {}.json [0] head_optimizer's Warmup"])
    def test_many_names_go_below_axes_as_wide_as_those_of_one_curve(self, count, name):
        alone = plotting.plot_curves({"a": COSINE}, 50)
        ax = plotting.plot_curves({name.format(i): COSINE for i in range(count)}, 50)
        for one in (alone, ax):
            one.figure.draw_without_rendering()
        box, names = ax.get_window_extent(), ax.get_legend().get_window_extent()
        assert names.y1 < ax.xaxis.label.get_window_extent().y0
        assert 0 <= names.x0 < names.x1 <= ax.figure.bbox.x1
        assert names.y0 >= 0
        assert box.width > 0.95 * alone.get_window_extent().width
        assert box.height > 0.95 * alone.get_window_extent().height

    def test_panels_give_a_name_one_look(self):
        rates = dict.fromkeys("abc", COSINE)
        panels = {"learning rate": (rates, None), "momentum": ({"c": COSINE, "d": COSINE}, "Two")}
        above, below = plotting.plot_panels(panels, 50).axes
        assert above.get_ylabel() == "learning rate"
        assert (below.get_ylabel(), below.get_title()) == ("momentum", "Two")
        looks = [
            {line.get_label(): (line.get_color(), line.get_linestyle()) for line in ax.lines}
            for ax in (above, below)
        ]
        assert looks[0]["c"] == looks[1]["c"]
        assert looks[1]["d"] not in looks[0].values()

    @pytest.mark.parametrize(
        ("curve", "scale"),
        [
            (np.geomspace(0.1, 1e-4, 100), "log"),
            (np.geomspace(0.1, 2e-3, 100), "linear"),
            (0.1 * 0.1 ** (np.arange(100) // 25), "log"),
            (COSINE, "linear"),
            (np.linspace(0, 0.1, 100), "linear"),
            (np.zeros(10), "linear"),
            (np.array([0.1]), "linear"),
        ],
    )
    def test_log_axis_where_rates_differ_by_more_than_two_decades(self, curve, scale):
        assert plotting.plot_curves({"rate": curve}, 10).get_yscale() == scale

    def test_constant_of_little_size_beside_a_large_one_is_told_apart(self):
        ax = plotting.plot_curves({"large": np.full(9, 1.0), "small": np.full(9, 1e-3)}, 3)
        assert ax.get_yscale() == "log"

    def test_zeros_leave_a_log_axis_below(self):
        curve = np.append(np.geomspace(0.1, 1e-4, 50), np.zeros(10))
        ax = plotting.plot_curves({"rate": curve}, 10)
        assert ax.get_yscale() == "log"
        assert 0 < ax.get_ylim()[0] < 1e-4
        assert "0 lies below" in ax.get_ylabel()
        ax.figure.canvas.draw()

    def test_long_curve_keeps_its_spikes_in_few_points(self):
        curve = np.full(1_000_003, 0.1)
        curve[[123_456, 1_000_002]] = 1.0, 0.0
        (line,) = plotting.plot_curves({"rate": curve}, 1000).lines
        assert len(line.get_ydata()) <= 4000
        assert {0.0, 0.1, 1.0} == set(line.get_ydata())
        assert line.get_xdata()[-1] == pytest.approx(1000.003)

    def test_every_step_is_drawn_the_last_one_too(self):
        ax = Constant(1e-3).plot(epochs=1, steps_per_epoch=1)
        assert across(ax.lines[0]) == [(0, 1, 1e-3)]
        (line,) = plotting.plot_curves({"rate": [1.0, 2.0, 4.0]}, 1).lines
        assert across(line) == [(0, 1, 1.0), (1, 2, 2.0), (2, 3, 4.0)]

    def test_few_steps_are_counted_in_whole_numbers(self):
        (above,) = plotting.plot_curves({"rate": [1.0, 2.0]}, 2).child_axes
        above.figure.canvas.draw()
        assert [label.get_text() for label in above.get_xticklabels()] == ["0", "1", "2"]

    @pytest.mark.parametrize(
        ("curves", "steps_per_epoch", "words"),
        [
            ({}, 10, "at least one curve"),
            ({"a": []}, 10, "one value a step"),
            ({"a": [[1.0]]}, 10, "one value a step"),
            ({"a": [1.0]}, 0, "steps_per_epoch=0"),
            ({"a": [1.0]}, float("nan"), "steps_per_epoch=nan"),
        ],
    )
    def test_nothing_to_draw_is_an_error(self, curves, steps_per_epoch, words):
        with pytest.raises(ValueError, match=words):
            plotting.plot_curves(curves, steps_per_epoch)
        with pytest.raises(ValueError, match=words):
            plotting.gallery(curves, steps_per_epoch)


class TestHistory:
    def test_rate_left_and_loss_right_over_steps(self):
        loss = np.linspace(3, 1, 200)
        ax = plot_history(record(COSINE, loss))
        twin = axes_of_loss(ax)
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("steps", "learning rate")
        assert twin.get_ylabel() == "loss"
        assert "200 steps" in ax.get_title()
        raw, smooth = (line for line in twin.lines if "loss" in line.get_label())
        np.testing.assert_array_equal(raw.get_ydata(), loss)
        assert raw.get_linewidth() < smooth.get_linewidth()
        np.testing.assert_allclose(smooth.get_ydata()[10:-10], loss[10:-10], rtol=1e-6)

    def test_loss_axis_is_logarithmic_when_the_loss_falls_tenfold(self):
        for last, scale in ((1.0, "linear"), (0.01, "log")):
            ax = plot_history(record(COSINE, np.geomspace(3, last, 200)))
            assert axes_of_loss(ax).get_yscale() == scale

    def test_negative_loss_stays_linear(self):
        ax = plot_history(record(COSINE, np.linspace(1, -100, 200)))
        assert axes_of_loss(ax).get_yscale() == "linear"

    def test_mean_passes_over_what_is_missing_or_infinite(self):
        loss = np.full(400, 2.0)
        loss[5::7], loss[6::7] = np.nan, np.inf
        twin = axes_of_loss(plot_history(record(np.ones(400), loss)))
        *_, smooth = (line for line in twin.lines if "loss" in line.get_label())
        np.testing.assert_allclose(smooth.get_ydata(), 2.0)
        assert twin.get_ylabel() == "loss (not finite at 114 steps)"

    def test_without_loss_only_the_rate_is_drawn(self):
        ax = plot_history(record(COSINE))
        assert ax.figure.axes == [ax]
        assert legend_of(ax) == ["learning rate"]

    def test_restarts_and_reductions_are_marked_where_they_take_effect(self):
        rate = np.concatenate([np.linspace(1, 0.01, 50), np.linspace(1, 0.5, 50), np.full(50, 0.1)])
        ax = plot_history(record(rate))
        marks = {line.get_label(): list(line.get_xdata()) for line in ax.lines}
        assert marks["sudden rise"] == [50]
        assert marks["sudden fall"] == [100]

    @pytest.mark.parametrize("rate", [COSINE, np.linspace(0, 1, 50), np.geomspace(1, 1e-6, 20)])
    def test_smooth_rates_carry_no_marks(self, rate):
        assert legend_of(plot_history(record(rate))) == ["learning rate"]

    def test_epochs_are_marked_and_numbered_from_zero(self):
        (above,) = plot_history(record(COSINE, steps_per_epoch=50)).child_axes
        assert list(above.get_xticks()) == [0, 50, 100, 150]
        assert [label.get_text() for label in above.get_xticklabels()] == ["0", "1", "2", "3"]

    def test_many_epochs_get_few_marks(self):
        (above,) = plot_history(record(np.ones(3000), steps_per_epoch=1)).child_axes
        assert 5 <= len(above.get_xticks()) <= 16

    def test_training_that_begins_later_is_drawn_where_it_ran(self):
        late = record(COSINE)
        late.step, late.epoch = late.step + 1000, late.epoch + 100
        ax = plot_history(late)
        assert ax.get_xlim() == (1000, 1200)

    def test_steps_that_begin_again_are_drawn_one_after_the_other(self):
        twice = record(np.tile(COSINE, 2))
        twice.step %= 200
        ax = plot_history(twice)
        assert "several fits" in ax.get_xlabel()
        assert ax.get_xlim() == (0, 400)

    def test_long_history_keeps_its_spikes_in_few_points(self):
        loss = np.full(1_000_000, 1.0, np.float32)
        loss[777_777] = 50
        ax = plot_history(record(np.ones(1_000_000, np.float32), loss, 1000))
        lines = ax.lines[:] + axes_of_loss(ax).lines[:]
        assert max(len(line.get_xdata()) for line in lines) <= 4000
        assert axes_of_loss(ax).lines[0].get_ydata().max() == 50

    @pytest.mark.parametrize("steps", [1, 2, 5])
    def test_few_steps(self, steps):
        ax = plot_history(record(np.full(steps, 0.1), np.ones(steps)))
        ax.figure.canvas.draw()
        assert "loss of a batch" in legend_of(ax)

    def test_every_step_is_drawn_the_last_one_too(self):
        ax = plot_history(record([0.1, 0.2]))
        assert across(ax.lines[0]) == [(0, 1, 0.1), (1, 2, 0.2)]
        assert ax.get_xlim() == (0, 2)

    def test_a_fit_of_one_step_is_drawn(self):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        rate = Constant(0.125)
        model.fit(np.ones((4, 1)), np.ones((4, 1)), verbose=0, callbacks=[rate])
        ax = rate.history.plot()
        assert across(ax.lines[0]) == [(0, 1, 0.125)]
        assert ax.get_title() == "Learning rate and loss over 1 step"
        (dot,) = [line for line in axes_of_loss(ax).lines if line.get_marker() == "o"]
        np.testing.assert_array_equal(dot.get_ydata(), rate.history.loss)
        assert legend_of(ax) == ["learning rate", "loss of a batch"]

    def test_a_loss_with_none_beside_it_is_drawn(self):
        loss = np.array([1.0, 2.0, np.nan, 3.0, np.nan, np.inf])
        *_, dots = axes_of_loss(plot_history(record(np.ones(6), loss))).lines
        assert list(zip(dots.get_xdata(), dots.get_ydata(), strict=True)) == [(3, 3.0)]

    def test_what_else_was_recorded_can_stand_beside_the_rate(self):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(momentum=0.9), "mse", metrics=["mae"])
        cycle = OneCycle(0.1)
        x = np.ones((40, 1))
        model.fit(x, x, batch_size=2, verbose=0, callbacks=[cycle])
        for name in ("momentum", "mae"):
            ax = cycle.history.plot(beside=name)
            (line,) = (line for line in axes_of_loss(ax).lines if line.get_label() == name)
            *values, again = line.get_ydata()
            np.testing.assert_array_equal(values, cycle.history[name])
            assert again == values[-1]
            assert ax.get_title() == f"Learning rate and {name} over 20 steps"
            assert legend_of(ax)[-1] == axes_of_loss(ax).get_ylabel() == name
        with pytest.raises(KeyError, match=r"'acc' was not recorded\. Recorded: .*momentum"):
            cycle.history.plot(beside="acc")
        assert len(plt.get_fignums()) == 2

    def test_empty_history_is_an_error(self):
        with pytest.raises(ValueError, match="history is empty"):
            plot_history(record([]))

    def test_given_axes_are_used(self):
        ax = Figure().add_subplot()
        assert plot_history(record(COSINE, COSINE + 1), ax=ax) is ax
        assert not plt.get_fignums()


def test_run_has_the_metrics_at_the_end_of_each_epoch():
    figure = plot_run(
        record(COSINE, COSINE + 1, steps_per_epoch=50),
        {"validation": [0.8, 0.9, 0.95, 0.96]},
        title="A run",
        target=0.95,
    )
    assert "A run" in {ax.get_title() for ax in figure.axes}
    (below,) = [ax for ax in figure.axes if ax.get_ylabel() == "accuracy"]
    assert list(below.lines[0].get_xdata()) == [49, 99, 149, 199]
    assert list(below.lines[0].get_ydata()) == [0.8, 0.9, 0.95, 0.96]
    assert below.texts[0].get_text() == "95%"


def test_a_long_title_of_a_run_is_all_in_the_picture():
    title = " ".join(["Sequence(LinearDecay(0.1),"] * 8)
    run = record(COSINE, COSINE + 1, steps_per_epoch=50)
    figure = plot_run(run, {"validation": [0.8, 0.9, 0.95, 0.96]}, title=title)
    figure.draw_without_rendering()
    (top,) = [ax for ax in figure.axes if ax.get_title()]
    assert top.get_title().replace("\n", " ") == title
    box = top.title.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1


class TestGallery:
    def test_one_panel_for_each_curve_with_its_name(self):
        curves = {f"Shape {number}": COSINE for number in range(5)}
        figure = plotting.gallery(curves, 50, columns=3)
        assert [ax.get_title() for ax in figure.axes if ax.get_visible()] == list(curves)
        assert figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == (2, 3)
        assert figure.get_supxlabel() == "epochs"
        assert figure.get_supylabel() == "learning rate"

    def test_no_more_columns_than_curves(self):
        assert len(plotting.gallery({"only": COSINE}, 50).axes) == 1

    def test_columns_must_be_positive(self):
        with pytest.raises(ValueError, match="columns=0"):
            plotting.gallery({"a": COSINE}, 50, columns=0)

    def test_close_writes_the_picture_and_forgets_the_figure(self, tmp_path):
        plotting.close(plotting.gallery({"a": COSINE}, 50), tmp_path / "gallery.png")
        assert (tmp_path / "gallery.png").read_bytes().startswith(b"\x89PNG")
        assert not plt.get_fignums()


@pytest.mark.parametrize("curve", [[0.1], COSINE])
def test_a_small_picture_is_one_smooth_line_to_the_end(curve):
    (line,) = plotting.sparkline(curve).axes[0].lines
    assert line.get_drawstyle() == "default"
    assert line.get_xdata()[-1] == len(curve)
    assert list(line.get_ydata()) == [*curve, curve[-1]]


def test_thinning_keeps_short_arrays_and_ends_and_extremes():
    np.testing.assert_array_equal(downsample_extrema(np.arange(7), buckets=4), np.arange(7))
    noise = np.random.default_rng(0).normal(size=98_765)
    noise[::100] = np.nan
    kept = downsample_extrema(noise, buckets=100)
    assert len(kept) <= 210
    assert (np.diff(kept) > 0).all()
    assert {0, 98_764, np.nanargmin(noise), np.nanargmax(noise)} <= set(kept)
