"""Label smoothing against torch's own, and the multilabel form by hand."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from etude.techniques.targets.label_smoothing import smooth


def test_equals_torch_label_smoothing() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(64, 7, generator=generator, dtype=torch.float64)
    classes = torch.randint(7, (64,), generator=generator)
    hard = torch.nn.functional.one_hot(classes, 7).double()
    ours = -(smooth(hard, 0.13, 7) * logits.log_softmax(-1)).sum(-1).mean()
    theirs = cross_entropy(logits, classes, label_smoothing=0.13)
    assert abs(ours - theirs) < 1e-12


def test_multilabel_form_moves_towards_one_half() -> None:
    targets = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert torch.equal(smooth(targets, 0.2, 2), torch.tensor([[0.9, 0.1]], dtype=torch.float64))


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"smoothing is 1.0 and must lie in \[0, 1\)"):
        smooth(torch.ones(1, 2), 1.0, 2)
