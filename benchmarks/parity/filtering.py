"""Filters by loss against torch.topk and a loop, in float64."""

from collections.abc import Iterator

import torch
from torch import Tensor

from etude.techniques.filtering.hard_examples import keep_hardest
from etude.techniques.filtering.noisy_examples import drop_hardest


def rows() -> Iterator[tuple[str, str, float]]:
    """Yield technique, reference, and the largest absolute difference in float64."""
    losses = torch.rand(64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    top = torch.zeros_like(losses).index_fill(0, losses.topk(24).indices, 1.0)
    yield "hard_examples", "torch.topk", apart(keep_hardest(losses, 24 / 64, "count"), top)
    yield "noisy_examples", "torch.topk", apart(drop_hardest(losses, 24 / 64, "count"), 1 - top)
    kept = keep_hardest(losses, 0.6, "mass")
    yield (
        "hard_examples",
        "taking the highest loss until the mass is reached",
        apart(kept, by_hand(losses, 0.6)),
    )
    # Dropping at most a share leaves the one that passes it.
    dropped = drop_hardest(losses, 0.6, "mass")
    passing = by_hand(losses, 0.6) * losses
    last = torch.zeros_like(losses)
    last[torch.where(passing > 0, passing, torch.inf).argmin()] = 1.0
    reference = 1 - by_hand(losses, 0.6) + last
    yield "noisy_examples", "dropping the highest loss while the mass allows", apart(dropped, reference)


def by_hand(losses: Tensor, share: float) -> Tensor:
    """Take the highest loss that is left until the share of the sum is reached."""
    taken, kept = 0.0, torch.zeros_like(losses)
    left = losses.clone()
    while taken < share * float(losses.sum()):
        best = int(left.argmax())
        taken, kept[best], left[best] = taken + float(losses[best]), 1.0, -1.0
    return kept


def apart(ours: Tensor, theirs: Tensor) -> float:
    """The largest absolute difference."""
    return float((ours - theirs).abs().max())
