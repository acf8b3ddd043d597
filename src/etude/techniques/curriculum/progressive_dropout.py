"""Progressive dropout: begin without dropout and raise it while training goes on.

Idea: a young network has nothing to overfit with. Beginning with little noise lets it learn fast, and
raising the dropout rate makes the task harder as the network becomes able to memorise.

Formula, with t the time that has passed and E the length of the rise:

* p(t) = p0 + min(t / E, 1) · (p1 - p0), for every dropout module
* per = "epoch": t counts whole epochs, so the rate changes between epochs; per = "step": at each step

Paper: Morerio et al. 2017 (1703.06229), Curriculum Dropout, section 3.

When it helps: long training on little data, where full dropout from the start slows the first epochs.
When not: a fine-tuning run of an epoch or two, which ends before the rise does.

Suggested values: from 0 to 0.5 over 2 epochs for a network trained from scratch; an end of 0.1 to 0.2
for a pretrained transformer, which was trained with 0.1.

Cost: 1 pass; no memory.

Clashes: none; it replaces the rates that the checkpoint and the config gave.

NOTE[DIFF]: the paper's rise is exponential and never quite ends, p(t) = p1 (1 - exp(-γ t)) from 0;
this one is linear with an end, as usual in practice, and may also fall.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import nn

from etude.config.fields import SearchRange, Time, setting
from etude.core.phases import ADJUST
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig


class ProgressiveDropoutConfig(TechniqueConfig):
    """Settings of progressive dropout."""

    name: Literal["progressive_dropout"] = "progressive_dropout"
    start: float = setting(0.0, help="dropout rate at the start", ge=0.0, lt=1.0)
    end: float = setting(
        0.5, help="dropout rate after the rise", ge=0.0, lt=1.0, search=SearchRange(0.05, 0.5)
    )
    over: Time = setting(Time(2, "ep"), help="length of the rise, as '2ep', '500st' or '0.5dur'")
    per: Literal["epoch", "step"] = setting("epoch", help="whether the rate changes by epoch or by step")
    where: Literal["all", "head"] = setting("all", help="every dropout module, or those of the head")


def dropout_rate(start: float, end: float, share: float) -> float:
    """Return the rate after a share of the rise, which stays at ``end`` once the share passes 1.

    >>> [dropout_rate(0.0, 0.5, epoch / 2) for epoch in range(4)]
    [0.0, 0.25, 0.5, 0.5]
    """
    return start + min(share, 1.0) * (end - start)


def dropouts(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules with a rate to set: those with a float ``p`` in a class named ``...Dropout``.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1), nn.ReLU())
    >>> [module.p for module in dropouts(model)]
    [0.1]
    """
    for module in model.modules():
        if type(module).__name__.endswith("Dropout") and isinstance(getattr(module, "p", None), (int, float)):
            yield module


class ProgressiveDropout(Technique[ProgressiveDropoutConfig]):
    """Sets the dropout rate before each step."""

    Config = ProgressiveDropoutConfig
    facts = Facts(
        family="curriculum",
        phase=ADJUST,
        paper="Morerio et al. 2017, arXiv 1703.06229",
        needs=frozenset({"dropout"}),
        # As with any dropout, each micro-batch draws masks of its own.
        split_invariant=False,
    )

    def attach(self, plan: Plan) -> None:
        config, context = self.config, plan.context
        # A rise of no steps has ended before the first one.
        length = context.steps(config.over)

        def adjust(model: nn.Module, moment: Moment) -> None:
            done = moment.step if config.per == "step" else context.steps(Time(moment.epoch, "ep"))
            rate = dropout_rate(config.start, config.end, done / length if length else 1.0)
            for module in dropouts(model if config.where == "all" else model.get_submodule("head")):
                module.p = rate  # type: ignore[assignment]  # nn.Module types its attributes as modules

        plan.add(ADJUST, adjust)
