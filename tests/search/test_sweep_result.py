"""What a result tells of trials whose numbers are given by hand."""

import csv
import math

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from keras_lr.range_test import NoSuggestion
from keras_lr.search import SweepResult
from keras_lr.search.results.rows import Criterion
from keras_lr.search.trials.description import Group, Outcome, Trial

SGD = Group("", "SGD")


def outcome(rate, seed, values, group=SGD, status="trained", name="loss", epochs=None, **more):
    epochs = epochs or len(values)
    marks = [(10 * (n + 1), 0.5 * (n + 1)) for n in range(len(values))]
    return Outcome(
        Trial(*group, rate, seed), (epochs,), status, epochs=len(values), steps=10 * len(values),
        seconds=0.5 * len(values), logs={name: values}, marks=marks, **more,
    )  # fmt: skip


def result(outcomes, up=False, until="", epochs=1, monitor="loss", groups=(SGD,)):
    criterion = Criterion(monitor, up, until, epochs)
    rows = sorted((criterion.row([one]) for one in outcomes), key=lambda row: row.trial)
    return SweepResult(tuple(rows), criterion, tuple(groups))


def valley(values, **more):
    """Return the result of losses by rate, one for each seed."""
    return result(
        [
            outcome(rate, seed, [value])
            for rate, some in values.items()
            for seed, value in enumerate(some)
        ],
        **more,
    )


def test_the_best_rate_is_that_of_the_lowest_mean():
    best = valley({0.01: [3.0, 3.2], 0.1: [1.0, 1.2], 1.0: [0.9, 9.0]}).best
    assert (best.learning_rate, best.value, best.end) == (0.1, pytest.approx(1.1), "")
    assert valley({0.1: [1.0], 1.0: [2.0]}, up=True).best.learning_rate == 1.0


def test_the_band_is_as_wide_as_the_spread_of_the_seeds():
    values = {
        0.001: [1.4, 1.6],
        0.01: [1.0, 1.2],
        0.1: [0.9, 1.1],
        1.0: [1.1, 1.25],
        10.0: [5.0, 9.0],
        100.0: [1.0, 1.0],
    }
    best = valley(values).best
    # Deviations at 0.01, 0.1 and 1 are 0.141, 0.141 and 0.106, and 100 lies beyond a hill.
    assert best.learning_rate == 0.1
    assert best.spread == pytest.approx(math.sqrt(0.02))
    assert best.band == (0.01, 0.1)


def test_a_cliff_beside_the_best_does_not_widen_the_band():
    best = valley({0.01: [1.5, 1.6], 0.1: [1.0, 1.1], 1.0: [1.2, 80.0]}).best
    assert best.spread == pytest.approx(0.1 / math.sqrt(2))
    assert best.band == (0.1, 0.1)


def test_one_seed_has_no_spread():
    found = valley({0.01: [1.0], 0.1: [1.0001]})
    assert math.isnan(found.best.spread)
    assert found.best.band == (0.01, 0.01)
    assert "one seed does not tell" in found.report()


@pytest.mark.parametrize(
    ("losses", "end"), [([1, 2, 3], "lowest"), ([3, 2, 1], "highest"), ([2, 1, 3], "")]
)
def test_the_end_of_the_range(losses, end):
    found = valley({rate: [loss] for rate, loss in zip([0.01, 0.1, 1.0], losses, strict=True)})
    assert found.best.end == end


