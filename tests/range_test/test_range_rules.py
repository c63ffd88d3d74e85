"""Reading a curve: what the rules say, and when they say nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_lr.range_test.curve import Curve, NoSuggestion, Smoother, smooth
from keras_lr.range_test.rules import RULES, bounds, confidence, report, suggest


def curve(points=100, low=1e-7, high=10.0, noise=0.02, seed=0, bottom=1e-1):
    """A usual curve: flat, falling from 1e-4 on, lowest at ``bottom``, exploding beyond it."""
    rates = np.geomspace(low, high, points)
    logs = np.log10(rates / bottom)
    losses = 0.4 + 1.9 / (1 + np.exp(3.0 * (logs + 1.5))) + np.exp(6.0 * (logs - 0.35))
    return rates, losses + noise * np.random.default_rng(seed).normal(size=points)


def off(rate, expected):
    """Decades between two rates."""
    return abs(np.log10(rate / expected))


@pytest.mark.parametrize("rule", RULES)
def test_a_usual_curve_has_an_answer_below_its_minimum(rule):
    rates, losses = curve()
    assert 1e-4 < suggest(rates, losses, rule) < 1e-1
    assert confidence(rates, losses, rule) > 0.8


def test_smoothing_is_the_weighted_mean_it_says():
    rates, losses = curve(20)
    weights = np.exp(-np.abs(np.log10(rates[:, None] / rates)) / 0.3)
    np.testing.assert_allclose(smooth(rates, losses), weights @ losses / weights.sum(1))
    smoother = Smoother(0.3)
    running = [smoother.update(r, x) for r, x in zip(rates, losses, strict=True)]
    lower = np.tril(weights)
    np.testing.assert_allclose(running, lower @ losses / lower.sum(1))


@given(st.lists(st.tuples(st.floats(0.0, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=30))
def test_a_running_mean_lies_among_its_losses_whatever_the_rates(points):
    smoother = Smoother()
    for count, (rate, loss) in enumerate(points, 1):
        losses = [one for _, one in points[:count]]
        assert min(losses) - 1e-9 <= smoother.update(rate, loss) <= max(losses) + 1e-9


def test_smoothing_keeps_a_constant_and_lies_on_the_log_axis():
    rates = np.geomspace(1e-5, 1, 50)
    np.testing.assert_allclose(smooth(rates, np.full(50, 3.0)), 3.0)
    losses = np.arange(50.0)
    np.testing.assert_allclose(smooth(rates, losses), smooth(1000 * rates, losses))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("scale", "shift"), [(1000.0, 0), (1e-4, 0), (1.0, 50.0), (7.0, -20.0)])
def test_the_unit_of_the_loss_does_not_matter(rule, scale, shift):
    rates, losses = curve()
    assert suggest(rates, scale * losses + shift, rule) == suggest(rates, losses, rule)
    assert bounds(rates, scale * losses + shift) == bounds(rates, losses)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("points", [15, 30, 300])
def test_the_number_of_points_hardly_matters(rule, points):
    few, many = curve(points, noise=0.0), curve(1000, noise=0.0)
    assert off(suggest(*few, rule), suggest(*many, rule)) < 0.6


@pytest.mark.parametrize("rule", RULES)
def test_noise_does_not_move_it_by_orders_of_magnitude(rule):
    found = [suggest(*curve(noise=0.05, seed=seed), rule) for seed in range(20)]
    assert off(max(found), min(found)) < 1.0


def test_steepest_is_the_steepest_by_decade_on_any_axis():
    rates = np.concatenate([np.linspace(1e-4, 1e-2, 60), np.linspace(1.5e-2, 1.0, 60)])
    logs = np.log10(rates)
    losses = 1 / (1 + np.exp(4 * (logs + 1.0))) + np.exp(9 * (logs + 0.2))
    assert off(suggest(rates, losses, "steepest"), 0.1) < 0.35


def test_steepest_ignores_a_first_noisy_drop_at_tiny_rates():
    rates, losses = curve(noise=0.01)
    losses[1] += 0.3
    losses[2] -= 0.3
    assert suggest(rates, losses, "steepest") > 1e-4


@pytest.mark.parametrize("rule", RULES)
def test_a_loss_that_only_rises_has_no_suggestion(rule):
    rates = np.geomspace(1e-5, 10, 50)
    with pytest.raises(NoSuggestion, match="Diverged at once"):
        suggest(rates, np.linspace(1, 2, 50), rule)
    with pytest.raises(NoSuggestion, match="min_lr=1e-08"):
        suggest(rates, np.geomspace(1, 1e30, 50), rule)


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"steepest"}))
def test_a_loss_that_only_falls_has_no_suggestion(rule):
    rates = np.geomspace(1e-5, 1e-2, 50)
    with pytest.raises(NoSuggestion, match=r"No minimum inside .* max_lr=1e\+00"):
        suggest(rates, np.linspace(2, 1, 50), rule)


def test_the_steepest_place_may_be_inside_although_the_minimum_is_not():
    rates = np.geomspace(1e-5, 1e-1, 80)
    losses = 1 / (1 + np.exp(4 * (np.log10(rates) + 3.0)))
    assert off(suggest(rates, losses, "steepest"), 1e-3) < 0.2
    with pytest.raises(NoSuggestion):
        suggest(rates[:40], losses[:40], "steepest")


@pytest.mark.parametrize("rule", RULES)
def test_pure_noise_has_no_suggestion(rule):
    rates = np.geomspace(1e-7, 10, 100)
    for seed in range(20):
        losses = 2.3 + np.random.default_rng(seed).normal(size=100)
        with pytest.raises(NoSuggestion, match="flat or too noisy"):
            suggest(rates, losses, rule)


def test_where_noise_hides_the_fall_but_the_loss_rises_it_is_lower_that_is_worth_a_look():
    rates = np.linspace(1e-6, 1.0, 60)
    losses = 2.3 + 0.3 * np.random.default_rng(0).normal(size=60) + 4.0 * np.maximum(rates - 0.5, 0)
    with pytest.raises(NoSuggestion, match=r"flat.*Look closer below .* \(max_lr=[3-6]e-01\)"):
        suggest(rates, losses)


@pytest.mark.parametrize("rule", RULES)
def test_a_constant_loss_has_no_suggestion(rule):
    with pytest.raises(NoSuggestion, match="flat"):
        suggest(np.geomspace(1e-5, 1, 30), np.full(30, 0.7), rule)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("losses", [[], [1.0], [2.0, 1.0], [3.0, 2.0, 1.0, 2.0]])
def test_a_few_points_are_too_short(rule, losses):
    rates = np.geomspace(1e-4, 1e-1, len(losses)) if len(losses) > 1 else [1e-3] * len(losses)
    with pytest.raises(NoSuggestion, match="Too short"):
        suggest(rates, losses, rule)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_poisons_nothing(rule, bad):
    rates, losses = curve()
    expected = suggest(rates, losses, rule)
    hole, end = losses.copy(), losses.copy()
    hole[30] = bad
    end[92:] = bad
    assert off(suggest(rates, hole, rule), expected) < 0.2
    assert off(suggest(rates, end, rule), expected) < 0.5
    with pytest.raises(NoSuggestion, match="Diverged at once"):
        suggest(rates, np.where(np.arange(100) < 3, losses, bad), rule)


def test_a_curve_that_stopped_early_is_read_to_its_end():
    rates, losses = curve()
    stop = int(np.searchsorted(rates, 2e-1))
    rates, losses = rates[: stop + 1], np.append(losses[:stop], np.nan)
    assert off(suggest(rates, losses), 2.5e-2) < 0.5


def test_the_height_of_an_explosion_means_nothing():
    rates, losses = curve()
    assert suggest(rates, np.where(losses > 5, 1e300, losses)) == suggest(
        rates, np.where(losses > 5, 100.0, losses)
    )


def test_bounds_hold_the_fall():
    for seed in range(10):
        base, top = bounds(*curve(seed=seed))
        assert 1e-4 < base < 1e-2 < top < 1.5e-1


def test_the_base_is_no_early_dip():
    rates, losses = curve()
    clean = bounds(rates, losses)[0]
    losses[10:16] -= 0.8
    assert off(bounds(rates, losses)[0], clean) < 0.3


def test_bounds_end_where_the_losses_become_ragged():
    rates, losses = curve(200, noise=0.005)
    ragged = rates > 4e-3
    losses[ragged] += 0.2 * np.where(np.arange(ragged.sum()) % 2, 1, -1)
    assert bounds(rates, losses)[1] < 6e-3 < bounds(*curve(200, noise=0.005))[1]


def test_confidence_tells_noise():
    clear, noisy = confidence(*curve(noise=0.01)), confidence(*curve(25, noise=0.6))
    assert noisy < clear


def test_the_report_is_plain():
    assert "Suggestion: 7.8e-03" in report(*curve(noise=0.0))
    assert "Too short" in report([0.1, 0.2], [1.0, 0.5])
    assert "higher max_lr" in report(*curve(high=1.2e-1, noise=0.0))


@pytest.mark.parametrize(
    ("rates", "losses", "message"),
    [
        ([1e-3, 1e-2], [1.0], "of one length"),
        ([1e-2, 1e-3, 1e-4], [1.0, 1.0, 1.0], "positive and increasing"),
        ([0.0, 1e-3, 1e-2], [1.0, 1.0, 1.0], "positive and increasing"),
    ],
)
def test_what_is_no_curve_is_an_error(rates, losses, message):
    with pytest.raises(ValueError, match=message):
        suggest(rates, losses)


def test_an_unknown_rule_is_an_error():
    with pytest.raises(ValueError, match=r"must be one of 'edge'.*rule='steep'"):
        suggest(*curve(), "steep")


@pytest.mark.parametrize("rule", RULES)
@given(
    losses=st.lists(st.floats(width=32), min_size=0, max_size=40),
    low=st.floats(1e-8, 1e-2),
    high=st.floats(1e-1, 1e2),
)
def test_any_losses_give_a_rate_of_the_range_or_a_reason(rule, losses, low, high):
    rates = np.geomspace(low, high, len(losses)) if losses else []
    try:
        rate = suggest(rates, losses, rule)
    except NoSuggestion:
        return
    assert low / 10 <= rate <= high
    assert Curve.from_arrays(rates, losses).drop > 0
