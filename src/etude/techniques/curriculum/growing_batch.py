"""Growing batch: begin with small steps of noisy gradients, and let the batches grow.

Idea: a decaying learning rate and a growing batch both lower the noise of the steps. Growing the
batch does it in fewer, larger steps, which a parallel machine takes faster.

Formula, with B the run's batch size, f the factor, E epochs, and k(e) the growths up to epoch e:

* epoch e, from 0, has round(B · f^k(e)) rows in a step
* k(e) = how many of the epochs ``at`` have come, at_j ≤ e
* without ``at``: P phases of equal length, which begin at round(j · E / P) for j = 1 to P - 1
* the noise of the steps at learning rate ε with N rows is ε (N / B - 1) ≈ ε N / B: dividing ε by f
  and multiplying B by f lower it by the same factor

Paper: Smith et al. 2018 (1711.00489), sections 2 and 5.1.

When it helps: long training on many devices; a fast fall of the loss early on with small batches,
and a calm end with large ones.
When not: fine-tuning of a few epochs with a decaying learning rate, whose noise falls by itself; on one
processor, where large steps are no faster for each row.

Suggested values: f = 2 in 3 phases, as 32, 64, 128; up to f = 5 in place of dividing the learning
rate by 5. The paper keeps the learning rate, so choose the constant schedule, with or without a warm-up.

Cost: fewer optimizer steps; memory grows with the batch unless train.micro_batch_size is set.

Clashes: another technique that chooses the batch size.

NOTE[DIFF]: the paper grows the batch after given epochs and, for the largest batches, also raises the
learning rate and the momentum at the start; equal phases and no such raise are what is offered here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from etude.config.fields import SearchRange, setting
from etude.core.phases import BATCH_SIZE
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConfigError

Epoch = Annotated[int, Field(ge=1)]


class GrowingBatchConfig(TechniqueConfig):
    """Settings of the growing batch."""

    name: Literal["growing_batch"] = "growing_batch"
    factor: float = setting(
        2.0,
        help="what the batch size is multiplied by at each growth",
        ge=1.0,
        le=100.0,
        search=SearchRange(1.0, 5.0, "log"),
    )
    phases: int = setting(3, help="phases of equal length, where 'at' is absent", unit="phases", ge=1)
    at: list[Epoch] | None = setting(
        None, help="epochs after which the batch grows, as [2, 4]; absent: phases of equal length"
    )

    @model_validator(mode="after")
    def _at_rises(self) -> Self:
        if self.at is not None and self.at != sorted(set(self.at)):
            raise ValueError(f"at is {self.at} and must name each epoch once, in rising order")
        return self


def equal_phases(n_phases: int, n_epochs: int) -> list[int]:
    """Return the epochs at which the second and all later phases begin.

    Raises:
        ValueError: there are fewer epochs than phases.

    >>> equal_phases(3, 10)
    [3, 7]
    """
    if n_epochs < n_phases:
        raise ValueError(f"{n_epochs} epochs cannot be cut into {n_phases} phases")
    return [round(j * n_epochs / n_phases) for j in range(1, n_phases)]


def grown(batch_size: int, factor: float, at: Sequence[int], epoch: int) -> int:
    """Return the rows of a step in an epoch.

    Args:
        batch_size: rows of a step at the start.
        factor: what each growth multiplies it by.
        at: epochs at which it grows, rising.
        epoch: the running epoch, from 0.

    >>> [grown(32, 2.0, [1, 3], epoch) for epoch in range(5)]
    [32, 64, 64, 128, 128]
    """
    return round(batch_size * factor ** bisect_right(at, epoch))


class GrowingBatch(Technique[GrowingBatchConfig]):
    """Chooses the rows of a step for each epoch."""

    Config = GrowingBatchConfig
    facts = Facts(
        family="curriculum",
        phase=BATCH_SIZE,
        paper="Smith et al. 2018, arXiv 1711.00489",
        neutral={"factor": 1.0},
        # As many phases as the shortest run that tests of every technique make has epochs.
        example={"phases": 2},
    )

    def attach(self, plan: Plan) -> None:
        config, context = self.config, plan.context
        if config.factor == 1.0:
            return
        at = config.at if config.at is not None else self._equal(context.epochs)
        if at and at[-1] >= context.epochs:
            raise ConfigError(
                f"growing_batch grows after epoch {at[-1]} and the run has {context.epochs} epochs; name "
                "earlier epochs in at, or raise train.epochs"
            )
        if not at:
            return

        def choose(moment: Moment) -> int:
            return grown(context.batch_size, config.factor, at, moment.epoch)

        plan.add(BATCH_SIZE, choose)

    def _equal(self, n_epochs: int) -> list[int]:
        n_phases = self.config.phases
        if n_epochs < n_phases:
            raise ConfigError(
                f"growing_batch has {n_phases} phases and the run has {n_epochs} epochs; lower phases, or "
                "raise train.epochs"
            )
        return equal_phases(n_phases, n_epochs)