def test_fewer_steps_to_the_target_are_better_than_a_better_value():
    until = "accuracy >= 0.9"
    rows = [
        outcome(0.01, 0, [0.5, 0.8, 0.99], name="accuracy", status="reached"),
        outcome(0.1, 0, [0.7, 0.9], name="accuracy", status="reached"),
        outcome(1.0, 0, [0.9], name="accuracy", status="reached"),
        outcome(1.0, 1, [0.1, 0.1, 0.1], name="accuracy"),
        *(outcome(rate, 1, [0.5, 0.9], name="accuracy", status="reached") for rate in (0.01, 0.1)),
    ]
    found = result(rows, up=True, until=until, epochs=3, monitor="accuracy")
    assert found.best.learning_rate == 0.1
    assert found.best.target == (2.0, 20.0, 1.0)
    mean, low, high = found.valleys[0].curve("steps")
    np.testing.assert_array_equal(mean, [25.0, 20.0, np.nan])
    np.testing.assert_array_equal(low, [20.0, 20.0, np.nan])
    np.testing.assert_array_equal(high, [30.0, 20.0, np.nan])


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (0.8, "accuracy >= 0.9 not reached; "),
        (0.9, "accuracy >= 0.9 not reached with every seed; "),
    ],
)
def test_a_target_that_was_missed_is_said(last, said):
    status = "reached" if last == 0.9 else "trained"
    rows = [
        outcome(0.1, 0, [0.5, 0.8], name="accuracy"),
        outcome(0.1, 1, [0.5, last], name="accuracy", status=status),
    ]
    found = result(rows, up=True, until="accuracy >= 0.9", epochs=2, monitor="accuracy")
    assert f"({said}accuracy " in found.report()


def test_a_rate_that_fails_with_one_seed_is_not_the_best():
    rows = [
        outcome(0.1, 0, [1.0]),
        outcome(0.1, 1, [1.0]),
        outcome(1.0, 0, [0.1]),
        outcome(1.0, 1, [], status="diverged", reason="the loss was nan in batch 4 of epoch 1"),
    ]
    found = result(rows)
    assert found.best.learning_rate == 0.1
    assert [row.trial.learning_rate for row in found.valleys[0].gaps()] == [1.0]
    assert "1 trial without a value, at 1 (the loss was nan in batch 4" in found.report()
    with pytest.raises(NoSuggestion, match="the loss was nan"):
        result(rows[2:]).best  # noqa: B018


def test_what_was_left_after_a_rung_is_not_the_best():
    found = result([outcome(0.1, 0, [3.0, 2.0, 1.0]), outcome(1.0, 0, [0.5])], epochs=3)
    assert found.best.learning_rate == 0.1
    assert [row.status for row in found.rows] == ["trained", "partial"]
    assert found.rows[1].reason == "trained for 1 of 3 epochs"


def test_stretches_of_a_trial_are_put_together():
    criterion = Criterion("loss", False, "", 3)
    first = outcome(0.1, 0, [3.0], epochs=1)
    second = Outcome(
        first.trial, (1, 3), "trained", epochs=2, steps=20, seconds=1.0,
        logs={"loss": [2.0, 1.0]}, marks=[(10, 0.5), (20, 1.0)], test={"loss": 4.0},
    )  # fmt: skip
    row = criterion.row([second, first])
    assert row.logs == {"loss": [3.0, 2.0, 1.0]}
    assert row.marks == [(10, 0.5), (20, 1.0), (30, 1.5)]
    assert (row.epochs, row.steps, row.seconds, row.value) == (3, 30, 1.5, 1.0)
    assert row.test == {"loss": 4.0}


def test_a_short_sweep_says_how_long_it_took():
    fast = Outcome(
        Trial("", "SGD", 0.1, 0), (1,), "trained", epochs=1, steps=10, seconds=0.0123,
        logs={"loss": [1.0]}, marks=[(10, 0.0123)],
    )  # fmt: skip
    assert (
        result([fast])
        .report()
        .startswith("1 trial, 0.012 s of training, compared by loss after 1 epoch.")
    )
    assert ", 1.0 s of training" in valley({0.1: [1.0], 1.0: [2.0]}).report()


