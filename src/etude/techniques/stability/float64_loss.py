"""Loss in float64: compute the loss of the logits in double precision.

Idea: for a sure example the probability rounds to one in float32, its loss to zero and its gradient
with it; for very large logits the rounding of log-softmax makes the loss jump. The logits are a few
numbers in a row, so that double precision for them alone costs nothing next to the model.

Formula, with logits z (B, C):

* z' = float64(z); the loss, its weights and the sum over the batch follow in float64
* the gradient by z is rounded back to the type of z, and everything below it is as before

Paper: Blanchard, Higham & Higham 2021 (1909.03469), which bounds the rounding errors of log-sum-exp and
softmax; the advice to raise the precision in front of log-softmax when a loss spikes is Rohan Anil's.

When it helps: loss spikes or zero gradients of sure examples, very large logits, gradients that are compared
with a reference.
When not: the logits themselves are infinite or come from bfloat16: what they lost does not come back.

Suggested values: nothing to set; try it before gradient clipping is made tighter.

Cost: 1 pass; (B, C) tensors take twice the memory, and a GPU for games computes them slowly.

Clashes: none; Apple's GPUs (mps) have no float64 and are refused at the first step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor

from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import FORWARD, ModelCall
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConfigError

OUTERMOST = -1000
"""The rank of a wrapper that sees what all others made of the model's output."""


class Float64LossConfig(TechniqueConfig):
    """The loss in float64 has no settings."""

    name: Literal["float64_loss"] = "float64_loss"


def to_float64(logits: Tensor) -> Tensor:
    """Return the logits (B, C) in float64, with a gradient in their own type.

    Raises:
        ConfigError: the logits' device has no float64.

    >>> import torch
    >>> sure = torch.tensor([20.0, 0.0])
    >>> sure.log_softmax(dim=0)[0].item()
    0.0
    >>> f"{to_float64(sure).log_softmax(dim=0)[0]:.4g}"
    '-2.061e-09'
    """
    if logits.device.type == "mps":
        raise ConfigError("float64_loss: the device mps has no float64; remove float64_loss, or train on cpu")
    return logits.double()


def output_in_float64(output: Output) -> Output:
    """Return the output with its logits in float64, those of a second pass as well."""
    again = None if output.again is None else output_in_float64(output.again)
    return replace(output, logits=to_float64(output.logits), again=again)


class Float64Loss(Technique[Float64LossConfig]):
    """Raises the precision of what the loss is computed from."""

    Config = Float64LossConfig
    facts = Facts(
        family="stability",
        phase=FORWARD,
        paper="Blanchard, Higham & Higham 2021, arXiv 1909.03469",
    )

    def attach(self, plan: Plan) -> None:
        def forward(call: ModelCall, batch: Batch, moment: Moment) -> Output:
            return output_in_float64(call(batch))

        plan.add(FORWARD, forward, rank=OUTERMOST)
