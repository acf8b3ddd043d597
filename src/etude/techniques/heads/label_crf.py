"""Label CRF: let labels attract and repel each other, in training and in prediction.

Idea: independent sigmoids know nothing of sets. They predict "calm" and "angry" together, or half of
what always comes together. A number for every pair of labels, learned beside the head, turns the
logits into a distribution over whole sets of labels.

Formula, with the head's logits u (B, C), symmetric potentials W (C, C) with a zero diagonal, and a set
of labels as y in {0, 1}^C:

* score(y) = Σ_c u_c y_c + Σ_{c<d} W_cd y_c y_d, and p(y) = exp(score(y)) / Z over all 2^C sets
* exact loss, one term for each example: [log Z - score(y)] / C + λ Σ_{c<d} W_cd²
* pseudo-likelihood: the mean over c of the binary cross-entropy of u_c + Σ_d W_cd y_d, and the same λ
* prediction by marginals: the log-odds of p(y_c = 1), exact, or mean-field above 16 labels
* prediction of the likeliest set: the best score with label c minus the best score without it, whose
  signs are that set and whose sigmoids are no probabilities; for more than 16 labels a set that no
  single change improves
* with W = 0 both losses are bce

Paper: Ghamrawi & McCallum 2005, Collective multi-label classification (CIKM), section 3;
pseudo-likelihood: Besag 1975; mean field: Wainwright & Jordan 2008, section 5.

When it helps: whole sets must be right (subset accuracy); labels that exclude or entail each other;
little data, from which the head cannot learn it.
When not: labels that depend on each other only through the text, which the head sees already; scores
that look at one label at a time.

Suggested values: training = "auto" and λ = 0.001; decode = "map" where whole sets are scored.

Cost: 1 pass; the exact loss looks at B · 2^C sets, 65 536 for each example of 16 labels.

Clashes: class_weights, since a set has one term and not one for each label; distillation, whose
teacher speaks of probabilities while the logits in training are potentials; soft targets, which name
no set.

NOTE[DIFF]: it is a model of a set, every pair of labels having a potential; chains of neighbouring
labels are another model. The paper's potentials of pairs may depend on words; here they are numbers.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from etude.config.fields import SearchRange, setting
from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import LOSS, MODEL
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConfigError
from etude.parts import label_crf as field
from etude.parts.placing import LABELS_RANK, fresh, topped_by


class LabelCRFConfig(TechniqueConfig):
    """Settings of the label CRF."""

    name: Literal["label_crf"] = "label_crf"
    training: Literal["auto", "exact", "pseudo"] = setting(
        "auto", help="the loss: exact, or pseudo-likelihood; auto is exact up to 16 labels"
    )
    decode: Literal["marginal", "map"] = setting(
        "marginal", help="what is predicted: each label's own probability, or the likeliest set"
    )
    l2: float = setting(
        1e-3,
        help="λ, penalty on the squared potentials of pairs",
        ge=0.0,
        le=100.0,
        search=SearchRange(1e-5, 1e-1, "log"),
    )


def exact_terms(logits: Tensor, pairwise: Tensor, targets: Tensor) -> Tensor:
    """Return the negative log-likelihood of each example's set of labels, divided by C.

    Args:
        logits: (B, C) the head's, u.
        pairwise: (C, C) symmetric with a zero diagonal, W.
        targets: (B, C) zeros and ones.

    Returns:
        (B, 1).

    >>> import torch
    >>> w = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> exact_terms(torch.zeros(1, 2), w, torch.ones(1, 2))  # [log(3 + e) - 1] / 2
    tensor([[0.3718]])
    """
    score = (logits * targets).sum(dim=1) + ((targets @ pairwise) * targets).sum(dim=1) / 2
    return ((field.log_partition(logits, pairwise) - score) / logits.shape[1]).unsqueeze(1)


def pseudo_terms(logits: Tensor, pairwise: Tensor, targets: Tensor) -> Tensor:
    """Return the binary cross-entropy of each label given all others, divided by C.

    Arguments are those of :func:`exact_terms`; the result is (B, C).

    >>> import torch
    >>> w = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> pseudo_terms(torch.zeros(1, 2), w, torch.ones(1, 2))  # log(1 + 1 / e) / 2 each
    tensor([[0.1566, 0.1566]])
    """
    given = field.conditional_logits(logits, pairwise, targets)
    return F.binary_cross_entropy_with_logits(given, targets, reduction="none") / logits.shape[1]


class LabelCRF(Technique[LabelCRFConfig]):
    """Puts the potentials on top of the head, and is their loss."""

    Config = LabelCRFConfig
    facts = Facts(
        family="heads",
        phase=LOSS,
        paper="Ghamrawi & McCallum 2005, CIKM; Besag 1975, The Statistician 24(3)",
        tasks=frozenset({"multilabel"}),
        accepts_soft_targets=False,
        clashes={
            "class_weights": "a set of labels has one term in the loss and none for each label; "
            "remove one of them, or use classifier_chain",
            "distillation": "the logits in training are potentials and the teacher's are probabilities; "
            "remove one of them",
        },
    )

    def attach(self, plan: Plan) -> None:
        config, n_classes = self.config, plan.context.task.n_classes
        if config.training == "exact" and n_classes > field.MAX_EXACT:
            raise ConfigError(
                f'label_crf: training = "exact" looks at 2^{n_classes} sets and at most '
                f'{field.MAX_EXACT} labels are counted so; use training = "pseudo" or "auto"'
            )
        exact = config.training == "exact" or (config.training == "auto" and n_classes <= field.MAX_EXACT)
        terms = exact_terms if exact else pseudo_terms
        labels = fresh(field.LabelCRF, plan.context.seed, n_classes=n_classes, decode=config.decode)

        def loss(output: Output, batch: Batch, moment: Moment) -> Tensor:
            labels.refuse_rest()
            pairwise = labels.potentials.to(output.logits.dtype)
            found = terms(output.logits, pairwise, batch.targets.to(output.logits.dtype))
            if config.l2 == 0.0:
                return found
            # Each term has its share, so that the terms of an example hold the penalty once.
            return found + config.l2 * pairwise.square().sum() / (2 * found.shape[1])

        plan.add(MODEL, topped_by(labels), rank=LABELS_RANK)
        plan.add(LOSS, loss)
