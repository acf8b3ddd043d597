"""Polynomial decay: the learning rate falls as a power of what is left of training.

Idea: one number between a late decay and an early one: a power below 1 keeps the rate high until the
end, 1 is a straight line, and a power above 1 falls at first and lands softly.

Formula, with progress p in [0, 1], power a and the last factor f: factor(p) = f + (1 - f) (1 - p)^a.

Paper: Chen et al. 2017 (1606.00915), section 4, the "poly" policy with a = 0.9.

When it helps: segmentation and large batches, whose recipes use it; a tail that is softer than a line's.
When not: it has one more setting than the cosine and the line, and is seldom better than both.

Suggested values: a = 0.9 to 2, f = 0.

Cost: 1 pass; no memory.

Clashes: another schedule.

NOTE[DIFF]: transformers' schedule of this name ends at a learning rate of 1e-7 by default, ours at a
share of the peak, 0 by default.
"""

from __future__ import annotations

from typing import Literal

from etude.config.fields import SearchRange, setting
from etude.core.phases import SCHEDULE
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.techniques.schedules import checked


class PolynomialConfig(TechniqueConfig):
    """Settings of the polynomial decay."""

    name: Literal["polynomial"] = "polynomial"
    power: float = setting(
        2.0, help="power of what is left; 1 is a straight line", gt=0.0, search=SearchRange(0.5, 4.0, "log")
    )
    final: float = setting(
        0.0, help="factor of the learning rate at the end", ge=0.0, le=1.0, search=SearchRange(0.0, 0.1)
    )


def polynomial_decay(progress: float, power: float, final: float = 0.0) -> float:
    """Return ``final + (1 - final) * (1 - progress) ** power``, the factor of the learning rate.

    Args:
        progress: share of the schedule that is done, in [0, 1].
        power: above 0.
        final: factor at the end, in [0, 1].

    Raises:
        ValueError: ``progress`` is out of [0, 1].

    >>> [polynomial_decay(p, 2.0, final=0.5) for p in (0.0, 0.5, 1.0)]
    [1.0, 0.625, 0.5]
    """
    return float(final + (1.0 - final) * (1.0 - checked(progress)) ** power)


class Polynomial(Technique[PolynomialConfig]):
    """Lowers the learning rate along a power."""

    Config = PolynomialConfig
    facts = Facts(
        family="schedules", phase=SCHEDULE, paper="Chen et al. 2017, arXiv 1606.00915", neutral={"final": 1.0}
    )

    def attach(self, plan: Plan) -> None:
        power, final = self.config.power, self.config.final
        if final == 1.0:
            return

        def factor(progress: float) -> float:
            return polynomial_decay(progress, power, final)

        plan.add(SCHEDULE, factor)
