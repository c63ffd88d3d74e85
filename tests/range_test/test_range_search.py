"""The search: few steps, always an answer where something can be learnt."""

import keras
import numpy as np
import pytest

from keras_lr import LRRangeTest
from keras_lr.range_test.curve import NoSuggestion
from keras_lr.range_test.search import search


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


class Turning:
    """Losses that are lowest at one rate in the first 60 steps, and at another from then on."""

    def __init__(self, first, later):
        self.lowest = first, later

    def ramp(self, min_lr, max_lr, steps):
        rates = np.geomspace(min_lr, max_lr, steps)
        return 1.0 + np.log10(rates / self.lowest[0]) ** 2

    def hold(self, rate, steps):
        first, later = (1.0 + np.log10(rate / lowest) ** 2 for lowest in self.lowest)
        return np.concatenate([[9.0], np.full(59, first), np.full(steps - 60, later)])


def test_longer_runs_are_also_read_after_60_steps():
    found = search(Turning(0.03, 0.003), budget=1000)
    assert found.run_length == 235
    assert found.bounds[1] == pytest.approx(0.003, rel=0.1)
    # The rates that were tried lie around 0.003, of which few are as high.
    assert 0.01 < found.early_best < 0.05
    assert found.advised_from == (found.early_best, 60)


def test_runs_that_are_not_longer_are_read_at_their_end():
    found = search(Quadratic(), budget=200)
    assert found.early_best is None
    assert found.advised_from == (found.bounds[1], found.run_length)


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


class Landscape:
    """Losses that fall within ten steps to a level given by the rate, with noise of their own.

    The ramp has its lowest far too high, at 2, as it comes there with all that it learnt before.
    """

    def __init__(self, levels, noise=0.0, first=4.0):
        self.levels, self.noise, self.first = levels, noise, first

    def at(self, rate):
        logs = sorted(self.levels)
        return np.interp(np.log10(rate), logs, [self.levels[log] for log in logs])

    def ramp(self, min_lr, max_lr, steps):
        return 1.0 + np.abs(np.log10(np.geomspace(min_lr, max_lr, steps) / 2.0))

    def hold(self, rate, steps):
        rng = np.random.default_rng(int(1e3 * abs(np.log10(rate))))
        losses = self.at(rate) + self.noise * rng.normal(size=steps)
        losses[:10] = np.linspace(self.first, losses[10], 10)
        return losses


def test_a_dent_within_the_noise_does_not_end_the_way_down():
    # Beyond the edge of stability the loss is about as high everywhere.
    levels = {-4: 4.0, -1.5: 2.9, -1: 3.26, -0.5: 3.25, 0: 3.3, 1: 4.0}
    found = search(Landscape(levels, noise=0.1))
    assert 0.005 < found.bounds[1] < 0.06
    sharp = search(Landscape(levels, noise=1e-4))
    assert sharp.bounds[1] > 0.1  # what is no noise is believed


def test_a_highest_rate_that_gains_nothing_is_not_taken():
    levels = {-6: 4.0, -3: 3.9, -1: 3.0, 0: 2.99, 1: 2.98}
    noisy, clear = (search(Landscape(levels, noise=n)) for n in (0.3, 1e-4))
    assert clear.bounds[1] == pytest.approx(max(clear.holds))
    assert noisy.bounds[1] < max(noisy.holds)


class Memory(Landscape):
    """Below 2, a loss that vanishes the sooner the higher the rate, as on data seen before."""

    def __init__(self, scale=1.0):
        self.scale = scale

    def ramp(self, min_lr, max_lr, steps):
        return self.train(np.geomspace(min_lr, max_lr, steps))

    def hold(self, rate, steps):
        return self.train(np.full(steps, rate))

    def train(self, rates):
        losses = self.scale * np.exp(-np.cumsum(rates))
        return np.append(losses[rates < 2.0], [np.nan] * int(rates.max() >= 2.0))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_data_seen_before_are_learnt_but_not_by_any_means(scale):
    fresh, seen = search(Memory(scale)), search(Memory(scale), epoch=8)
    left = Memory().hold(seen.bounds[1], 60)[-15:].mean()
    assert 0.005 < left < 0.05
    assert fresh.bounds[1] > 5 * seen.bounds[1]
    assert f"all but vanished from about {seen.bounds[1]:.1e} on" in seen.report
    assert "vanished" not in fresh.report