def test_rows_are_written(tmp_path):
    rows = [outcome(0.1, 0, [2.0, 1.0], test={"loss": 1.5}), outcome(1.0, 0, [], status="failed")]
    found = result(rows, epochs=2)
    found.to_csv(tmp_path / "sweep.csv")
    with open(tmp_path / "sweep.csv") as file:
        written = list(csv.DictReader(file))
    assert written[0]["learning_rate"] == "0.1"
    assert (written[0]["loss"], written[0]["test_loss"]) == ("1.0", "1.5")
    assert (written[1]["status"], written[1]["loss"]) == ("failed", "")
    table = found.to_pandas()
    assert table.columns.tolist() == list(written[0])
    assert table.steps.tolist() == [20, 0]


# Pictures -----------------------------------------------------------------------------------------


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines() if line.get_label()[0] != "_"}


def test_the_picture_shows_the_means_and_marks_gaps_and_bands():
    adam = Group("", "Adam")
    rows = [
        *(outcome(rate, seed, [rate + seed]) for rate in (0.1, 1.0) for seed in (0, 1)),
        *(outcome(0.1, seed, [2.0], adam) for seed in (0, 1)),
        outcome(1.0, 0, [], adam, status="diverged", reason="nan"),
        outcome(1.0, 1, [5.0], adam),
    ]
    ax = result(rows, groups=(SGD, adam)).plot()
    drawn = lines(ax)
    assert list(drawn) == ["SGD", "Adam"]
    assert drawn["SGD"].get_ydata().tolist() == pytest.approx([0.6, 1.5])
    np.testing.assert_array_equal(drawn["Adam"].get_ydata(), [2.0, np.nan])
    crosses = [line for line in ax.get_lines() if line.get_marker() == "x"]
    assert [line.get_xdata().tolist() for line in crosses if len(line.get_xdata())] == [[1.0]]
    looks = [(line.get_linestyle(), line.get_marker()) for line in drawn.values()]
    assert len(set(looks)) == 2
    assert ax.get_xscale() == "log"
    (strip,) = (one for one in ax.collections if one.get_transform() == ax.transAxes)
    top = strip.get_paths()[0].vertices[:, 1].max()
    points = ax.transData.transform([(0.1, 0.6), (1.0, 1.5), (0.1, 2.0)])
    heights = ax.transAxes.inverted().transform(points)[:, 1]
    assert 0.0 < top < heights.min() < heights.max() < 1.0


def test_the_picture_of_a_training_is_at_the_best_rate():
    found = result([outcome(0.1, 0, [3.0, 2.0]), outcome(1.0, 0, [9.0, 8.0])], epochs=2)
    ax = found.plot(x="seconds")
    (line,) = lines(ax).values()
    assert line.get_label() == "SGD at 0.1"
    assert line.get_xdata().tolist() == [0.5, 1.0]
    assert line.get_ydata().tolist() == [3.0, 2.0]
    assert lines(found.plot(x="epochs"))["SGD at 0.1"].get_xdata().tolist() == [1.0, 2.0]


def test_the_picture_over_sizes():
    groups = [Group("1x", "SGD"), Group("4x", "SGD")]
    rows = [
        outcome(rate, 0, [abs(math.log10(rate / best))], group)
        for group, best in zip(groups, (0.1, 0.01), strict=True)
        for rate in (0.001, 0.01, 0.1, 1.0)
    ]
    found = result(rows, groups=groups)
    ax = found.plot("learning_rate", x="size")
    assert lines(ax)["SGD"].get_ydata().tolist() == [0.1, 0.01]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1x", "4x"]
    assert found.best_of("SGD", "4x").learning_rate == 0.01
    assert [best.size for best in found.bests] == ["1x", "4x"]


