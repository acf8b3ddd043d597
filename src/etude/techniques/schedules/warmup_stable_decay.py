"""Warm-up, stable, decay: rise quickly, hold for as long as you like, and fall at the end.

Idea: while the rate is constant no end need be known; whenever a model is wanted, a short decay from
there gives it. One long run then serves several budgets.

Formula, with progress p in [0, 1], rise w, decay d, the share q = (p - (1 - d)) / d of the decay that is
done, and the last factor f:

* factor(p) = p / w for p < w, and 1 up to 1 - d
* factor(p) = f + (1 - f) s(q) afterwards, with s(q) = 1 - q (``linear``), (1 + cos(π q)) / 2 (``cosine``) or
  1 - sqrt(q) (``sqrt``)

Paper: Hu et al. 2024 (2404.06395), section 4, MiniCPM; Hägele et al. 2024 (2405.18392), which compare the
shapes and the length of the decay; Zhai et al. 2022 (2106.04560), section 3.5, call it cooldown.

When it helps: runs whose length is not settled, and many models from one run.
When not: a short run of known length, where a decay from the start does as well.

Suggested values: w = 0.05, d = 0.1 to 0.2, ``sqrt``.

Cost: 1 pass; no memory.

Clashes: another schedule; ``warmup``, since this one begins with a rise of its own.
"""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import model_validator

from etude.config.fields import Probability, SearchRange, setting
from etude.core.phases import SCHEDULE
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.techniques.schedules import checked

Shape = Literal["linear", "cosine", "sqrt"]


class WarmupStableDecayConfig(TechniqueConfig):
    """Settings of warm-up, stable, decay."""

    name: Literal["warmup_stable_decay"] = "warmup_stable_decay"
    warmup: Probability = setting(0.05, help="share of the run that rises", search=SearchRange(0.0, 0.2))
    decay: Probability = setting(0.2, help="share of the run that falls", search=SearchRange(0.05, 0.5))
    shape: Shape = setting("sqrt", help="how it falls: a line, half a cosine, or one minus the root")
    final: float = setting(
        0.0, help="factor of the learning rate at the end", ge=0.0, le=1.0, search=SearchRange(0.0, 0.1)
    )

    @model_validator(mode="after")
    def _both_fit(self) -> Self:
        if self.warmup + self.decay > 1.0:
            raise ValueError(
                f"warmup is {self.warmup} and decay {self.decay}, together more than the run; lower one"
            )
        return self


def stable_then_decay(
    progress: float, warmup: float, decay: float, shape: Shape = "sqrt", final: float = 0.0
) -> float:
    """Return the factor of the learning rate: a line up, 1, and a fall.

    Args:
        progress: share of the run that is done, in [0, 1].
        warmup: share of the run that rises, in [0, 1].
        decay: share of the run that falls, in [0, 1]; both are at most 1 together.
        shape: how it falls.
        final: factor at the end, in [0, 1].

    Raises:
        ValueError: ``progress`` is out of [0, 1].

    >>> [round(stable_then_decay(p, 0.1, 0.2), 4) for p in (0.0, 0.05, 0.1, 0.8, 0.85, 1.0)]
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if checked(progress) < warmup:
        return progress / warmup
    if decay == 0.0 or progress < 1.0 - decay:
        return 1.0
    share = min((progress - (1.0 - decay)) / decay, 1.0)
    falls = {
        "linear": 1.0 - share,
        "cosine": (1.0 + math.cos(math.pi * share)) / 2.0,
        "sqrt": 1.0 - share**0.5,
    }
    return final + (1.0 - final) * falls[shape]


class WarmupStableDecay(Technique[WarmupStableDecayConfig]):
    """Raises, holds and lowers the learning rate."""

    Config = WarmupStableDecayConfig
    facts = Facts(
        family="schedules",
        phase=SCHEDULE,
        paper="Hu et al. 2024, arXiv 2404.06395; Hägele et al. 2024, arXiv 2405.18392",
        clashes={"warmup": "warmup_stable_decay begins with a rise of its own; remove one of them"},
        neutral={"warmup": 0.0, "decay": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        config = self.config
        if config.warmup == 0.0 and config.decay == 0.0:
            return

        def factor(progress: float) -> float:
            return stable_then_decay(progress, config.warmup, config.decay, config.shape, config.final)

        plan.add(SCHEDULE, factor)
