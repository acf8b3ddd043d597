"""Several models as one: each sees its own inputs, and their outputs become one set of logits.

Shapes: M members, B rows, C labels, Q quantiles.

* ``probabilities``: p = sum_m w_m p_m, given as logits of p
* ``logits``: z = sum_m w_m z_m
* ``ranks``: each score becomes the share of held-out rows whose score was lower, r_m; given as logits of
  sum_m w_m r_m, so that members on other scales count alike
* ``stacking``: z = W [z_1, ..., z_M] + b, a logistic regression on the members' logits
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from etude.core.backbone import Backbone, Output

Method = Literal["probabilities", "logits", "ranks", "stacking"]
METHODS: tuple[str, ...] = get_args(Method)
SMALLEST = 1e-7
"""Probabilities nearer to 0 or 1 than this have no finite logit that float32 can tell from its neighbours."""


def combine(logits: Tensor, method: Method, tensors: Mapping[str, Tensor], *, several: bool) -> Tensor:
    """Return one set of logits (B, C) for those of the members (M, B, C).

    Args:
        logits: of the members.
        method: how they are joined.
        tensors: ``"weights"`` (M,), which sum to 1; for ``ranks`` also ``"quantiles"`` (M, Q, C), rising
            along Q; for ``stacking`` ``"matrix"`` (C, M * C) and ``"bias"`` (C,) instead.
        several: whether labels are independent (sigmoid), or one holds (softmax).

    >>> two = torch.tensor([[[0.0, 0.0]], [[2.0, 0.0]]])
    >>> equal = {"weights": torch.tensor([0.5, 0.5])}
    >>> combine(two, "logits", equal, several=False)
    tensor([[1., 0.]])
    >>> combine(two, "probabilities", equal, several=False).softmax(-1)
    tensor([[0.6904, 0.3096]])
    """
    if method == "stacking":
        flat = logits.permute(1, 0, 2).reshape(logits.shape[1], -1)
        return flat @ tensors["matrix"].T + tensors["bias"]
    weights = tensors["weights"].to(logits)[:, None, None]
    if method == "logits":
        return (weights * logits).sum(dim=0)
    if method == "ranks":
        return _logit((weights * ranks(logits, tensors["quantiles"])).sum(dim=0))
    if several:
        return _logit((weights * torch.sigmoid(logits)).sum(dim=0))
    return (weights * torch.softmax(logits, dim=-1)).sum(dim=0).clamp_min(SMALLEST).log()


def ranks(logits: Tensor, quantiles: Tensor) -> Tensor:
    """Return the share (M, B, C) of held-out rows whose score was lower, from their quantiles (M, Q, C).

    >>> ranks(torch.tensor([[[0.5]], [[9.0]]]), torch.tensor([[[0.0], [1.0], [2.0]], [[0.0], [1.0], [2.0]]]))
    tensor([[[0.2500]],
    <BLANKLINE>
            [[1.0000]]])
    """
    known, asked = quantiles.transpose(1, 2).contiguous(), logits.transpose(1, 2).contiguous()
    n = known.shape[-1]
    above = torch.searchsorted(known, asked).clamp(1, n - 1)
    low, high = known.gather(-1, above - 1), known.gather(-1, above)
    inside = ((asked - low) / (high - low).clamp_min(SMALLEST)).clamp(0, 1)
    return ((above - 1 + inside) / (n - 1)).transpose(1, 2)


def _logit(p: Tensor) -> Tensor:
    p = p.clamp(SMALLEST, 1 - SMALLEST)
    return p.log() - (-p).log1p()


class Combined(Backbone):
    """An ensemble of saved models, in evaluation mode.

    A row's inputs are those of each source under ``"0.NAME"``, ``"1.NAME"`` and so on; members that read
    their inputs alike share a source. Inputs without such a number go to every member, as those of a run do
    whose teacher the ensemble is.
    """

    def __init__(
        self,
        members: Sequence[Backbone],
        sources: Sequence[int],
        method: Method,
        tensors: Mapping[str, Tensor],
        n_classes: int,
        *,
        several: bool,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.sources, self.method, self.several = tuple(sources), method, several
        for name, value in tensors.items():
            self.register_buffer(name, value)
        self._tensors = tuple(tensors)
        # What asks a head for its outputs (a student does) finds as many as there are labels.
        self.head = nn.Linear(1, n_classes)
        prints = {member.fingerprint for member in members}
        self.fingerprint = prints.pop() if len(prints) == 1 else "several formats"
        self.trained_with = frozenset().union(*(member.trained_with for member in members))
        self.eval()

    def forward(self, inputs: Mapping[str, Tensor], transform: Any = None) -> Output:
        """Return the combined logits; the features are the members' logits side by side."""
        found = [
            member(self._of(inputs, source)).logits.float()
            for member, source in zip(self.members, self.sources, strict=True)
        ]
        logits = torch.stack(found)
        tensors = {name: getattr(self, name) for name in self._tensors}
        joined = combine(logits, self.method, tensors, several=self.several)
        return Output(joined, torch.cat(found, dim=-1))

    @staticmethod
    def _of(inputs: Mapping[str, Tensor], source: int) -> Mapping[str, Tensor]:
        prefix = f"{source}."
        own = {name[len(prefix) :]: v for name, v in inputs.items() if name.startswith(prefix)}
        return own or inputs

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        raise NotImplementedError("an ensemble has no embedding of its own")

    def layers_from(self, embedding: Tensor, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        raise NotImplementedError("an ensemble has no layers of its own")

    def pool(self, layers: tuple[Tensor, ...], inputs: Mapping[str, Tensor]) -> Tensor:
        raise NotImplementedError("an ensemble pools nothing itself")

    def blocks(self) -> list[tuple[str, nn.Module]]:
        """The members, and a head that holds nothing that is used."""
        return [*((f"member {i}", member) for i, member in enumerate(self.members)), ("head", self.head)]
