"""Is the winner better? The best of many trials had luck too, so that fresh seeds decide.

The winner and the config's own settings are trained again with the same K seeds that no trial has used. Each
pair shares the split, the order of the data and the first head, and the interval is that of the mean of
paired differences (Student's t).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from etude.evaluation.paired_seeds import Mean, PairedDifference, mean_of, paired_difference


@dataclass(frozen=True)
class Confirmation:
    """The winner against the default on fresh seeds.

    Attributes:
        seeds: those of which both were scored.
        default, winner: their scores, by seed.
        lost: seeds of which one of the two came to nothing.
        of_default, of_winner: means with standard errors.
        difference: winner minus default, the mean of the pairs with its interval.
        greater_is_better: whether more of the metric is better.
    """

    seeds: list[int]
    default: list[float]
    winner: list[float]
    lost: list[int]
    of_default: Mean
    of_winner: Mean
    difference: PairedDifference
    greater_is_better: bool

    @property
    def verdict(self) -> str:
        """``"better"``, ``"worse"`` or ``"undecided"``."""
        found = self.difference
        if found.low is None or found.high is None or found.low <= 0 <= found.high:
            return "undecided"
        return "better" if (found.mean > 0) == self.greater_is_better else "worse"

    def in_words(self) -> str:
        """One sentence that says whether the winner is better."""
        pairs = f"{len(self.seeds)} fresh seed{'s' if len(self.seeds) != 1 else ''}"
        found = self.difference
        if found.low is None or found.high is None:
            return f"the winner has {found.mean:+.4f} on {pairs}, which is too few for an interval"
        size = f"{found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f}) on {pairs}"
        return {
            "better": f"the winner is better than the default by {size}",
            "worse": f"the winner is worse than the default by {size}",
            "undecided": f"the winner is not shown to be better than the default: {size}",
        }[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values, with the verdict and its sentence."""
        return {**asdict(self), "verdict": self.verdict, "sentence": self.in_words()}


def confirm(
    default: Mapping[int, float], winner: Mapping[int, float], *, greater_is_better: bool
) -> Confirmation | None:
    """Compare the scores that both have on the same seeds; None where there is no pair.

    Args:
        default: the default's scores by seed; not finite where it came to nothing.
        winner: the winner's.
        greater_is_better: whether more of the metric is better.

    >>> found = confirm({1: 0.80, 2: 0.82, 3: 0.81}, {1: 0.84, 2: 0.85, 3: 0.86}, greater_is_better=True)
    >>> found.in_words()
    'the winner is better than the default by +0.0400 (+0.0152 to +0.0648) on 3 fresh seeds'
    """
    both = sorted({*default, *winner})
    fine = [
        s for s in both if math.isfinite(default.get(s, math.nan)) and math.isfinite(winner.get(s, math.nan))
    ]
    if not fine:
        return None
    first, second = [default[s] for s in fine], [winner[s] for s in fine]
    return Confirmation(
        seeds=fine,
        default=first,
        winner=second,
        lost=[s for s in both if s not in fine],
        of_default=mean_of(first),
        of_winner=mean_of(second),
        difference=paired_difference(first, second),
        greater_is_better=greater_is_better,
    )
