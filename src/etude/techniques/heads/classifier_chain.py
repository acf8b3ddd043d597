"""Classifier chain: let every label see the labels before it.

Idea: independent classifiers cannot know that one label makes another likely. In a chain each
classifier reads, beside the text, whether the earlier labels hold: the true ones in training, what was
predicted of them afterwards.

Formula, with the head's logits u (B, C), a chain of the labels, weights U_cd for each label d before c
and zero for all others, and targets y (B, C):

* training: z_bc = u_bc + Σ_d U_cd y_bd, terms (B, C) the binary cross-entropy of z and y over C
* prediction: z_bc = u_bc + Σ_d U_cd ŷ_bd label after label, ŷ = 1[z ≥ 0], or ŷ = σ(z)
* with U = 0 it is bce; p(y) = Π_c p(y_c | y before c) is a distribution over sets of labels

Paper: Read et al. 2011, Classifier chains for multi-label classification (Machine Learning 85),
section 3; the loss as a likelihood of sets: Dembczyński et al. 2010 (ICML).

When it helps: whole sets must be right; labels with an order, such as coarse before fine; more than
16 labels, where label_crf is no longer exact.
When not: an unlucky order, in which an early mistake spoils what follows; calibrated probabilities of
single labels.

Suggested values: order = "frequent", feed = "decision"; several runs with order = "random" and other
seeds make the paper's ensemble.

Cost: 1 pass; C (C - 1) / 2 weights; C small steps for each batch in prediction.

Clashes: distillation, whose teacher does not know the labels before; soft targets, which are no labels
to be read.

NOTE[DIFF]: the classifiers share the backbone and learn together; in the paper each is a model of its
own. Reading the earlier labels is linear, as in a chain of logistic regressions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from etude.config.fields import setting
from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import LOSS, MODEL
from etude.core.plan import Plan
from etude.core.rng import Moment, numpy_generator
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConfigError
from etude.parts import classifier_chain as chain
from etude.parts.placing import LABELS_RANK, fresh, topped_by


class ClassifierChainConfig(TechniqueConfig):
    """Settings of the classifier chain."""

    name: Literal["classifier_chain"] = "classifier_chain"
    order: Literal["given", "frequent", "rare", "random"] | list[str] = setting(
        "frequent",
        help="as the labels are numbered, most frequent or rarest first, drawn, or all their names",
    )
    feed: Literal["decision", "probability"] = setting("decision", help="what a label hands on in prediction")


def chain_terms(logits: Tensor, dependence: Tensor, targets: Tensor) -> Tensor:
    """Return the terms of each label's binary cross-entropy given the true labels before it, over C.

    Args:
        logits: (B, C) the head's, u.
        dependence: (C, C), row c zero but for labels before c, U.
        targets: (B, C) zeros and ones.

    Returns:
        (B, C).

    >>> import torch
    >>> u = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    >>> chain_terms(torch.zeros(1, 2), u, torch.ones(1, 2))  # log 2 / 2 and log(1 + e^-2) / 2
    tensor([[0.3466, 0.0635]])
    """
    given = chain.chain_logits(logits, dependence, targets)
    return F.binary_cross_entropy_with_logits(given, targets, reduction="none") / logits.shape[1]


def order_of(
    said: str | Sequence[str], labels: Sequence[str], counts: NDArray[Any], rng: np.random.Generator
) -> list[int]:
    """Return the columns of the labels in the order of the chain.

    Args:
        said: ``"given"``, ``"frequent"``, ``"rare"``, ``"random"``, or all labels by name.
        labels: C names.
        counts: (C,) rows of each label; equally frequent labels stay as they are numbered.
        rng: draws the random order.

    Raises:
        ConfigError: the names are not the labels, each once.

    >>> order_of("frequent", ["a", "b", "c"], np.array([5, 9, 5]), np.random.default_rng(0))
    [1, 0, 2]
    """
    if not isinstance(said, str):
        if sorted(said) != sorted(labels):
            odd = sorted(set(said) ^ set(labels)) or sorted(
                name for name in said if list(said).count(name) > 1
            )
            raise ConfigError(
                f"classifier_chain: order names {len(said)} labels of {len(labels)}, and {odd[0]!r} is not "
                "in both or stands twice; name each label of the task once"
            )
        return [list(labels).index(name) for name in said]
    by_count: NDArray[Any] = np.asarray(counts)
    if said == "frequent":
        by_count = -by_count
    if said in ("frequent", "rare"):
        return [int(c) for c in np.argsort(by_count, kind="stable")]
    columns = np.arange(len(labels))
    return [int(c) for c in (rng.permutation(columns) if said == "random" else columns)]


class ClassifierChain(Technique[ClassifierChainConfig]):
    """Puts the chain on top of the head, and is its loss."""

    Config = ClassifierChainConfig
    facts = Facts(
        family="heads",
        phase=LOSS,
        paper="Read et al. 2011, Machine Learning 85(3); Dembczyński et al. 2010, ICML",
        tasks=frozenset({"multilabel"}),
        accepts_soft_targets=False,
        clashes={
            "distillation": "the chain's logits in training do not know the labels before, and the "
            "teacher's do; remove one of them",
        },
    )

    def attach(self, plan: Plan) -> None:
        context = plan.context
        rng = numpy_generator(context.seed, self.key())
        order = order_of(self.config.order, context.task.labels, context.class_counts, rng)
        labels = fresh(chain.ClassifierChain, context.seed, order=order, feed=self.config.feed)

        def loss(output: Output, batch: Batch, moment: Moment) -> Tensor:
            labels.refuse_rest()
            dependence = labels.dependence.to(output.logits.dtype)
            return chain_terms(output.logits, dependence, batch.targets.to(output.logits.dtype))

        plan.add(MODEL, topped_by(labels), rank=LABELS_RANK)
        plan.add(LOSS, loss)