def test_data_that_outlast_the_runs_are_not_seen_before():
    assert search(Memory(), epoch=100).suggestion == search(Memory()).suggestion


def test_what_was_low_on_new_data_is_not_learnt_by_heart():
    found = search(Memory(), epoch=50)
    assert found.bounds[1] > 2 * search(Memory(), epoch=8).bounds[1]
    assert "vanished" not in found.report


def test_losses_about_zero_are_read_too():
    class Solved(Memory):
        def train(self, rates):
            losses = super().train(rates)
            losses[5:], losses[5:9] = 0.0, -1e-9
            return losses

    assert search(Solved(), epoch=8).suggestion > 0.0


def test_negative_losses_have_no_vanishing_point():
    class Shifted(Quadratic):
        def train(self, rates):
            return super().train(rates) - 10.0

    assert search(Shifted(), epoch=8).suggestion == search(Shifted()).suggestion


@pytest.mark.full
def test_the_real_test_says_when_the_data_repeat():
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(), keras.losses.BinaryCrossentropy(from_logits=True))
    x = rng.normal(size=(64, 100)).astype("float32")
    y = rng.integers(2, size=(64, 1)).astype("float32")

    def endless():
        while True:
            for i in range(0, 64, 8):
                yield x[i : i + 8], y[i : i + 8]

    test = LRRangeTest(verbose=0)
    known = test.run(model, x, y, batch_size=8, shuffle=False)
    unknown = test.run(model, endless(), steps_per_epoch=8, shuffle=False)
    assert known.suggestion < unknown.suggestion / 2


def test_what_cannot_be_learnt_has_no_suggestion():
    with pytest.raises(NoSuggestion, match="Nothing was learnt"):
        search(Quadratic(learns=False))

    class Broken(Quadratic):
        def train(self, rates):
            return np.array([np.nan])

    with pytest.raises(NoSuggestion, match="Diverged at every rate"):
        search(Broken())


class Uneven(Quadratic):
    """Batches that differ far more than the loss falls, the same ones in every run."""

    def __init__(self, batches, **arguments):
        super().__init__(**arguments)
        self.batches = batches

    def train(self, rates):
        losses = super().train(rates)
        return losses + self.batches[: len(losses)]


@pytest.mark.parametrize("order", range(1, 9))
def test_batches_that_differ_do_not_hide_what_is_learnt_on_them(order):
    batches = np.random.default_rng(order).exponential(5.0, 100)
    found = search(Uneven(batches), normalizes=False)
    assert 0.005 < found.suggestion < 0.2
    assert found.steps <= 300
    with pytest.raises(NoSuggestion, match="Nothing was learnt"):
        search(Uneven(batches, learns=False))


def test_easy_batches_at_the_beginning_do_not_look_like_a_rise():
    easy_first = np.where(np.arange(100) < 20, 0.0, 8.0)
    assert 0.02 < search(Uneven(easy_first), normalizes=False).suggestion < 0.2


def test_where_all_runs_learn_alike_the_last_shows_what_the_batches_do_by_themselves():
    harder = np.random.default_rng(0).exponential(5.0, 100) + np.arange(100) / 10
    runs = Uneven(harder, curvature=(10.0,))
    found = search(runs, normalizes=False)
    assert 0.02 < found.suggestion < 0.2
    assert runs.calls[-1][:2] == ("hold", 1e-6)
    assert found.steps <= 300
    assert min(found.holds) > 1e-3


def test_a_best_rate_at_the_end_of_those_tried_is_said():
    class Slow(Quadratic):
        def ramp(self, min_lr, max_lr, steps):
            return super().ramp(min_lr, max_lr, steps)[: steps // 5]

    found = search(Slow(noise=0.0), min_lr=1e-4, normalizes=False)
    assert max(found.holds) == pytest.approx(found.bounds[1])
    assert "The best rate tried is the highest" in found.report
    assert found.confidence == 0.5


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_not_learning(seed):
    rng = np.random.default_rng(seed)

    class Noise(Quadratic):
        def train(self, rates):
            return 1.0 + rng.normal(size=len(rates))

    with pytest.raises(NoSuggestion):
        search(Noise())


def test_a_budget_without_room_is_an_error():
    with pytest.raises(ValueError, match=r"at least 24 steps.*budget=110"):
        search(Quadratic(), steps=100, budget=110)
