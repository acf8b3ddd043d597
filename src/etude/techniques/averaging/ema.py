"""EMA: evaluate and keep an exponential moving average of the weights.

Idea: the weights rattle around a good point; their average over the last steps lies nearer to it, at
the price of one vector operation a step.

Formula, with weights w after step t (t = 0, 1, ...), shadow s and decay d:

* s = w after the first step, then s' = d_t s + (1 - d_t) w
* d_t = min(d, (1 + t) / (10 + t)) while warming up, else d

Paper: Polyak and Juditsky 1992 (SIAM J. Control Optim. 30); the form used: Tarvainen and Valpola 2017
(1703.01780); trade-offs: Morales-Brotons et al. 2024 (2411.18704).

When it helps: constant or high learning rates, noisy labels, small batches; the average needs less
decay of the learning rate.
When not: very short runs, where the average still remembers the start.

Suggested values: decay 0.999, from 0.99 in short runs to 0.9999 in long ones; 1 / (1 - decay) is the
number of steps that it remembers. A decay of 0.1 would hardly average anything.

Cost: 1 pass; one copy of the weights.

Clashes: another average.

NOTE[DIFF]: the average lends its weights for evaluation and for the saved model; training never sees
them, and checkpoints keep both. Buffers, as the statistics of batch norms, stay the model's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from etude.config.fields import SearchRange, setting
from etude.core.phases import AVERAGE
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.techniques.averaging import Weights, copied, lent, under_prefix, weights_of, with_prefix


class EMAConfig(TechniqueConfig):
    """Settings of the moving average."""

    name: Literal["ema"] = "ema"
    decay: float = setting(
        0.999, help="share of the average that a step keeps", ge=0.0, lt=1.0, search=SearchRange(0.9, 0.9999)
    )
    warmup: bool = setting(True, help="begin with a smaller decay, so that the start is soon forgotten")


def decay_at(n_updates: int, decay: float, *, warmup: bool) -> float:
    """Return the decay of the next update.

    Args:
        n_updates: updates so far, t.
        decay: d in [0, 1).
        warmup: whether the decay rises towards d.

    Raises:
        ValueError: ``decay`` is out of [0, 1).

    >>> [round(decay_at(t, 0.999, warmup=True), 3) for t in (1, 10, 100, 100_000)]
    [0.182, 0.55, 0.918, 0.999]
    """
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"decay is {decay} and must lie in [0, 1)")
    return min(decay, (1 + n_updates) / (10 + n_updates)) if warmup else decay


def update_shadow(shadow: Sequence[Tensor], weights: Sequence[Tensor], decay: float) -> None:
    """Set every tensor of the shadow to ``decay * shadow + (1 - decay) * weights``, in place.

    >>> import torch
    >>> shadow = [torch.tensor([0.0, 4.0])]
    >>> update_shadow(shadow, [torch.tensor([1.0, 0.0])], 0.75)
    >>> shadow
    [tensor([0.2500, 3.0000])]
    """
    get_ema_multi_avg_fn(decay)(tuple(shadow), tuple(weights), 0)


class EMA(Technique[EMAConfig]):
    """Keeps the average and lends it; tied weights are held and counted once."""

    Config = EMAConfig
    facts = Facts(
        family="averaging",
        phase=AVERAGE,
        paper="Tarvainen and Valpola 2017, arXiv 1703.01780",
        neutral={"decay": 0.0},
    )

    def __init__(self, config: EMAConfig) -> None:
        super().__init__(config)
        self._shadow: Weights = {}
        self._n_updates = 0

    def attach(self, plan: Plan) -> None:
        if self.config.decay > 0.0:
            plan.add(AVERAGE, self)

    def update(self, model: nn.Module, moment: Moment) -> None:
        """Take the new weights in."""
        weights = weights_of(model)
        if not self._shadow:
            self._shadow = copied(weights)
        else:
            self._shadow = {name: self._shadow[name].to(value) for name, value in weights.items()}
            decay = decay_at(self._n_updates, self.config.decay, warmup=self.config.warmup)
            update_shadow(list(self._shadow.values()), list(weights.values()), decay)
        self._n_updates += 1

    def lend(self, model: nn.Module) -> AbstractContextManager[None]:
        """Put the average into the model; the raw weights come back bit for bit on leaving."""
        return lent(model, self._shadow)

    def settle(self, run: Any) -> bool:
        """The average is ready at every step."""
        return False

    def state_dict(self) -> dict[str, Tensor | int | float | str]:
        return {"n_updates": self._n_updates, **with_prefix("shadow.", self._shadow)}

    def load_state_dict(self, state: Mapping[str, Tensor | int | float | str]) -> None:
        self._n_updates = int(state.get("n_updates", 0))
        self._shadow = under_prefix("shadow.", state)
