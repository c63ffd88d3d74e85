"""The statistics and the tables of the benchmarks."""

import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks.measure import HEAD, Row, pairs, table


def test_pairs_are_neighbours_that_begin_by_turns():
    order = []
    ratios, cpu = pairs(lambda: order.append("new"), lambda: order.append("old"), 4)
    assert order == ["new", "old", "old", "new"] * 2
    assert len(ratios) == len(cpu) == 4


def test_a_run_may_time_itself():
    ratios, cpu = pairs(lambda: (3.0, 8.0), lambda: (2.0, 2.0), 2)
    assert ratios == [1.5, 1.5]
    assert cpu == [4.0, 4.0]


def test_what_takes_longer_has_the_higher_ratio():
    ratios, _ = pairs(lambda: time.sleep(0.02), lambda: time.sleep(0.001), 3)
    assert np.median(ratios) > 1.0


def test_the_error_of_a_median():
    sample = np.random.default_rng(0).normal(1.0, 0.1, (400, 101))
    found = np.mean([Row("", "", row.tolist()).error for row in sample])
    # By theory sqrt(pi / 2) sigma / sqrt(n).
    assert found == pytest.approx(1.2533 * 0.1 / 101**0.5, rel=0.05)
    assert np.median(sample, axis=1).std() == pytest.approx(found, rel=0.15)


@pytest.mark.parametrize(
    ("ratios", "goal", "least", "met"),
    [
        ([1.0, 1.01, 9.0], 1.02, False, True),
        ([1.03, 1.04, 0.9], 1.02, False, False),
        ([11.0, 12.0, 1.0], 10.0, True, True),
        ([9.0], 10.0, True, False),
        ([9.0], None, False, None),
    ],
)
def test_a_goal_is_met_by_the_median(ratios, goal, least, met):
    row = Row("ours", "theirs", ratios, goal=goal, least=least)
    assert row.met is met
    text = table([row], markdown=True).splitlines()
    assert [cell.strip() for cell in text[0].strip("|").split("|")] == HEAD
    assert text[1].count("|") == text[2].count("|") == len(HEAD) + 1
    assert ("yes" in text[2], "no" in text[2].split()) == (met is True, met is False)


def test_an_unknown_benchmark_is_named():
    command = [sys.executable, "-m", "benchmarks", "fitz"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert "unknown: fitz. Known: fits," in result.stderr
