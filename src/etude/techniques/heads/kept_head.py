"""Kept head: start with the head of a saved model, in place of a fresh one.

Idea: where training goes on from a model that knows the labels already (frozen first, unfrozen then; on other
rows; with other techniques), a fresh head would throw away what its head has learned.

Formula, with the saved head's parameters θ: θ₀ = θ before the first step.

Paper: Howard and Ruder 2018 (1801.06146), section 3.3: the classifier is trained first, and the layers under
it are unfrozen with the classifier as it then is; Kumar et al. 2022 (2202.10054), linear probing before
fine-tuning, for why a fitted head keeps the features under it from being distorted.

When it helps: every stage after the first one that learns the same labels; ``etude train`` adds it to such
stages.
When not: other labels; a saved head that was fitted to features which the network under it no longer gives.

Suggested values: none, but the model's folder.

Cost: the saved model is opened once.

Clashes: linear_probe and zero_head, which give the head its first weights too; the probe steps aside where it
was only recommended; label_embedding, multi_sample_dropout, classifier_chain and label_crf, which put heads
of their own.

NOTE[DIFF]: a saved model's head has its calibration folded in, where that is affine: the logits start
calibrated.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from etude.config.fields import setting
from etude.core.backbone import Backbone
from etude.core.phases import MODEL
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConflictError

LAST = 1000
"""The rank: after the techniques that exchange the head."""

REASON = "both give the head its first weights; remove one of them"

OTHER_HEADS = ("classifier_chain", "label_crf", "label_embedding", "multi_sample_dropout")
OTHER = "it puts a head of its own in the place of the one that kept_head keeps; remove one of them"


class KeptHeadConfig(TechniqueConfig):
    """Settings of the kept head."""

    name: Literal["kept_head"] = "kept_head"
    model: str = setting(help="folder of the saved model whose head is kept")


def copy_head(saved: nn.Module, head: nn.Module, folder: str) -> None:
    """Copy a saved head's parameters into a head of the same shape.

    Args:
        saved: from features (B, D) to logits (B, C).
        head: the same, changed in place.
        folder: where the saved head comes from, for the error.

    Raises:
        ConflictError: their parameters differ in name or shape.

    >>> from torch import ones
    >>> saved, fresh = nn.Linear(1, 2), nn.Linear(1, 2)
    >>> _ = saved.load_state_dict({"weight": ones(2, 1), "bias": ones(2)})
    >>> copy_head(saved, fresh, "runs/first")
    >>> fresh.bias.tolist()
    [1.0, 1.0]
    """
    theirs, own = saved.state_dict(), head.state_dict()
    if {name: value.shape for name, value in theirs.items()} != {n: v.shape for n, v in own.items()}:
        raise ConflictError(
            f"kept_head: the head saved in {folder} is a {_described(saved)} and this run's is a "
            f"{_described(head)}; give the same head, pooling and columns, or remove kept_head"
        )
    head.load_state_dict(theirs)


def _described(head: nn.Module) -> str:
    sizes = " and ".join("x".join(map(str, p.shape)) for p in head.parameters() if p.ndim > 1)
    return f"{type(head).__name__} of {sizes}"


class KeptHead(Technique[KeptHeadConfig]):
    """Copies a saved head before the run's groups are made."""

    Config = KeptHeadConfig
    facts = Facts(
        family="heads",
        phase=MODEL,
        paper="Howard and Ruder 2018, arXiv 1801.06146; Kumar et al. 2022, arXiv 2202.10054",
        clashes={"linear_probe": REASON, "zero_head": REASON} | dict.fromkeys(OTHER_HEADS, OTHER),
        example={"model": "runs/first"},
    )

    def attach(self, plan: Plan) -> None:
        folder = self.config.model
        saved = plan.context.load_model(folder).head

        def edit(backbone: Backbone) -> Backbone:
            copy_head(saved, backbone.head, folder)
            return backbone

        plan.add(MODEL, edit, rank=LAST)
