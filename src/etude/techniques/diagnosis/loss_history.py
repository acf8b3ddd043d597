"""Loss history: keep the loss of every training row in every epoch.

Idea: how a row's loss goes over the epochs says what it is: easy rows fall at once, hard ones late, rows
with a wrong label stay high or rise again, and some are learned and forgotten. Training computes these
losses anyway.

Formula: L (N, E), L_ie being the mean of the losses that row i had in epoch e, over all its draws and
passes; nan where it was not drawn.

Paper: Toneva et al. 2019 (1812.05159), rows that are forgotten; Swayamdipta et al. 2020 (2009.10795),
rows by the mean and the spread of their probability over the epochs.

When it helps: finding wrong labels and rows that no other explains; always worth a look after training.
When not: targets that mix several rows; one epoch, which has no course.

Suggested values: there are none to choose.

Cost: 1 pass; the loss of logits that are there already once more, without gradients. Memory of two bytes
for each row and epoch, and of eight for each row of the running one.

Clashes: mixup, cutmix and hidden_mixup, where a mixed example's loss belongs to two rows.

NOTE[DIFF]: the loss is the one that the model has while it trains: with its dropout, of augmented inputs
and softened targets, before class and example weights; a row's losses come from different moments of the
epoch. It is taken from the forward pass and not from the weighing of examples, because that would need
a pass of its own with micro-batches.
NOTE[DIFF]: where several devices train, a stop in the middle of an epoch loses what the others saw of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import FORWARD, LOSS, OBSERVE, ModelCall
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig

_MIXED = "the loss of a mixed example belongs to two rows and says nothing of either; remove one of them"
OUTERMOST = -200
"""Outside of all that change the call, so that the output is what the loss gets."""


class LossHistoryConfig(TechniqueConfig):
    """Settings of the history of losses: there are none."""

    name: Literal["loss_history"] = "loss_history"


def add_losses(sums: Tensor, counts: Tensor, rows: Tensor, losses: Tensor) -> None:
    """Add the finite ones of losses (B,) of rows (B,) to their sums (N,) and counts (N,), in place.

    >>> sums, counts = torch.zeros(3), torch.zeros(3)
    >>> add_losses(sums, counts, torch.tensor([2, 0, 2]), torch.tensor([1.0, torch.inf, 3.0]))
    >>> sums, counts
    (tensor([0., 0., 4.]), tensor([0., 0., 2.]))
    """
    finite = torch.isfinite(losses)
    sums.index_add_(0, rows, losses.where(finite, 0.0).to(sums))
    counts.index_add_(0, rows, finite.to(counts))


class LossHistory(Technique[LossHistoryConfig]):
    """Adds up each row's losses during an epoch and keeps their mean at its end.

    Attributes:
        history: (N, E) float16 on the CPU, a column for each epoch, nan where a row has no loss; rows
            without labels are left out.
    """

    Config = LossHistoryConfig
    facts = Facts(
        family="diagnosis",
        phase=OBSERVE,
        paper="Toneva et al. 2019, arXiv 1812.05159; Swayamdipta et al. 2020, arXiv 2009.10795",
        clashes={"mixup": _MIXED, "cutmix": _MIXED, "hidden_mixup": _MIXED},
    )

    def __init__(self, config: LossHistoryConfig) -> None:
        super().__init__(config)
        self.history = torch.empty(0, 0, dtype=torch.float16)
        self._sums = self._counts = torch.empty(0)

    def attach(self, plan: Plan) -> None:
        n_rows, epochs = plan.context.n_rows, plan.context.epochs
        self.history = torch.full((n_rows, epochs), torch.nan, dtype=torch.float16)
        n_shown = n_rows + plan.context.n_unlabelled
        self._sums, self._counts = torch.zeros(n_shown), torch.zeros(n_shown)

        # The plan is not complete yet: the loss may be placed after this.
        chosen = cache(lambda: plan.one(LOSS))

        def look(call: ModelCall, batch: Batch, moment: Moment) -> Output:
            output, loss = call(batch), chosen()
            if loss is not None:
                with torch.no_grad():
                    logits = output.logits.detach()
                    exact = logits if logits.dtype == torch.float64 else logits.float()
                    self._add(loss(replace(output, logits=exact), batch, moment).sum(dim=1), batch)
            return output

        plan.add(FORWARD, look, rank=OUTERMOST)
        plan.add(OBSERVE, self)

    def _add(self, losses: Tensor, batch: Batch) -> None:
        self._sums, self._counts = self._sums.to(losses.device), self._counts.to(losses.device)
        add_losses(self._sums, self._counts, batch.index, losses)

    def _keep(self, run: Any, epoch: int) -> None:
        """Write the epoch's column; every process has seen its share of the rows."""
        device = run.accelerator.device
        sums = run.accelerator.reduce(self._sums.to(device), "sum")
        counts = run.accelerator.reduce(self._counts.to(device), "sum")
        self.history[:, epoch] = (sums / counts)[: len(self.history)].half().cpu()

    def on_start(self, run: Any) -> None:
        """What a checkpoint held was the first process's; it is counted once."""
        if not run.accelerator.is_main_process:
            self._clear()

    def on_step(self, run: Any) -> None:
        """The losses were seen in the forward pass."""

    def on_epoch(self, run: Any) -> None:
        """Keep the means of the epoch that has ended."""
        self._keep(run, run.epoch - 1)
        self._clear()

    def on_evaluation(self, run: Any, scores: Mapping[str, float]) -> None:
        """Scores are logged by the engine."""

    def on_end(self, run: Any) -> None:
        """Keep the means of an epoch that a limit on steps cut short."""
        if run.position > 0:
            self._keep(run, run.epoch)

    def _clear(self) -> None:
        self._sums, self._counts = torch.zeros_like(self._sums), torch.zeros_like(self._counts)

    def state_dict(self) -> dict[str, Tensor | int | float | str]:
        return {"history": self.history, "sums": self._sums, "counts": self._counts}

    def load_state_dict(self, state: Mapping[str, Tensor | int | float | str]) -> None:
        # A checkpoint from before the technique was switched on holds nothing of it.
        history, sums, counts = (state.get(name) for name in ("history", "sums", "counts"))
        if isinstance(history, Tensor) and isinstance(sums, Tensor) and isinstance(counts, Tensor):
            self.history, self._sums, self._counts = history.clone(), sums.clone(), counts.clone()
