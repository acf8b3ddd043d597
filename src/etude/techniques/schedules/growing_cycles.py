"""Growing cycles: one run shows the quality that every budget up to its own would reach.

Idea: how much better does twice the training make it? To learn that, one trains once for each budget.
Cycles that grow, each with a whole decay, end at weights nearly as good as those of a run of that length,
and the validation scores at their ends draw the curve of quality over cost.

Formula, with n cycles, growth g, the ends e_i = (g^i - 1) / (g^n - 1) as shares of the run, the share q of
the running cycle that is done, its rise r and the last factor f:

* factor = q / r for q < r
* factor = f + (1 - f) (1 + cos(π (q - r) / (1 - r))) / 2 afterwards

Paper: Portes et al. 2022 (2206.00832), Fast Benchmarking of Accuracy vs. Training Time with Cyclic
Learning Rates; the cycles themselves are Loshchilov and Hutter 2017 (1608.03983).

When it helps: choosing a number of epochs; comparing two recipes at every budget at once.
When not: the last run, whose earlier cycles cost what one decay over the whole run would use better.

Suggested values: 3 to 5 cycles, g = 2, r = 0.1.

Cost: 1 pass, and a validation at the end of each cycle; no memory.

Clashes: another schedule; ``warmup``, since each cycle begins with a rise of its own.

At each cycle's end the validation part is scored, and ``metrics.jsonl`` gets a line ``cycle`` with its
number, its steps and its scores.

NOTE[DIFF]: the paper gives the length of the first cycle; here the number of cycles is given and they fill
the run, so that it always ends with one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from etude.config.fields import SearchRange, setting
from etude.core.phases import OBSERVE, SCHEDULE
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConfigError
from etude.techniques.schedules import checked, in_cycle


class GrowingCyclesConfig(TechniqueConfig):
    """Settings of the growing cycles."""

    name: Literal["growing_cycles"] = "growing_cycles"
    cycles: int = setting(3, help="cycles that fill the run", unit="cycles", ge=1, le=20)
    growth: float = setting(
        2.0, help="each cycle's length over the one before it", ge=1.0, le=10.0, search=SearchRange(1.0, 3.0)
    )
    rise: float = setting(
        0.1, help="share of each cycle that rises", ge=0.0, lt=1.0, search=SearchRange(0.0, 0.3)
    )
    final: float = setting(0.0, help="factor of the learning rate at the end of a cycle", ge=0.0, le=1.0)


def cycle_ends(cycles: int, growth: float) -> list[float]:
    """Return 0 and the share of the run at which each cycle ends; the last is 1.

    Raises:
        ValueError: there are no cycles, or they shrink.

    >>> cycle_ends(3, 2.0) == [0.0, 1 / 7, 3 / 7, 1.0]
    True
    """
    if cycles < 1 or growth < 1.0:
        raise ValueError(f"{cycles} cycles that grow by {growth} and both must be at least 1")
    lengths = [growth**i for i in range(cycles)]
    return [sum(lengths[:i]) / sum(lengths) for i in range(cycles)] + [1.0]


def rise_and_fall(share: float, rise: float, final: float = 0.0) -> float:
    """Return the factor of the learning rate in a cycle: a line up, then half a cosine down.

    Args:
        share: share of the cycle that is done, in [0, 1].
        rise: share of the cycle that rises, in [0, 1).
        final: factor at the end, in [0, 1].

    Raises:
        ValueError: ``share`` is out of [0, 1].

    >>> [round(rise_and_fall(share, 0.2), 4) for share in (0.0, 0.1, 0.2, 0.6, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if checked(share) < rise:
        return share / rise
    return final + (1.0 - final) * (1.0 + math.cos(math.pi * (share - rise) / (1.0 - rise))) / 2.0


class GrowingCycles(Technique[GrowingCyclesConfig]):
    """Cycles the learning rate, and scores the model at each cycle's end."""

    Config = GrowingCyclesConfig
    facts = Facts(
        family="schedules",
        phase=SCHEDULE,
        paper="Portes et al. 2022, arXiv 2206.00832",
        # As many cycles as the shortest run that tests of every technique make has steps.
        example={"cycles": 2},
        clashes={"warmup": "each growing cycle begins with a rise of its own; remove one of them"},
    )

    def __init__(self, config: GrowingCyclesConfig) -> None:
        super().__init__(config)
        self._ends: list[int] = []

    def attach(self, plan: Plan) -> None:
        config, total = self.config, plan.context.total_steps
        shares = cycle_ends(config.cycles, config.growth)
        self._ends = [round(share * total) for share in shares]
        if len(set(self._ends)) < len(self._ends):
            raise ConfigError(
                f"growing_cycles cuts a run of {total} steps into {config.cycles} cycles, of which one has "
                "no step; lower cycles or growth, or train for longer"
            )
        ends = self._ends

        def factor(progress: float) -> float:
            _, share = in_cycle(round(checked(progress) * total), ends)
            return rise_and_fall(share, config.rise, config.final)

        plan.add(SCHEDULE, factor)
        plan.add(OBSERVE, self)

    def on_start(self, run: Any) -> None:
        """Nothing has happened yet."""

    def on_step(self, run: Any) -> None:
        """Ask for the scores where a cycle ends."""
        if run.step in self._ends[1:] and run.skipped == 0:
            run.request("evaluate")

    def on_epoch(self, run: Any) -> None:
        """Steps tell everything."""

    def on_evaluation(self, run: Any, scores: Mapping[str, float]) -> None:
        """Log a point of the curve, where the scores are those of a cycle's end."""
        if run.step in self._ends[1:]:
            run.log({"cycle": {"number": self._ends.index(run.step), "steps": run.step, **scores}})

    def on_end(self, run: Any) -> None:
        """The last cycle has been scored."""
