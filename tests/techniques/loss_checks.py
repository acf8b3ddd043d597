"""What every loss on the logits must keep to, whatever its formula."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

Terms = Callable[[Tensor, Tensor], Tensor]


def seeded(n_classes: int = 5, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (64, C) with gradient, classes (64,) and sets of labels (64, C)."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(64, n_classes, generator=generator, dtype=dtype)
    classes = torch.randint(n_classes, (64,), generator=generator)
    several = (torch.rand(64, n_classes, generator=generator) < 0.4).to(dtype)
    return logits.requires_grad_(), classes, several


def assert_linear_in_targets(terms: Terms) -> None:
    """A mixed target gives the mixture of the losses, so that mixup and smoothing need nothing special."""
    logits, classes, _ = seeded()
    one, other = one_hot(classes, 5).double(), one_hot(classes.flip(0), 5).double()
    mixed = terms(logits, 0.3 * one + 0.7 * other)
    apart = 0.3 * terms(logits, one) + 0.7 * terms(logits, other)
    assert torch.allclose(mixed, apart, rtol=0, atol=1e-12)


def assert_rows_do_not_lean_on_each_other(terms: Terms, targets: Tensor) -> None:
    """The loss of a row is the same alone and among others: nothing is a mean over the batch."""
    logits, _, _ = seeded(targets.shape[1])
    whole = terms(logits, targets)
    rows = [terms(row[None], target[None]) for row, target in zip(logits, targets, strict=True)]
    assert torch.allclose(whole, torch.cat(rows), rtol=0, atol=1e-15)


def assert_finite_at_the_ends(terms: Terms) -> None:
    """Sure, hopeless and equal logits give finite losses and gradients in float32."""
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    logits = torch.tensor([[1e4, -1e4], [1e4, -1e4], [200.0, 0.0], [0.0, 0.0]], requires_grad=True)
    loss = terms(logits, targets).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def assert_same_gradients(ours: Tensor, theirs: Tensor, logits: Tensor) -> None:
    """Two losses have the same value and the same gradient by the logits, to rounding."""
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0] for loss in (ours, theirs)]
    assert torch.allclose(*gradients, rtol=0, atol=1e-12)


def assert_keeps_float64(terms: Terms) -> None:
    """Logits in float64 with targets in float32, as training has them, give terms in float64."""
    logits, classes, _ = seeded()
    assert terms(logits, one_hot(classes, 5).float()).dtype == torch.float64
