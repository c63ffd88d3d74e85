"""The search: few steps, always an answer where something can be learnt."""

import numpy as np
import pytest

from keras_lr.range_rules import NoSuggestion
from keras_lr.range_search import search


class Quadratic:
    """Noisy descent on ``sum(c * w**2) / 2``; stable below ``2 / max(c)``."""

    def __init__(self, scale=1.0, noise=0.02, curvature=(10.0, 1.0, 0.3), learns=True):
        self.scale, self.noise, self.learns = scale, noise, learns
        self.curvature = np.array(curvature)
        self.calls = []

    def train(self, rates):
        rng, w, losses = np.random.default_rng(0), np.ones(len(self.curvature)), []
        for rate in rates:
            loss = 0.5 * self.curvature @ w**2 + 0.05 + self.noise * rng.normal()
            losses.append(self.scale * loss)
            if loss > 1e6:
                return np.array([*losses[:-1], np.nan])
            if self.learns:
                w = w - rate * self.curvature * w
        return np.array(losses)

    def ramp(self, min_lr, max_lr, steps):
        self.calls.append(("ramp", min_lr, max_lr, steps))
        return self.train(np.geomspace(min_lr, max_lr, steps))

    def hold(self, rate, steps):
        self.calls.append(("hold", rate, steps))
        return self.train(np.full(steps, rate))


def test_it_finds_the_rate_and_keeps_to_the_budget():
    found = search(Quadratic(), normalizes=False)
    assert 0.03 < found.suggestion < 0.2
    assert found.steps <= 300
    assert found.steps == len(found.losses) + sum(map(len, found.holds.values()))
    assert found.bounds[0] < found.suggestion < found.bounds[1]
    assert 0.0 <= found.confidence <= 1.0
    assert "short runs" in found.report


def test_a_normalizing_optimizer_stays_further_below():
    sgd, adam = (search(Quadratic(), normalizes=n) for n in (False, True))
    assert sgd.bounds[1] == adam.bounds[1]
    assert adam.suggestion == pytest.approx(sgd.suggestion * 10**-0.4)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_unit_of_the_loss_does_not_matter(scale):
    assert search(Quadratic(scale=scale)).suggestion == pytest.approx(
        search(Quadratic()).suggestion
    )


@pytest.mark.parametrize(
    ("curvature", "expected"),
    [((1e6, 1e5), 1e-6), ((1e-3, 1e-4), 1e3)],
    ids=["far below the range", "far above it"],
)
def test_a_range_in_the_wrong_place_is_moved(curvature, expected):
    runs = Quadratic(curvature=curvature, noise=1e-6)
    found = search(runs, min_lr=1e-4, max_lr=1.0, normalizes=False)
    assert expected / 5 < found.suggestion < expected * 3
    assert found.steps <= 300
    assert [call[0] for call in runs.calls].count("ramp") == 2


@pytest.mark.parametrize(("steps", "budget"), [(100, 300), (40, 100), (100, 124), (20, 1000)])
def test_the_budget_is_never_exceeded(steps, budget):
    for runs in (Quadratic(), Quadratic(noise=0.2), Quadratic(curvature=(100.0,))):
        found = search(runs, steps=steps, budget=budget)
        assert found.steps <= budget
        assert sum(call[0] == "hold" for call in runs.calls) >= 3


def test_what_cannot_be_learnt_has_no_suggestion():
    with pytest.raises(NoSuggestion, match="Nothing was learnt"):
        search(Quadratic(learns=False))

    class Broken(Quadratic):
        def train(self, rates):
            return np.array([np.nan])

    with pytest.raises(NoSuggestion, match="Diverged at every rate"):
        search(Broken())


def test_a_budget_without_room_is_an_error():
    with pytest.raises(ValueError, match=r"at least 24 steps.*budget=110"):
        search(Quadratic(), steps=100, budget=110)
