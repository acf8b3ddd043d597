"""A technique that breaks real steps in the ways that training breaks, at chosen attempts."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from etude.core.backbone import Backbone, Output
from etude.core.batch import Batch
from etude.core.phases import AUGMENT, EXTRA_LOSS, GRADIENT, MODEL, TUNE, ExtraLoss
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig


class BreakerConfig(TechniqueConfig):
    """Settings of the breaker.

    Attributes:
        attempts: the steps to break, counted from 0 whether or not they were left out.
        what: the ``loss`` is nan; a ``gradient`` is infinite under a finite loss; the learning ``rate`` is
            so high that the weights overflow; the loss is nan as long as the model computes in ``half``
            precision.
    """

    name: Literal["breaker"] = "breaker"
    attempts: tuple[int, ...] = ()
    what: Literal["loss", "gradient", "rate", "half"] = "loss"


class Breaker(Technique[BreakerConfig]):
    """Breaks steps; remembers the rows of every attempt."""

    Config = BreakerConfig
    facts = Facts(family="tests", phase=AUGMENT, paper="none", changes_inputs=True)

    def __init__(self, config: BreakerConfig) -> None:
        super().__init__(config)
        self.attempt = -1
        self.rows: list[list[int]] = []
        self.autocast: list[bool] = []

    @property
    def acts(self) -> bool:
        """Whether the running attempt is to be broken."""
        return self.attempt in self.config.attempts

    def attach(self, plan: Plan) -> None:
        plan.add(MODEL, self.listen)
        plan.add(TUNE, self.begin, rank=5000)
        plan.add(AUGMENT, self.look)
        plan.add(EXTRA_LOSS, ExtraLoss(self.terms, weight=1.0))
        plan.add(GRADIENT, self.spoil, rank=-5000)

    def listen(self, backbone: Backbone) -> Backbone:
        """Note at every pass whether the head runs under autocast."""
        backbone.head.register_forward_hook(lambda *_: self.autocast.append(torch.is_autocast_enabled("cpu")))
        return backbone

    def begin(self, groups: Sequence[dict[str, Any]], moment: Moment) -> None:
        """Count the attempt, and break the learning rate."""
        self.attempt += 1
        if self.config.what == "rate" and self.acts:
            for group in groups:
                group["lr"] = 1e39

    def look(self, batch: Batch, moment: Moment) -> Batch:
        """Note the rows."""
        self.rows.append(batch.index.tolist())
        return batch

    def terms(self, output: Output, batch: Batch, moment: Moment) -> Tensor:
        """Zeros, or nan where the loss is broken."""
        half = self.config.what == "half" and self.autocast[-1]
        broken = half or (self.config.what == "loss" and self.acts)
        return torch.full((len(batch), 1), torch.nan if broken else 0.0)

    def spoil(self, params: Sequence[nn.Parameter], moment: Moment) -> None:
        """Break the gradient."""
        if self.config.what == "gradient" and self.acts and params[0].grad is not None:
            params[0].grad.view(-1)[0] = torch.inf

    def state_dict(self) -> dict[str, Tensor | int | float | str]:
        return {"attempt": self.attempt}

    def load_state_dict(self, state: Mapping[str, Tensor | int | float | str]) -> None:
        self.attempt = int(state["attempt"])
