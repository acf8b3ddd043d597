"""Focal loss: γ = 0 is the plain loss, torchvision's formula, and two widespread mistakes."""

import pytest
import torch
from pydantic import ValidationError
from tiny_contexts import make_context
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import LOSS
from etude.core.plan import build_plan
from etude.core.rng import Moment
from etude.core.task import Kind
from etude.errors import ConfigError
from etude.techniques.losses.bce import bce_terms
from etude.techniques.losses.cross_entropy import cross_entropy_terms
from etude.techniques.losses.focal import Focal, FocalConfig, focal_sigmoid_terms, focal_softmax_terms


def _data(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(64, 5, generator=generator, dtype=dtype)
    return logits.requires_grad_(), torch.randint(5, (64,), generator=generator)


def test_gamma_zero_is_cross_entropy_and_bce_bit_for_bit() -> None:
    logits, classes = _data(torch.float32)
    targets = one_hot(classes, 5).float() * 0.9 + 0.02
    pairs = [
        (focal_softmax_terms(logits, targets, 0.0), cross_entropy_terms(logits, targets)),
        (focal_sigmoid_terms(logits, targets, 0.0), bce_terms(logits, targets)),
    ]
    for focal, plain in pairs:
        assert torch.equal(focal, plain)
        gradients = [torch.autograd.grad(terms.sum(), logits)[0] for terms in (focal, plain)]
        assert torch.equal(*gradients)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.5, None), (5.0, 0.9)])
def test_sigmoid_form_is_torchvisions_for_hard_targets(gamma: float, alpha: float | None) -> None:
    logits, _ = _data()
    targets = (logits.detach() + torch.randn_like(logits) > 0).double()
    p = torch.sigmoid(logits)
    p_t = p * targets + (1 - p) * (1 - targets)
    theirs = binary_cross_entropy_with_logits(logits, targets, reduction="none") * (1 - p_t) ** gamma
    if alpha is not None:
        theirs = (alpha * targets + (1 - alpha) * (1 - targets)) * theirs
    ours = focal_sigmoid_terms(logits, targets, gamma, alpha)
    assert torch.allclose(ours.sum(1), theirs.mean(1), rtol=0, atol=1e-12)


def test_modulates_each_example_by_its_own_probability() -> None:
    """Not by exp(-mean loss of the batch), and with class weights outside of the probability."""
    logits, classes = _data()
    p_t = logits.softmax(-1)[torch.arange(64), classes]
    weights = torch.tensor([0.1, 1.0, 2.0, 5.0, 9.0], dtype=torch.float64)
    by_hand = weights[classes] * (1 - p_t) ** 2 * -p_t.log()
    ours = (focal_softmax_terms(logits, one_hot(classes, 5).double(), 2.0) * weights).sum(1)
    assert torch.allclose(ours, by_hand, rtol=0, atol=1e-12)
    mean = (-p_t.log()).mean()
    assert abs(ours.mean() - (1 - torch.exp(-mean)) ** 2 * mean) > 0.1


def test_multilabel_examples_do_not_lean_on_each_other() -> None:
    logits, _ = _data()
    targets = (logits.detach() > 0).double()
    whole = focal_sigmoid_terms(logits, targets, 2.0)
    rows = [
        focal_sigmoid_terms(row[None], target[None], 2.0) for row, target in zip(logits, targets, strict=True)
    ]
    assert torch.allclose(whole, torch.cat(rows), rtol=0, atol=1e-15)


@pytest.mark.parametrize("terms_of", [focal_softmax_terms, focal_sigmoid_terms])
def test_is_linear_in_soft_targets(terms_of) -> None:
    logits, classes = _data()
    one, other = one_hot(classes, 5).double(), one_hot(classes.flip(0), 5).double()
    mixed = terms_of(logits, 0.3 * one + 0.7 * other, 2.0)
    apart = 0.3 * terms_of(logits, one, 2.0) + 0.7 * terms_of(logits, other, 2.0)
    assert torch.allclose(mixed, apart, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("terms_of", [focal_softmax_terms, focal_sigmoid_terms])
def test_sure_examples_have_finite_gradients(terms_of, gamma: float) -> None:
    logits = torch.tensor([[1e4, -1e4], [200.0, 0.0], [0.0, 0.0]], requires_grad=True)
    terms_of(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), gamma).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def _loss_in_plan(kind: Kind, alpha: float | list[float], logits: Tensor, targets: Tensor) -> Tensor:
    loss = build_plan([Focal(FocalConfig(alpha=alpha))], make_context(kind)).one(LOSS)
    assert loss is not None
    n = len(logits)
    batch = Batch({}, targets, torch.ones(n), torch.arange(n))
    return loss(Output(logits, torch.zeros(n, 2)), batch, Moment(0, 0, 0, 10, 40))


def test_one_alpha_weighs_the_second_label_of_a_binary_task() -> None:
    """The paper's α_t: α for positives, 1 - α for negatives; of two softmax logits as of one sigmoid."""
    logits = torch.tensor([[0.5, -0.2], [0.1, 1.7]])
    found = _loss_in_plan("binary", 0.25, logits, torch.eye(2)).sum(1)
    margin = (logits[:, 1] - logits[:, 0])[:, None]
    theirs = focal_sigmoid_terms(margin, torch.tensor([[0.0], [1.0]]), 2.0, 0.25).sum(1)
    assert torch.allclose(found, theirs, rtol=0, atol=1e-7)


def test_a_list_of_alphas_is_class_weights_outside_of_the_probability() -> None:
    logits, alphas = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)), [0.1, 0.0, 3.0]
    found = _loss_in_plan("multiclass", alphas, logits, torch.eye(3))
    plain = focal_softmax_terms(logits, torch.eye(3), 2.0)
    assert torch.equal(found, torch.tensor(alphas) * plain)


def test_a_list_of_alphas_weighs_each_labels_positives_and_negatives() -> None:
    logits = torch.zeros(2, 3)
    targets = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    found = _loss_in_plan("multilabel", [0.25, 0.5, 1.0], logits, targets)
    term = 0.25 * torch.tensor(2.0).log() / 3
    assert torch.allclose(found / term, torch.tensor([[0.25, 0.5, 1.0], [0.75, 0.5, 0.0]]))


def test_one_alpha_is_refused_on_multiclass_tasks() -> None:
    with pytest.raises(ConfigError, match=r"alpha = 0.25 weighs positives against negatives.*class_weights"):
        build_plan([Focal(FocalConfig(alpha=0.25))], make_context("multiclass"))


def test_alphas_of_the_wrong_number_or_size_are_refused() -> None:
    with pytest.raises(ConfigError, match="alpha has 2 numbers and the task has 3 labels"):
        build_plan([Focal(FocalConfig(alpha=[0.5, 0.5]))], make_context("multiclass"))
    with pytest.raises(ConfigError, match=r"alpha holds 1.5.*negatives weigh 1 - alpha"):
        build_plan([Focal(FocalConfig(alpha=[0.5, 1.5, 0.5]))], make_context("multilabel"))
    for alpha in (0.0, 1.0, [0.5, -1.0]):
        with pytest.raises(ValidationError):
            FocalConfig(alpha=alpha)
