"""SWA: the plain mean of the weights at many points of the last part of training.

Idea: under a constant learning rate, training walks around the border of a flat region of good weights.
The mean of the points that it visits lies inside of it, and generalises better than any of them.

Formula, with weights w_1, ..., w_n taken after ``start``, at the ends of epochs or every k steps:

* s = (w_1 + ... + w_n) / n, kept as s' = s + (w - s) / (n + 1)
* with ``hold_schedule``, the learning rate stays what it is at ``start``
* the statistics of BatchNorm are taken anew under s, over all training rows, before s is scored

Paper: Izmailov et al. 2018 (1803.05407), algorithm 1; together with SAM: Kaddour et al. 2022
(2202.00661).

When it helps: long training from scratch, images above all; a rate that is still high at the start of
averaging; beside SAM.
When not: a schedule that ends near zero, whose last weights hardly differ; runs of few epochs.

Suggested values: start 0.75dur with 20 epochs or more, 0.5dur with few; once per epoch, or 10 to 50
times over the run.

Cost: 1 pass; one copy of the weights, and at the end one pass over the training rows where there is
BatchNorm.

Clashes: another average. The plateau schedule works beside it as long as ``hold_schedule`` is on.

NOTE[DIFF]: points are counted back from the run's last step, so that the last weights are always among
them; the paper also counts the weights at which averaging begins. A model with BatchNorm is scored with
its own weights until the statistics have been taken at the end, since an average with statistics that do
not fit scores by chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Self

from pydantic import model_validator
from torch import Tensor, nn
from torch.optim.swa_utils import get_swa_multi_avg_fn

from etude.config.fields import Time, setting
from etude.core.phases import AVERAGE, TUNE
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConflictError
from etude.techniques.averaging import (
    Weights,
    averaging_steps,
    batch_norms,
    copied,
    lent,
    statistics_for,
    under_prefix,
    weights_of,
    with_prefix,
)

HOLD_RANK = 500
"""Behind whatever else changes learning rates, except for what keeps a run from breaking."""


class SWAConfig(TechniqueConfig):
    """Settings of stochastic weight averaging."""

    name: Literal["swa"] = "swa"
    start: Time = setting(Time(0.5, "dur"), help="when averaging begins, as '0.75dur' or '3ep'")
    every: Time = setting(Time(1, "ep"), help="how often weights are taken, as '1ep' or '100st'")
    hold_schedule: bool = setting(True, help="keep the learning rate constant from the start of averaging")

    @model_validator(mode="after")
    def _every_is_some_time(self) -> Self:
        if self.every.amount == 0:
            raise ValueError(f"every is {self.every} and must be longer")
        return self


def update_mean(mean: Sequence[Tensor], weights: Sequence[Tensor], n: int) -> None:
    """Take one more point into the mean of n points, in place.

    Args:
        mean: tensors, the mean of n points.
        weights: tensors of the same shapes.
        n: points so far, 1 or more.

    Raises:
        ValueError: ``n`` is below 1.

    >>> import torch
    >>> mean = [torch.tensor([2.0])]
    >>> update_mean(mean, [torch.tensor([8.0])], 2)
    >>> mean
    [tensor([4.])]
    """
    if n < 1:
        raise ValueError(f"n is {n} and must be at least 1; the first point is the mean itself")
    get_swa_multi_avg_fn()(tuple(mean), tuple(weights), n)


class SWA(Technique[SWAConfig]):
    """Keeps the mean, holds the learning rate, and refreshes BatchNorm at the end."""

    Config = SWAConfig
    facts = Facts(
        family="averaging",
        phase=AVERAGE,
        paper="Izmailov et al. 2018, arXiv 1803.05407",
        neutral={"start": Time(1, "dur")},
    )

    def __init__(self, config: SWAConfig) -> None:
        super().__init__(config)
        self._mean: Weights = {}
        self._statistics: Weights = {}
        self._n = self._start = 0
        self._steps: frozenset[int] = frozenset()
        self._held: list[float] = []

    def attach(self, plan: Plan) -> None:
        config, context = self.config, plan.context
        self._start = context.steps(config.start)
        if self._start >= context.total_steps:
            return
        if "plateau" in plan.techniques and not config.hold_schedule:
            raise ConflictError(
                "swa averages weights of a constant learning rate and plateau would lower it meanwhile; set "
                "techniques.swa.hold_schedule = true, or choose another schedule"
            )
        self._steps = averaging_steps(context, self._start, config.every)
        plan.add(AVERAGE, self)
        if config.hold_schedule:
            plan.add(TUNE, self.hold, rank=HOLD_RANK)

    def hold(self, groups: Sequence[dict[str, Any]], moment: Moment) -> None:
        """Keep each group's learning rate as it is at the start of averaging."""
        if moment.step < self._start:
            return
        if not self._held:
            self._held = [float(group["lr"]) for group in groups]
        for group, lr in zip(groups, self._held, strict=True):
            group["lr"] = lr

    def update(self, model: nn.Module, moment: Moment) -> None:
        """Take the new weights in, where it is time."""
        if moment.step + 1 not in self._steps:
            return
        weights = weights_of(model)
        if self._n == 0:
            self._mean = copied(weights)
        else:
            self._mean = {name: self._mean[name].to(value) for name, value in weights.items()}
            update_mean(list(self._mean.values()), list(weights.values()), self._n)
        self._n += 1

    def lend(self, model: nn.Module) -> AbstractContextManager[None]:
        """Put the mean into the model, with statistics that fit; the raw weights come back on leaving."""
        ready = bool(self._statistics) or not batch_norms(model)
        return lent(model, {**self._mean, **self._statistics} if ready else {})

    def settle(self, run: Any) -> bool:
        """Take BatchNorm's statistics under the mean."""
        if self._mean and not self._statistics:
            self._statistics = statistics_for(run, self._mean)
            return bool(self._statistics)
        return False

    def state_dict(self) -> dict[str, Tensor | int | float | str]:
        return {
            "n": self._n,
            **{f"held.{i}": lr for i, lr in enumerate(self._held)},
            **with_prefix("mean.", self._mean),
            **with_prefix("statistics.", self._statistics),
        }

    def load_state_dict(self, state: Mapping[str, Tensor | int | float | str]) -> None:
        self._n = int(state.get("n", 0))
        self._held = [float(state[f"held.{i}"]) for i in range(sum(k.startswith("held.") for k in state))]
        self._mean = under_prefix("mean.", state)
        self._statistics = under_prefix("statistics.", state)
