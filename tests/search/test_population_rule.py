"""Which member copies which, and the hyperparameters with which the copy continues."""

import math

import numpy as np
import pytest

from keras_lr.search.population.rule import Parameter, PopulationRule

RATE = Parameter("learning_rate", 1e-4, 1e-2)


def rule(population=8, parameters=(RATE,), quantile=0.25, perturb=(0.8, 1.2), resample=0.0, seed=0):
    return PopulationRule(tuple(parameters), population, quantile, perturb, resample, seed)


VALUES = [(0.001 * (member + 1),) for member in range(8)]


def test_the_worst_copy_the_best_and_the_others_stay():
    costs = [5.0, 1.0, 7.0, 3.0, 2.0, 6.0, 4.0, 8.0]
    moves = rule().moves(1, costs, VALUES)
    replaced = [member for member, move in enumerate(moves) if move.source != member]
    assert replaced == [2, 7]
    for member, move in enumerate(moves):
        if member not in replaced:
            assert move == (member, VALUES[member], ())
    for member in replaced:
        source, (value,), changes = moves[member]
        assert source in (1, 4)
        factor = value / VALUES[source][0]
        assert factor == pytest.approx(0.8) or factor == pytest.approx(1.2)
        assert changes == (f"times {factor:.1f}",)


@pytest.mark.parametrize(
    ("population", "quantile", "count"), [(8, 0.25, 2), (10, 0.29, 3), (2, 0.5, 1), (3, 0.5, 1)]
)
def test_how_many_are_replaced(population, quantile, count):
    costs = [float(member) for member in range(population)]
    values = [(0.01,)] * population
    moves = rule(population, quantile=quantile).moves(1, costs, values)
    replaced = [member for member, move in enumerate(moves) if move.source != member]
    assert replaced == list(range(population))[-count:]
    assert {moves[member].source for member in replaced} <= set(range(count))


def test_all_that_are_lost_are_replaced():
    lost = math.inf
    moves = rule().moves(1, [lost, 1.0, lost, 3.0, lost, lost, 2.0, lost], VALUES)
    sources = [move.source for move in moves]
    assert [sources[member] for member in (1, 3, 6)] == [1, 3, 6]
    assert {sources[member] for member in (0, 2, 4, 5, 7)} <= {1, 6}
    alone = rule().moves(1, [lost] * 7 + [1.0], VALUES)
    assert [move.source for move in alone] == [7] * 8
    with pytest.raises(ValueError, match="no member to copy"):
        rule().moves(1, [lost] * 8, VALUES)


def test_no_two_copies_of_a_round_are_the_same():
    for number in range(1, 50):
        moves = rule(resample=0.1).moves(number, [*map(float, range(8))], VALUES)
        assert len({move[:2] for move in moves}) == 8


def test_draws_depend_on_seed_round_and_member_alone():
    first = [rule().first_values(member) for member in range(8)]
    assert len(set(first)) == 8
    assert [rule(population=20).first_values(member) for member in range(8)] == first
    assert rule(seed=1).first_values(0) not in first
    costs = [*map(float, range(8))]
    moves = {number: rule().moves(number, costs, VALUES) for number in range(1, 30)}
    assert rule().moves(7, costs, VALUES) == moves[7]
    assert len({tuple(some) for some in moves.values()}) > 3
    others = rule().moves(7, [0.0, 1.0, 5.0, 4.0, 3.0, 2.0, 6.0, 7.0], VALUES)
    assert others[6:] == moves[7][6:]
    assert {rule(seed=1).seed_of(m) for m in range(8)}.isdisjoint(map(rule().seed_of, range(8)))


def test_beginnings_are_even_on_a_log_axis():
    drawn = np.array([rule(seed=seed).first_values(0)[0] for seed in range(2000)])
    assert drawn.min() >= 1e-4
    assert drawn.max() <= 1e-2
    shares = np.histogram(np.log10(drawn), bins=4, range=(-4, -2))[0] / 2000
    np.testing.assert_allclose(shares, 0.25, atol=0.04)


def test_a_value_is_drawn_anew_as_often_as_asked():
    costs = [*map(float, range(8))]
    moves = [rule(resample=0.25).moves(n, costs, VALUES)[7] for n in range(1, 1001)]
    anew = [move for move in moves if move.changes == ("drawn anew",)]
    assert 0.2 < len(anew) / 1000 < 0.3
    assert all(1e-4 <= move.values[0] <= 1e-2 for move in anew)
    assert all(m.changes == ("drawn anew",) for m in rule(resample=1.0).moves(1, costs, VALUES)[6:])


def test_shares_of_the_past_move_by_their_distance_from_one():
    momentum = Parameter("momentum", 0.5, 0.99)
    drawn = [rule(2, (RATE, momentum), seed=seed).first_values(0)[1] for seed in range(500)]
    assert min(drawn) >= 0.5
    assert max(drawn) <= 0.99
    assert 0.4 < np.mean(np.array(drawn) > 1 - math.sqrt(0.5 * 0.01)) < 0.6
    assert momentum.moved(0.9, 0.8) == 0.92
    assert momentum.moved(0.9, 20.0) == 0.0


def test_hyperparameters_move_one_by_one():
    decay = Parameter("weight_decay", 1e-3, 1e-1)
    values = [(0.01, 0.02)] * 8
    moves = rule(parameters=(RATE, decay)).moves(1, [*map(float, range(8))], values)
    seen = set()
    for number in range(1, 60):
        moves = rule(parameters=(RATE, decay)).moves(number, [*map(float, range(8))], values)
        seen |= {move.changes for move in moves[6:]}
    assert seen == {(f"times {a}", f"times {b}") for a in (0.8, 1.2) for b in (0.8, 1.2)}
