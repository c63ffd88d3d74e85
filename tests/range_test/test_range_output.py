"""What a range test prints: a progress bar and its report, or nothing."""

import re

import pytest
from models import X, Y, network
from short_tests import Stop, quick

from keras_lr import LRRangeTest

pytestmark = pytest.mark.core


@pytest.mark.full
def test_it_says_nothing_unless_asked(capsys):
    quick().run(network(), X, Y)
    assert capsys.readouterr().out == ""
    result = quick(verbose=1).run(network(), X, Y)
    shown = capsys.readouterr().out
    assert "rate" in shown
    assert shown.endswith(f"{result.report()}\n")


@pytest.mark.parametrize(
    ("own", "run", "bar", "words"),
    [
        (1, 0, False, False),
        pytest.param(0, 1, True, True, marks=pytest.mark.full),
        (0, 2, True, True),
        pytest.param(0, "auto", True, True, marks=pytest.mark.full),
        pytest.param(0, True, True, True, marks=pytest.mark.full),
        pytest.param(1, False, False, False, marks=pytest.mark.full),
    ],
)
def test_verbose_is_taken_as_fit_takes_it(capsys, own, run, bar, words):
    test = LRRangeTest(steps=20, budget=60, rule="edge", verbose=own)
    result = test.run(network(), X, Y, verbose=run)
    shown = capsys.readouterr().out
    assert ("rate" in shown.removesuffix(f"{result.report()}\n")) is bar
    assert shown.endswith(f"{result.report()}\n") is words
    assert shown.count("/step - rate") == 1 or run != 2
    assert test.verbose == own


@pytest.mark.parametrize("verbose", [3, -1, "loud", None, [1]])
def test_verbose_that_fit_does_not_take_is_refused(verbose):
    with pytest.raises(ValueError, match=r"`verbose` must be 0, 1, 2 or 'auto'"):
        LRRangeTest(verbose=0).run(network(), X, Y, verbose=verbose)


@pytest.mark.full
@pytest.mark.parametrize(
    ("arguments", "most", "trained"),
    [
        ({}, 60, False),
        ({"repeats": 2}, 90, False),
        ({"rule": "edge", "repeats": 2}, 40, False),
        ({"rule": "edge"}, 40, True),
        ({"monitor": "val_loss", "validate_every": 7}, 3, False),
    ],
)
def test_the_progress_bar_knows_the_most_steps_and_ends_full(capsys, arguments, most, trained):
    model = network()
    if trained:
        model.fit(X, Y, verbose=0)
    quick(verbose=1, **arguments).run(model, X, Y, validation_data=(X, Y))
    shown = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
    counts = [tuple(map(int, pair)) for pair in re.findall(r"(\d+)/(\d+) ", shown)]
    assert counts[0] == (1, most)
    taken, target = counts[-1]
    assert taken == target <= most
    assert "Unknown" not in shown
    assert "Epoch" not in shown


def test_an_interrupted_progress_bar_stays_where_it_was(capsys):
    with pytest.raises(KeyboardInterrupt):
        quick(verbose=1).run(network(), X, Y, callbacks=[Stop(KeyboardInterrupt())])
    shown = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
    assert re.findall(r"(\d+/\d+) ", shown)[-1] in ("3/60", "4/60")
    assert shown.endswith("\n")
