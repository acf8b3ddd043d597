"""Schedule-free: AdamW whose weights are averaged as it goes, in place of a falling learning rate.

Idea: a schedule must know when training ends; the average of all iterates is as good as a schedule that
ends now, at every step, if gradients are taken between the average and the last iterate.

Formula, for every weight with iterates z, averages x, learning rate η and decay λ:

* y = (1 - β1) z + β1 x, where the gradient g is taken;  v = β2 v + (1 - β2) g²
* z' = z - η (g / (sqrt(v / (1 - β2^t)) + ε) + λ y)
* x' = (1 - c) x + c z', where c = η_max² / (sum of η_max² up to now), the largest rate so far

Paper: Defazio et al. 2024 (2405.15682), algorithm 1.

When it helps: the length of training is not known, or shall be extended; no schedule to tune.
When not: beside another average or a schedule, which do the same work.

Suggested values: lr 1 to 10 times AdamW's; β1 0.9, up to 0.98 in long runs; a warm-up of 5 % of the steps.

Cost: 1 pass; two numbers for each weight.

Clashes: another optimizer; another average, since evaluation and the saved model use x; a schedule that
changes the learning rate: a constant one and a warm-up are fine.

NOTE[DIFF]: the model holds y while it trains; x is lent for evaluation and for the saved model. The
statistics of batch norms are taken again for x at the end of the run, and during it are those of y.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from etude.config.fields import setting
from etude.core.phases import AVERAGE, OPTIMIZER
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts
from etude.techniques._optimizer_base import (
    AdamLikeConfig,
    Assembly,
    Beta,
    Groups,
    LibraryOptimizerTechnique,
    Part,
    learning_rate,
    library,
)
from etude.techniques.averaging import Weights, lent, statistics_for, under_prefix

Inside = Annotated[float, Field(gt=0.0, lt=1.0)]


class ScheduleFreeConfig(AdamLikeConfig):
    """Settings of schedule-free AdamW."""

    name: Literal["schedule_free"] = "schedule_free"
    lr: float = learning_rate(3e-4, 3e-5, 1e-2)
    betas: tuple[Inside, Beta] = setting(
        (0.9, 0.999), help="share of the average where gradients are taken, and memory of their squares"
    )


def make_schedule_free(groups: Groups, betas: tuple[float, float], eps: float) -> Optimizer:
    """Return schedule-free AdamW over groups that carry ``params``, ``lr`` and ``weight_decay``.

    Args:
        groups: parameter groups; further keys are kept.
        betas: β1 in (0, 1) and β2 in [0, 1).
        eps: ε above 0.

    Raises:
        ConfigError: the package ``pytorch_optimizer`` is missing.

    After the first step x, y and z are one point:

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    >>> w.grad = torch.tensor([0.3, -40.0])
    >>> make_schedule_free([{"params": [w], "lr": 0.1, "weight_decay": 0.0}], (0.9, 0.999), 1e-8).step()
    >>> w.data
    tensor([ 0.9000, -1.9000])
    """

    def part(groups: Groups) -> Optimizer:
        made: Optimizer = library("schedule_free").ScheduleFreeAdamW(groups, betas=betas, eps=eps)
        return made

    return Assembly(groups, [Part(part)], counters=("step", "weight_sum", "lr_max"))


def averaged(y: Tensor, z: Tensor, beta1: float) -> Tensor:
    """Return x, from ``y = (1 - beta1) z + beta1 x``.

    >>> import torch
    >>> averaged(torch.tensor([2.9]), torch.tensor([2.0]), 0.9)
    tensor([3.])
    """
    return y.lerp(z, 1 - 1 / beta1)


class ScheduleFree(LibraryOptimizerTechnique[ScheduleFreeConfig]):
    """Updates y by schedule-free AdamW and lends x."""

    Config = ScheduleFreeConfig
    facts = Facts(
        family="optimizers",
        phase=OPTIMIZER,
        paper="Defazio et al. 2024, arXiv 2405.15682",
        clashes={
            "fact:averages_weights": "schedule_free averages the weights itself; remove one of them",
            "fact:schedules_lr": "schedule_free needs a learning rate that does not fall; remove [schedule] "
            "or set it to constant",
        },
    )

    def __init__(self, config: ScheduleFreeConfig) -> None:
        super().__init__(config)
        self._optimizer: Optimizer | None = None
        self._statistics: Weights = {}

    def attach(self, plan: Plan) -> None:
        super().attach(plan)
        plan.add(AVERAGE, self)

    def make(self, groups: Groups) -> Optimizer:
        self._optimizer = make_schedule_free(groups, self.config.betas, self.config.eps)
        return self._optimizer

    def update(self, model: nn.Module, moment: Moment) -> None:
        """Do nothing: the optimizer's step has averaged."""

    def lend(self, model: nn.Module) -> AbstractContextManager[None]:
        """Put x into the model, with statistics that fit; y comes back bit for bit on leaving."""
        return lent(model, {**self._averages(model), **self._statistics})

    def _averages(self, model: nn.Module) -> Weights:
        """X of every weight that has been trained, by name."""
        if self._optimizer is None:
            return {}
        beta1 = {id(v): group["betas"][0] for group in self._optimizer.param_groups for v in group["params"]}
        state = self._optimizer.state
        return {
            name: averaged(value.detach(), state[value]["z"], beta1[id(value)])
            for name, value in model.named_parameters()
            if "z" in state.get(value, {})
        }

    def settle(self, run: Any) -> bool:
        """Take BatchNorm's statistics under x."""
        if self._statistics:
            return False
        self._statistics = statistics_for(run, self._averages(run.backbone))
        return bool(self._statistics)

    def state_dict(self) -> dict[str, Tensor | int | float | str]:
        return dict(self._statistics)

    def load_state_dict(self, state: Mapping[str, Tensor | int | float | str]) -> None:
        self._statistics = under_prefix("", state)
