"""Easy to hard: show the rows of an epoch by rising loss, as the model last had it.

Idea: the model itself says what is easy. Each epoch begins with the rows whose last loss was low and
ends with those it finds hard, so that difficult rows come when the epoch has prepared them.

Formula, with m (N,) the last loss of each training row: epoch 0 is shuffled; every later epoch, until
the time T, shows its rows by rising m as it stood when the epoch began. Rows not seen yet come last.

Paper: Bengio et al. 2009, Curriculum learning, ICML; Kumar et al. 2010, Self-paced learning for latent
variable models, NeurIPS, which orders by the model's own loss.

When it helps: training from scratch over many epochs; data of very unequal difficulty.
When not: noisy labels, which end every epoch; fine-tuning of few epochs, where random order is as good;
classes of unequal difficulty, so that batches hold few classes.

Suggested values: T = "0.5dur": the second half of the run is shuffled.

Cost: 1 pass and two numbers for each training row. Losses are collected over whole batches, so that with
micro-batches or several devices each step has one more forward pass, without gradients, in front.

Clashes: length_buckets and short_to_long, which want the same phase; mixup, cutmix and hidden_mixup,
where a mixed example's loss belongs to two rows.

NOTE[DIFF]: self-paced learning leaves hard rows out until the model is ready; here each epoch shows all
rows once, so that its length stays what it was.
NOTE[DIFF]: the loss is the one that the step had: with its dropout, its class weights and its softened
targets; of a two-pass step the first pass's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from etude.config.fields import Time, setting
from etude.core.batch import Batch
from etude.core.phases import ORDER, WEIGH_EXAMPLE, Rows, View
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig

_MIXED = "the loss of a mixed example belongs to two rows and says nothing of either; remove one of them"


class EasyToHardConfig(TechniqueConfig):
    """Settings of the order by loss."""

    name: Literal["easy_to_hard"] = "easy_to_hard"
    until: Time = setting(
        Time(1, "dur"), help="epochs that begin before this time are ordered, as '5ep' or '0.5dur'"
    )


def by_difficulty(losses: NDArray[np.float32], rng: np.random.Generator) -> Rows:
    """Return the positions by rising loss; equal losses in random order, unknown ones (nan) last.

    Args:
        losses: (N,) last loss of each row.
        rng: shuffles rows of one loss.

    >>> losses = np.array([0.7, np.nan, 0.1, 2.0], dtype=np.float32)
    >>> by_difficulty(losses, np.random.default_rng(0)).tolist()
    [2, 0, 3, 1]
    """
    shuffled = rng.permutation(len(losses))
    return shuffled[np.argsort(losses[shuffled], kind="stable")]


class EasyToHard(Technique[EasyToHardConfig]):
    """Remembers the losses of all rows, and orders the rows of an epoch by them.

    The losses as they stood when the running epoch began are kept beside the newest ones, since a
    resumed epoch must have the order that it began with.
    """

    Config = EasyToHardConfig
    facts = Facts(
        family="curriculum",
        phase=ORDER,
        paper="Bengio et al. 2009, ICML; Kumar et al. 2010, NeurIPS",
        clashes={"mixup": _MIXED, "cutmix": _MIXED, "hidden_mixup": _MIXED},
        neutral={"until": "0ep"},
    )

    def __init__(self, config: EasyToHardConfig) -> None:
        super().__init__(config)
        self._newest = self._at_start = torch.empty(0)
        self._epoch = -1
        self._seen: tuple[int, Tensor] = (-1, torch.empty(0))

    def attach(self, plan: Plan) -> None:
        context = plan.context
        end = context.steps(self.config.until)
        if end == 0:
            return
        self._newest = torch.full((context.n_rows + context.n_unlabelled,), torch.nan)
        self._at_start = self._newest.clone()

        def order(view: View, batch_size: int, moment: Moment) -> Rows:
            self._begin(moment.epoch)
            rng = moment.numpy("easy_to_hard")
            if context.steps(Time(moment.epoch, "ep")) < end:
                return by_difficulty(self._at_start[torch.from_numpy(view.rows)].numpy(), rng)
            return rng.permutation(len(view.rows))

        def remember(losses: Tensor, batch: Batch, moment: Moment) -> Tensor:
            self._remember(losses, batch, moment)
            return torch.ones_like(losses)

        plan.add(ORDER, order)
        plan.add(WEIGH_EXAMPLE, remember)

    def _begin(self, epoch: int) -> None:
        """Fix the losses that order the epoch, unless it is a resumed one."""
        if epoch != self._epoch:
            self._at_start, self._epoch = self._newest.cpu().clone(), epoch

    def _remember(self, losses: Tensor, batch: Batch, moment: Moment) -> None:
        # The second pass of one step has the same rows; another batch may follow a skipped step.
        step, rows = self._seen
        if step == moment.step and rows is batch.index:
            return
        self._seen = (moment.step, batch.index)
        self._newest = self._newest.to(losses.device)
        self._newest[batch.index] = losses.detach().float()

    def state_dict(self) -> dict[str, Tensor | int | float | str]:
        return {"newest": self._newest.cpu().clone(), "at_start": self._at_start, "epoch": self._epoch}

    def load_state_dict(self, state: Mapping[str, Tensor | int | float | str]) -> None:
        newest, at_start, epoch = state["newest"], state["at_start"], state["epoch"]
        if isinstance(newest, Tensor) and isinstance(at_start, Tensor) and isinstance(epoch, int):
            self._newest, self._at_start, self._epoch = newest.clone(), at_start.clone(), epoch
