"""Self-distillation: learn from what the model itself said an epoch ago.

Idea: a model that has seen the data knows which wrong answers are nearly right, and trusts its labels
where they are clear. Its own predictions of the last epoch, mixed into the labels more and more, smooth
each target as far as that example deserves, without another model.

Formula, with targets y (B, C), epochs e = 0 to E - 1, and P_(e-1) (N, C) the probabilities that the
model gave all training rows at the end of the epoch before:

* α_e = α (e + 1) / E for e ≥ 1, and none in the first epoch
* y' = (1 - α_e) y + α_e P_(e-1), by the row's id, in front of everything else that acts on targets

Paper: Kim et al. 2021 (2006.12000), PS-KD, equations 5 and 6. The same with whole models instead of
epochs: Furlanello et al. 2018 (1805.04770), born-again networks, for which distillation takes a teacher
of the student's own kind.

When it helps: noisy or ambiguous labels; long training; probabilities that should be calibrated.
When not: one or two epochs, in which there is nothing yet to learn from; rare classes that the model
does not see yet, since it then tells itself to go on so.

Suggested values: α = 0.8, the paper's, with many epochs; 0.5 with few.

Cost: 1.33 passes, the training rows once more after each epoch without gradients; N · C numbers, in
each checkpoint too.

Clashes: techniques that need hard targets.

NOTE[DIFF]: the paper's model predicts with the augmentation of the step, and its code keeps what the
last epoch's steps gave; here the model of the epoch's end sees every row as it is, with dropout off.
NOTE[DIFF]: the multilabel form is not in the paper; P are then the labels' own probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from etude.config.fields import Probability, SearchRange, setting
from etude.core.batch import Batch
from etude.core.phases import AUGMENT, OBSERVE
from etude.core.plan import Plan
from etude.core.predict import predict
from etude.core.rng import Moment
from etude.core.technique import Context, Facts, Technique, TechniqueConfig


class SelfDistillationConfig(TechniqueConfig):
    """Settings of self-distillation."""

    name: Literal["self_distillation"] = "self_distillation"
    alpha: Probability = setting(
        0.8,
        help="weight of the own predictions in the last epoch; 0 is none",
        search=SearchRange(0.1, 0.9),
    )


def share_of(epoch: int, epochs: int, alpha: float) -> float:
    """Return the weight of the own predictions in an epoch, counted from 0.

    Raises:
        ValueError: the epoch is not one of them.

    >>> [round(share_of(epoch, 4, 0.8), 3) for epoch in range(4)]
    [0.0, 0.4, 0.6, 0.8]
    """
    if not 0 <= epoch < epochs:
        raise ValueError(f"epoch is {epoch} and must lie in 0 to {epochs - 1}")
    return 0.0 if epoch == 0 else alpha * (epoch + 1) / epochs


def believe(targets: Tensor, told: Tensor, share: float) -> Tensor:
    """Return ``(1 - share) * targets + share * told``.

    Args:
        targets: (B, C).
        told: (B, C) probabilities.
        share: in [0, 1].

    >>> import torch
    >>> believe(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.4]]), 0.5)
    tensor([[0.8000, 0.2000]])
    """
    return (1.0 - share) * targets + share * told


class SelfDistillation(Technique[SelfDistillationConfig]):
    """Predicts the training rows after each epoch, and mixes that into the next one's targets."""

    Config = SelfDistillationConfig
    facts = Facts(
        family="distill",
        phase=AUGMENT,
        paper="Kim et al. 2021, arXiv 2006.12000; Furlanello et al. 2018, arXiv 1805.04770",
        passes=1.33,
        produces_soft_targets=True,
        neutral={"alpha": 0.0},
    )

    def __init__(self, config: SelfDistillationConfig) -> None:
        super().__init__(config)
        self._told: Tensor | None = None
        self._context: Context | None = None

    def attach(self, plan: Plan) -> None:
        if self.config.alpha == 0.0:
            return
        self._context = plan.context
        epochs = plan.context.epochs

        def soften(batch: Batch, moment: Moment) -> Batch:
            share = share_of(min(moment.epoch, epochs - 1), epochs, self.config.alpha)
            if share == 0.0 or self._told is None:
                return batch
            told = self._told[batch.index].to(batch.targets)
            return batch.replace(targets=believe(batch.targets, told, share))

        plan.add(AUGMENT, soften)
        plan.add(OBSERVE, self)

    def on_start(self, run: Any) -> None:
        """Do nothing."""

    def on_step(self, run: Any) -> None:
        """Do nothing."""

    def on_epoch(self, run: Any) -> None:
        """Keep what the model says of every training row, unless this was the last epoch."""
        if self._context is None or run.epoch >= run.settings.epochs or run.step >= run.settings.total_steps:
            return
        logits = predict(run.model, run.train, run.accelerator, title="own predictions")
        self._told = self._context.task.probabilities(logits)

    def on_evaluation(self, run: Any, scores: Mapping[str, float]) -> None:
        """Do nothing."""

    def on_end(self, run: Any) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Tensor | int | float | str]:
        return {} if self._told is None else {"told": self._told}

    def load_state_dict(self, state: Mapping[str, Tensor | int | float | str]) -> None:
        told = state.get("told")
        self._told = told if isinstance(told, Tensor) else None