@pytest.mark.parametrize("last", [0.5, 50.0])
def test_no_spread_leaves_the_picture(last):
    """On a linear axis and on a logarithmic one."""
    groups = [Group("1x", "SGD"), Group("4x", "SGD")]
    losses = {groups[0]: [1.0, 1.9, last], groups[1]: [0.1, 0.2, 0.9]}
    rows = [
        outcome(rate, seed, [factor * loss], group)
        for group, some in losses.items()
        for rate, factor in ((0.1, 1.0), (1.0, 3.0))
        for seed, loss in enumerate(some)
    ]
    found = result(rows, groups=groups)
    for over in ("size", "learning_rate"):
        ax = found.plot(x=over)
        spreads = [one for one in ax.collections if isinstance(one, LineCollection)]
        ends = np.concatenate([path.vertices[:, 1] for one in spreads for path in one.get_paths()])
        low, high = ax.get_ylim()
        assert low < ends.min() < ends.max() < high
        assert ends.max() == (max(losses[groups[0]]) if over == "size" else 3 * max(1.9, last))


def test_a_training_is_over_whole_epochs_and_a_log_axis_has_plain_numbers():
    found = result([outcome(0.1, 0, [60.0, 2.0]), outcome(1.0, 0, [90.0, 80.0])], epochs=2)
    ax = found.plot(x="epochs")
    ax.figure.canvas.draw()
    assert all(label.get_text().isdecimal() for label in ax.get_xticklabels())
    axis = found.plot("loss").yaxis
    axis.figure.canvas.draw()
    written = [label.get_text() for label in axis.get_ticklabels(which="both")]
    assert {"10", "100"} <= {*written}
    assert not any("$" in text for text in written)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"y": "accuracy"}, r"`y` must be one of loss\. Received: y='accuracy'"),
        ({"y": "seconds"}, r"one of loss \(there is no target: until=None\)"),
        ({"x": "batches"}, r"`x` must be one of learning_rate, epochs, steps, seconds, size"),
        ({"y": "learning_rate"}, r"`y` must be one of loss"),
    ],
)
def test_names_that_a_picture_does_not_know(arguments, words):
    with pytest.raises(ValueError, match=words):
        valley({0.1: [1.0]}).plot(**arguments)


def test_a_sweep_without_a_value_draws_its_gaps():
    rows = [outcome(rate, 0, [], status="failed", reason="no") for rate in (0.1, 1.0)]
    rows.append(outcome(10.0, 0, [1.0], epochs=1))
    assert result(rows[:2] + rows[2:]).plot().get_xlabel().startswith("learning rate")


def test_an_optimizer_that_is_not_yet_trained_has_no_line():
    ax = result([outcome(0.1, 0, [1.0])], groups=(SGD, Group("", "Adam"))).plot()
    drawn = {name: line.get_xdata().tolist() for name, line in lines(ax).items()}
    assert drawn == {"SGD": [0.1], "Adam": []}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("up", [False, True])
def test_a_value_that_is_not_finite_is_a_gap(value, up):
    found = valley({0.001: [0.1, value], 0.01: [0.2, 0.2], 0.1: [0.2, 0.3]}, up=up)
    assert found.best.learning_rate == (0.1 if up else 0.01)
    assert [row.status for row in found.rows][:2] == ["trained", "diverged"]
    assert f"1 trial without a value, at 0.001 (loss was {value})" in found.report()
    assert np.isnan(found.valleys[0].curve("loss")[0]).tolist() == [True, False, False]


def test_there_is_no_best_rate_if_each_has_a_value_that_is_not_finite():
    found = valley({0.001: [0.1, math.nan], 0.01: [math.nan, math.nan]})
    for look in (lambda: found.best, lambda: found.best_of("SGD")):
        with pytest.raises(NoSuggestion, match="loss was nan"):
            look()
    assert "no best rate (loss was nan)" in found.report()
    assert found.bests == []


def test_a_target_reached_with_a_value_that_is_not_finite_is_a_gap():
    outcomes = [
        outcome(0.01, 0, [math.nan], status="reached", name="val_loss"),
        outcome(0.1, 0, [0.5], status="reached", name="val_loss"),
    ]
    found = result(outcomes, until="loss < 1", monitor="val_loss")
    assert found.best.learning_rate == 0.1
    assert found.rows[0].target is None
