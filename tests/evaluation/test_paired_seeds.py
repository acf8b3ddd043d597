"""Paired differences over seeds against scipy, Holm against its definition."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from etude.evaluation.paired_seeds import holm, mean_of, paired_difference, visible_difference


@pytest.mark.parametrize("n", [2, 3, 5, 12])
def test_the_difference_is_scipys_paired_t(n: int) -> None:
    generator = np.random.default_rng(n)
    first = generator.normal(0.8, 0.02, n)
    second = first + generator.normal(0.01, 0.005, n)
    found = paired_difference(first.tolist(), second.tolist())
    wanted = stats.ttest_rel(second, first)
    interval = wanted.confidence_interval(0.95)
    assert found.p == pytest.approx(wanted.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.se == pytest.approx(stats.sem(second - first))
    assert found.wins == int((second > first).sum())


def test_turning_the_pairs_round_turns_the_sign() -> None:
    one, other = paired_difference([1, 2, 4], [2, 2, 3]), paired_difference([2, 2, 3], [1, 2, 4])
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low))  # type: ignore[operator]
    assert (one.p, one.win_rate) == pytest.approx((other.p, 1 - other.win_rate))


def test_one_pair_has_no_interval_and_equal_differences_are_no_certainty() -> None:
    single = paired_difference([0.5], [0.6])
    assert (single.se, single.low, single.p) == (None, None, None)
    nothing = paired_difference([0.5, 0.7, 0.6], [0.5, 0.7, 0.6])
    assert (nothing.mean, nothing.p, nothing.win_rate) == (0.0, 1.0, 0.5)
    same = paired_difference([0.5, 0.75], [0.75, 1.0])
    assert (same.p, same.low, same.high) == (0.5, 0.25, 0.25)


def test_no_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="1 and 2 scores are no pairs"):
        paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="0 and 0 scores are no pairs"):
        paired_difference([], [])


def test_holm_by_its_definition() -> None:
    """Rejecting at every level what the step-down procedure rejects is what corrected values mean."""
    p_values = [0.001, 0.013, 0.02, 0.04, 0.04, 0.7]
    corrected = holm(p_values)
    for level in np.linspace(0.001, 0.999, 200):
        rejected: set[int] = set()
        for rank, place in enumerate(sorted(range(6), key=lambda i: p_values[i])):
            if p_values[place] > level / (6 - rank):
                break
            rejected.add(place)
        assert rejected == {i for i, p in enumerate(corrected) if p <= level}


def test_holm_keeps_the_order_given_and_is_never_below_the_raw_value() -> None:
    p_values = [0.2, 0.01, 0.5, 0.03]
    wanted = dict(zip(p_values, holm(p_values), strict=True))
    for order in itertools.permutations(p_values):
        assert holm(order) == [wanted[p] for p in order]
    assert all(corrected >= p for p, corrected in wanted.items())
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_difference_at_the_edge_of_what_can_be_seen_has_p_of_a_twentieth() -> None:
    differences = np.array([-1.0, 0.5, 0.2, 0.9, -0.6])
    differences -= differences.mean()
    se = float(stats.sem(differences))
    found = paired_difference([0.0] * 5, (differences + visible_difference(se, 5)).tolist())
    assert found.p == pytest.approx(0.05)
    assert found.low == pytest.approx(0.0, abs=1e-12)


def test_the_mean_of_nothing_and_of_one() -> None:
    assert math.isnan(mean_of([]).mean)
    assert mean_of([0.5]).se is None
