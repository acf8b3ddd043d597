"""Forward correction: learn the true labels through a matrix that says how labels were confused.

Idea: where it is known how often a row of one class bears the label of another, the model may predict the
true class, and its prediction is passed through these confusions before it is compared with the noisy label.
What the noise explains, the model need not learn.

Formula, with logits z (B, C), targets y (B, C), and T (C, C), whose entry T_ij is the share of rows of
class i that bear the label j, as terms (B, C):

* p = softmax(z), q_j = Σ_i p_i T_ij
* l_bc = -y_bc log q_bc
* with a rate r alone: T_ii = 1 - r and T_ij = r / (C - 1), noise that is the same everywhere

Paper: Patrini et al. 2017 (1609.03683), section 4.1, theorem 2.

When it helps: noise with a pattern, as from rules or keywords, and a hundred rows or more that bear both
labels and tell the confusions.
When not: clean labels; confusions that are guessed (a wrong T teaches wrong classes); noise that depends on
the row and not on its class alone.

Suggested values: a matrix counted on rows with both labels (``confusions``); rate = the share of wrong labels
where nothing more is known.

Cost: 1 pass; a matrix product (B, C) (C, C).

Clashes: none; label_smoothing spreads the noisy labels once more.

NOTE[DIFF]: shares of zero count as 1e-30, so that a label that T rules out costs much and not infinitely.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor

from etude.config.fields import SearchRange, setting
from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import LOSS
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import SINGLE_LABEL, Facts, Technique, TechniqueConfig
from etude.errors import ConfigError

LEAST = 1e-30
"""What a share of zero counts as."""


class ForwardCorrectionConfig(TechniqueConfig):
    """Settings of forward correction."""

    name: Literal["forward_correction"] = "forward_correction"
    rate: float = setting(
        0.2,
        help="share of wrong labels, where matrix is absent",
        ge=0.0,
        lt=1.0,
        search=SearchRange(0.0, 0.5),
    )
    matrix: list[list[float]] | None = setting(
        None, help="for each true label, in the order of the labels, how its rows' labels are shared out"
    )

    @model_validator(mode="after")
    def _rows_are_shares(self) -> Self:
        for i, row in enumerate(self.matrix or [], start=1):
            if min(row, default=-1.0) < 0 or abs(sum(row) - 1.0) > 1e-3:
                raise ValueError(f"row {i} of matrix is {row} and must be shares of 0 or more that sum to 1")
            if len(row) != len(self.matrix or []):
                raise ValueError(
                    f"matrix has {len(self.matrix or [])} rows and row {i} has {len(row)} shares"
                )
        return self


def confusions(true: Sequence[int], noisy: Sequence[int], n_classes: int) -> NDArray[np.float64]:
    """Return the matrix T (C, C) of rows that bear both labels; a class without rows stays as it is.

    Args:
        true: (N,) classes, counted from 0.
        noisy: (N,) the classes that the labels name.
        n_classes: C.

    >>> confusions([0, 0, 1, 1], [0, 1, 1, 1], 3).tolist()
    [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    counts = np.zeros((n_classes, n_classes))
    np.add.at(counts, (np.asarray(true), np.asarray(noisy)), 1.0)
    empty = counts.sum(axis=1) == 0
    counts[empty, empty.nonzero()[0]] = 1.0
    shares: NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True)
    return shares


def forward_terms(logits: Tensor, targets: Tensor, transition: Tensor) -> Tensor:
    """Return ``-y log(softmax(z) T)``.

    Args:
        logits: (B, C).
        targets: (B, C), hard or soft, of the noisy labels.
        transition: T (C, C), each row summing to one.

    Raises:
        ValueError: the matrix has another size.

    >>> half = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    >>> forward_terms(torch.tensor([[9.0, -9.0]]), torch.tensor([[0.0, 1.0]]), half)
    tensor([[0.0000, 0.6931]])
    """
    n_classes = logits.shape[-1]
    if transition.shape != (n_classes, n_classes):
        raise ValueError(f"the matrix is {tuple(transition.shape)} and there are {n_classes} classes")
    log_t = transition.to(logits).clamp_min(LEAST).log()
    log_q = torch.logsumexp(logits.log_softmax(dim=-1)[:, :, None] + log_t, dim=1)
    return -targets * log_q


class ForwardCorrection(Technique[ForwardCorrectionConfig]):
    """A loss that looks at noisy labels through their confusions."""

    Config = ForwardCorrectionConfig
    facts = Facts(
        family="losses", phase=LOSS, paper="Patrini et al. 2017, arXiv 1609.03683", tasks=SINGLE_LABEL
    )

    def attach(self, plan: Plan) -> None:
        n_classes, rate = plan.context.task.n_classes, self.config.rate
        if self.config.matrix is None:
            spread = rate / max(n_classes - 1, 1)
            transition = torch.full((n_classes, n_classes), spread, dtype=torch.float64)
            transition.fill_diagonal_(1.0 - rate)
        else:
            transition = torch.tensor(self.config.matrix, dtype=torch.float64)
        if len(transition) != n_classes:
            raise ConfigError(
                f"loss.matrix has {len(transition)} rows and there are {n_classes} labels; give one for "
                f"each, in the order {', '.join(plan.context.task.labels)}"
            )

        def loss(output: Output, batch: Batch, moment: Moment) -> Tensor:
            return forward_terms(output.logits, batch.targets, transition)

        plan.add(LOSS, loss)
