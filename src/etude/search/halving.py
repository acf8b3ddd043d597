"""How many seeds each variant earns within a budget of time: successive halving over variants.

All begin with two seeds, the fewest that have an interval. While the time that is left does not suffice for
all, the better half goes on with twice as many (Jamieson and Talwalkar 2016, 1502.07943, with seeds as the
resource). The base gets every seed that any variant gets, since differences are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FIRST = 2


@dataclass(frozen=True)
class Rung:
    """A stage: which variants go on, to how many seeds each.

    Attributes:
        names: the variants that take part, without the base.
        n_seeds: seeds that each of them has at its end.
    """

    names: tuple[str, ...]
    n_seeds: int


def first_rung(names: Sequence[str], n_seeds: int) -> Rung:
    """Every variant, on two seeds."""
    return Rung(tuple(names), min(FIRST, n_seeds))


def next_rung(
    rung: Rung, effects: Mapping[str, float], costs: Mapping[str, float], n_seeds: int, left: float
) -> Rung | None:
    """Return the stage after this one, or None where all is done.

    Args:
        rung: the one that has ended.
        effects: gains over the base, more being better; a variant without one has failed and drops out.
        costs: seconds of one run of each variant, and of the base under ``"base"``.
        n_seeds: of the whole study.
        left: seconds of the budget that are left.

    Time for all: they go on to the end. Time for less: the better half does.

    >>> effects, costs = {"a": 0.1, "b": 0.3, "c": 0.2}, {"base": 1.0, "a": 1.0, "b": 1.0, "c": 1.0}
    >>> next_rung(Rung(("a", "b", "c"), 2), effects, costs, 8, left=24.0)
    Rung(names=('a', 'b', 'c'), n_seeds=8)
    >>> next_rung(Rung(("a", "b", "c"), 2), effects, costs, 8, left=23.0)
    Rung(names=('b', 'c'), n_seeds=4)
    """
    alive = [name for name in rung.names if name in effects]
    if rung.n_seeds >= n_seeds or not alive:
        return None
    missing = n_seeds - rung.n_seeds
    needed = missing * (costs["base"] + sum(costs[name] for name in alive))
    if needed <= left:
        return Rung(tuple(alive), n_seeds)
    best = sorted(alive, key=lambda name: -effects[name])[: -(-len(alive) // 2)]
    return Rung(tuple(name for name in alive if name in best), min(2 * rung.n_seeds, n_seeds))
