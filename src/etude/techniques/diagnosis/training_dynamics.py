"""Training dynamics: log the gradient norm and the size of the updates of every parameter group.

Idea: a learning rate is right when each step changes the weights a little: about a thousandth of their
norm. The optimizer decides what a gradient becomes, so that only the change of the weights themselves
tells, and it differs from group to group.

Formula, for each group with parameters θ, their gradients g and the learning rate η, at a step t that is
due:

* grad_norm = ||g||_2, of the gradient that the optimizer got: clipped, and of the whole batch
* update_ratio = ||θ_t - θ_(t-1)||_2 / ||θ_(t-1)||_2
* lr = η, after warm-up and schedule

Paper: You et al. 2017 (1708.03888), section 4, which compares updates with weights; Karpathy, CS231n
notes "Neural networks 3", which names 1e-3 as the ratio to look for.

When it helps: choosing learning rates of groups; seeing that a group hardly moves or is torn about.
When not: it never harms.

Suggested values: every 0.02dur, fifty times in a run.

Cost: 1 pass; a copy of a few numbers of each weight in front of each logged step, and nothing at others.

Clashes: none; it looks on and changes nothing.

NOTE[DIFF]: of a tensor with more than 4,096 numbers the update is measured on as many evenly spaced ones,
and so are the weights that it is compared with; gradient norms are of all numbers. That keeps the copy
small, and the ratio exact to about one part in a hundred.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor
from torch.nn.utils import get_total_norm

from etude.config.fields import Time, setting
from etude.core.phases import OBSERVE
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig

MEASURED = 4_096
"""Numbers of one tensor on which its update is measured."""


class TrainingDynamicsConfig(TechniqueConfig):
    """Settings of the log of updates."""

    name: Literal["training_dynamics"] = "training_dynamics"
    every: Time = setting(Time(0.02, "dur"), help="how often it is logged, as '25st', '0.1ep' or '0.02dur'")

    @model_validator(mode="after")
    def _every_is_some_time(self) -> Self:
        if self.every.amount == 0:
            raise ValueError(f"every is {self.every} and must be longer; to log nothing, switch it off")
        return self


def measured_part(value: Tensor) -> Tensor:
    """Return the numbers of a tensor on which its update is measured, as a vector that shares its memory.

    >>> measured_part(torch.arange(6.0).reshape(2, 3))
    tensor([0., 1., 2., 3., 4., 5.])
    >>> len(measured_part(torch.zeros(1000, 1000)))
    4082
    """
    flat = value.detach().reshape(-1)
    return flat[:: -(-flat.numel() // MEASURED)] if flat.numel() > MEASURED else flat


def update_norms(before: Sequence[Tensor], after: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the norm of the change of some vectors, and the norm of what they were.

    >>> change, whole = update_norms([torch.tensor([3.0, 4.0])], [torch.tensor([3.0, 4.5])])
    >>> change.item(), whole.item()
    (0.5, 5.0)
    """
    changes = [now - then for then, now in zip(before, after, strict=True)]
    return get_total_norm(changes), get_total_norm(before)


class TrainingDynamics(Technique[TrainingDynamicsConfig]):
    """Takes a copy of the weights one step before it is time, and compares it with them at the step."""

    Config = TrainingDynamicsConfig
    facts = Facts(
        family="diagnosis",
        phase=OBSERVE,
        paper="You et al. 2017, arXiv 1708.03888; Karpathy, CS231n notes",
        neutral={"every": "1st"},
    )

    def __init__(self, config: TrainingDynamicsConfig) -> None:
        super().__init__(config)
        self._every = 1
        self._before: dict[int, Tensor] = {}

    def attach(self, plan: Plan) -> None:
        self._every = max(plan.context.steps(self.config.every), 1)
        plan.add(OBSERVE, self)

    def on_start(self, run: Any) -> None:
        """Take the copy where the first step is due, as it may be after a resume."""
        self._copy_in_front(run)

    def on_step(self, run: Any) -> None:
        """Log the numbers where it is time and the step was not skipped."""
        if run.skipped == 0 and run.step % self._every == 0:
            found = self._measure(run.optimizer.param_groups)
            if found:
                run.log({"dynamics": found})
            self._before = {}
        self._copy_in_front(run)

    def _copy_in_front(self, run: Any) -> None:
        if (run.step + 1) % self._every == 0:
            self._before = {
                id(value): measured_part(value).clone()
                for group in run.optimizer.param_groups
                for value in group["params"]
                if value.requires_grad
            }

    def _measure(self, groups: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
        """The numbers of every group that trains, read from the device in one transfer."""
        names: list[str] = []
        norms: list[Tensor] = []
        for group in groups:
            moved = [p for p in group["params"] if p.grad is not None and id(p) in self._before]
            if moved:
                names.append(group["name"])
                before, after = [self._before[id(p)] for p in moved], [measured_part(p) for p in moved]
                norms += [get_total_norm([p.grad for p in moved]), *update_norms(before, after)]
        read = torch.stack([norm.float() for norm in norms]).tolist() if norms else []
        lrs = {group["name"]: float(group["lr"]) for group in groups}
        found: dict[str, dict[str, float]] = {}
        for name, gradient, change, whole in zip(names, read[::3], read[1::3], read[2::3], strict=True):
            ratio = change / whole if whole > 0 else math.nan
            numbers = {"grad_norm": gradient, "update_ratio": ratio, "lr": lrs[name]}
            found[name] = {key: value for key, value in numbers.items() if math.isfinite(value)}
        return found

    def on_epoch(self, run: Any) -> None:
        """Steps tell everything."""

    def on_evaluation(self, run: Any, scores: Mapping[str, float]) -> None:
        """Scores are logged by the engine."""

    def on_end(self, run: Any) -> None:
        """The last step has been seen."""
