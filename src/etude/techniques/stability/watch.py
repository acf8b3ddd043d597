"""Watch: log the norms of the gradients and the weights of every block.

Idea: a loss that stalls or jumps does not say where. Norms by block do: a block whose gradients
vanish does not learn, one whose gradients outgrow its weights is about to break, and a head whose
weights grow without end overfits.

Formula, for each block b of the backbone with parameters θ_b and gradients g_b, after an optimizer step:

* gradient_norm = ||g_b||_2, of the gradient that the optimizer got: clipped, and of the whole batch
* weight_norm = ||θ_b||_2, after the step
* ratio = ||g_b||_2 / ||θ_b||_2

Paper: Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward neural networks,
section 4, which watches gradients by layer; You et al. 2017 (1708.03888), which compares them with the
weights of each layer.

When it helps: choosing learning rates by block, warm-up and clipping; finding where numbers become
infinite or vanish.
When not: it never harms; very small steps feel its cost.

Suggested values: every 25 steps; every 10 for short runs.

Cost: 1 pass; one reading of all weights and gradients at each logged step, and none at others.

Clashes: none; it looks on and changes nothing.

NOTE[DIFF]: histograms of single tensors, as trackers draw them, are left out; a norm for each block is
what fits into a line of metrics.jsonl.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from etude.config.fields import Time, setting
from etude.core.phases import OBSERVE
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig


class WatchConfig(TechniqueConfig):
    """Settings of watching."""

    name: Literal["watch"] = "watch"
    every: Time = setting(Time(25, "st"), help="how often norms are logged, as '25st' or '0.1ep'")

    @model_validator(mode="after")
    def _every_is_some_time(self) -> Self:
        if self.every.amount == 0:
            raise ValueError(f"every is {self.every} and must be longer; to watch nothing, remove watch")
        return self


def block_norms(blocks: Iterable[tuple[str, nn.Module]]) -> dict[str, dict[str, float]]:
    """Return the gradient norm, the weight norm and their ratio, each by the name of the block.

    A number that does not exist is left out: the gradient of a frozen block, a ratio to weights that
    are all zero, and what is not finite.

    Args:
        blocks: names and modules; gradients are read from ``.grad``.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> layer.weight.data, layer.weight.grad = torch.tensor([[6.0, 8.0]]), torch.tensor([[3.0, 4.0]])
    >>> block_norms([("head", layer)])
    {'gradient_norm': {'head': 5.0}, 'weight_norm': {'head': 10.0}, 'ratio': {'head': 0.5}}
    """
    names: list[str] = []
    norms: list[Tensor] = []
    for name, module in blocks:
        weights = [value.detach() for value in module.parameters()]
        gradients = [value.grad for value in module.parameters() if value.grad is not None]
        if weights:
            names.append(name)
            norms += [_norm(gradients, weights[0].device), _norm(weights, weights[0].device)]
    # One transfer for all blocks: the host waits for the device once.
    read = torch.stack(norms).tolist() if norms else []
    pairs = list(zip(names, read[::2], read[1::2], strict=True))
    ratios = {name: gradient / weight for name, gradient, weight in pairs if weight > 0}
    return {
        "gradient_norm": _finite({name: gradient for name, gradient, _ in pairs}),
        "weight_norm": _finite({name: weight for name, _, weight in pairs}),
        "ratio": _finite(ratios),
    }


def _norm(tensors: list[Tensor], device: torch.device) -> Tensor:
    """The norm of all tensors together, nan where there is none."""
    return get_total_norm(tensors).float() if tensors else torch.full((), math.nan, device=device)


def _finite(norms: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in norms.items() if math.isfinite(value)}


class Watch(Technique[WatchConfig]):
    """Logs the norms after every so many steps."""

    Config = WatchConfig
    facts = Facts(
        family="stability",
        phase=OBSERVE,
        paper="Glorot & Bengio 2010, AISTATS; You et al. 2017, arXiv 1708.03888",
        neutral={"every": "1st"},
    )

    def __init__(self, config: WatchConfig) -> None:
        super().__init__(config)
        self._every = 1

    def attach(self, plan: Plan) -> None:
        self._every = max(plan.context.steps(self.config.every), 1)
        plan.add(OBSERVE, self)

    def on_start(self, run: Any) -> None:
        """Nothing has happened yet."""

    def on_step(self, run: Any) -> None:
        """Log the norms, where it is time and the step was not skipped."""
        if run.step == 0 or run.step % self._every != 0:
            return
        norms = block_norms(run.backbone.blocks())
        if norms["gradient_norm"]:
            run.log({"watch": norms})

    def on_epoch(self, run: Any) -> None:
        """Steps tell everything."""

    def on_evaluation(self, run: Any, scores: Mapping[str, float]) -> None:
        """Scores are logged by the engine."""

    def on_end(self, run: Any) -> None:
        """The last step has been seen."""
