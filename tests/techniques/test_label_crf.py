"""The label CRF against brute force over all sets, by hand, and in its place among other techniques."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from etude.core.batch import Batch
from etude.core.phases import LOSS
from etude.core.plan import Plan
from etude.core.task import make_task
from etude.errors import ConfigError, ConflictError
from etude.parts import label_crf as crf
from etude.techniques import technique_class
from etude.techniques.heads.label_crf import LabelCRF, exact_terms, pseudo_terms
from etude.testing.harness import Setup, make, make_engine, train
from etude.testing.technique_suite import difference, split_difference
from etude.testing.tiny import tiny_backbone

CRF = technique_class("label_crf")
TABLE = Setup(modality="table", kind="multilabel")


def field(n_labels: int, n: int = 5, seed: int = 0, strength: float = 1.5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, n_labels, generator=generator, dtype=torch.float64)
    half = (strength * torch.randn(n_labels, n_labels, generator=generator, dtype=torch.float64)).tril(-1)
    return logits, half + half.T


def every_set(n_labels: int) -> list[tuple[int, ...]]:
    return list(itertools.product((0, 1), repeat=n_labels))


def score(u: Tensor, pairwise: Tensor, labels: tuple[int, ...]) -> float:
    """The score as the card has it, one pair after the other."""
    single = sum(float(u[c]) for c, held in enumerate(labels) if held)
    pairs = itertools.combinations([c for c, held in enumerate(labels) if held], 2)
    return single + sum(float(pairwise[c, d]) for c, d in pairs)


@pytest.mark.parametrize("n_labels", [1, 2, 3, 5, 8, 10])
def test_partition_marginals_and_likeliest_set_are_those_of_all_sets(n_labels: int) -> None:
    logits, pairwise = field(n_labels, n=3 if n_labels < 8 else 1)
    for b, u in enumerate(logits):
        scores = {labels: score(u, pairwise, labels) for labels in every_set(n_labels)}
        z = math.fsum(math.exp(s) for s in scores.values())
        log_z = crf.log_partition(logits, pairwise)[b].item()
        assert log_z == pytest.approx(math.log(z), rel=1e-12, abs=1e-12)
        marginals = [math.fsum(math.exp(s) for y, s in scores.items() if y[c]) / z for c in range(n_labels)]
        found = torch.sigmoid(crf.set_logits(logits, pairwise))[b].tolist()
        assert found == pytest.approx(marginals, abs=1e-12)
        best = max(scores, key=scores.__getitem__)
        signs = crf.set_logits(logits, pairwise, torch.amax)[b] >= 0
        assert tuple(signs.int().tolist()) == best
        labels = torch.tensor(list(scores), dtype=torch.float64)
        terms = exact_terms(u.expand(len(labels), -1), pairwise, labels)
        total = (-n_labels * terms).exp().sum().item()
        assert total == pytest.approx(1.0, abs=1e-12)


def test_two_labels_by_hand() -> None:
    logits, pairwise = torch.tensor([[1.0, -2.0]]).double(), torch.tensor([[0.0, 3.0], [3.0, 0.0]]).double()
    # The sets: none 0, the first 1, the second -2, both 1 - 2 + 3 = 2.
    z = 1 + math.e + math.exp(-2) + math.exp(2)
    assert crf.set_scores(logits, pairwise).tolist() == [[0.0, 1.0, -2.0, 2.0]]
    marginals = torch.sigmoid(crf.set_logits(logits, pairwise))[0].tolist()
    assert marginals == pytest.approx([(math.e + math.exp(2)) / z, (math.exp(-2) + math.exp(2)) / z])
    # The second label alone says no, and both together are the best set.
    assert crf.set_logits(logits, pairwise, torch.amax).tolist() == [[2.0, 1.0]]
    both = torch.ones(1, 2).double()
    assert exact_terms(logits, pairwise, both).item() == pytest.approx((math.log(z) - 2) / 2)
    expected = [math.log1p(math.exp(-4)) / 2, math.log1p(math.exp(-1)) / 2]
    assert pseudo_terms(logits, pairwise, both)[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("terms", [exact_terms, pseudo_terms])
def test_without_pairs_it_is_bce(terms) -> None:
    logits, _ = field(7)
    targets = (torch.rand(logits.shape, generator=torch.Generator().manual_seed(1)) < 0.4).double()
    none = torch.zeros(7, 7, dtype=torch.float64)
    expected = binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)
    assert torch.allclose(terms(logits, none, targets).sum(dim=1), expected, rtol=0, atol=1e-12)
    assert torch.allclose(crf.set_logits(logits, none), logits, rtol=0, atol=1e-12)
    assert torch.allclose(crf.mean_field_logits(logits, none), logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("terms", [exact_terms, pseudo_terms])
def test_gradients_are_those_of_differences(terms) -> None:
    logits, pairwise = field(4, n=2)
    targets = torch.tensor([[1, 0, 1, 0], [0, 0, 1, 1]]).double()
    logits.requires_grad_()
    pairwise.requires_grad_()
    assert torch.autograd.gradcheck(lambda u, w: terms(u, w, targets), (logits, pairwise), atol=1e-7)


def test_the_gradient_of_the_loss_is_the_marginals_minus_the_labels() -> None:
    logits, pairwise = field(6)
    targets = (logits > 0).double()
    logits.requires_grad_()
    exact_terms(logits, pairwise, targets).sum().backward()
    expected = (torch.sigmoid(crf.set_logits(logits.detach(), pairwise)) - targets) / 6
    assert logits.grad is not None
    assert torch.allclose(logits.grad, expected, rtol=0, atol=1e-12)


def test_mean_field_is_close_where_labels_hardly_depend_on_each_other() -> None:
    logits, pairwise = field(8, strength=0.05)
    exact = torch.sigmoid(crf.set_logits(logits, pairwise))
    apart = (torch.sigmoid(crf.mean_field_logits(logits, pairwise)) - exact).abs().max()
    ignored = (torch.sigmoid(logits) - exact).abs().max()
    assert apart < 2e-3 < ignored


def test_mean_field_ends_at_a_fixed_point_and_never_leaves_the_field() -> None:
    logits, pairwise = field(12, n=20)
    found = crf.mean_field_logits(logits, pairwise, sweeps=500)
    q = torch.sigmoid(found)
    assert torch.allclose(found, logits + q @ pairwise, rtol=0, atol=1e-6)

    def free_energy(values: Tensor) -> Tensor:
        p = torch.sigmoid(values)
        entropy = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)).sum(dim=1)
        return (p * logits).sum(dim=1) + ((p @ pairwise) * p).sum(dim=1) / 2 + entropy

    bounds = [free_energy(crf.mean_field_logits(logits, pairwise, sweeps=n)) for n in (1, 2, 4, 8)]
    assert all((later >= earlier - 1e-9).all() for earlier, later in itertools.pairwise(bounds))
    assert (bounds[-1] <= crf.log_partition(logits, pairwise) + 1e-9).all()


def test_climbing_ends_where_no_single_label_helps_and_often_at_the_best_set() -> None:
    logits, pairwise = field(10, n=200, strength=0.5)
    found = crf.climb(logits, pairwise, crf.mean_field_logits(logits, pairwise))
    labels = (found >= 0).double()
    assert torch.allclose(crf.conditional_logits(logits, pairwise, labels), found)
    best = (crf.set_logits(logits, pairwise, torch.amax) >= 0).double()
    assert (labels == best).all(dim=1).double().mean() > 0.8


def test_many_rows_go_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = crf.LabelCRF(5, "marginal").eval()
    logits, pairwise = field(5, n=11)
    layer.double().pairwise.data.copy_(pairwise)
    whole = layer(logits)
    monkeypatch.setattr(crf, "_STATES", 64)
    assert torch.allclose(layer(logits), whole, rtol=0, atol=1e-12)
    assert torch.allclose(whole, crf.set_logits(logits, pairwise), rtol=0, atol=1e-12)


@pytest.mark.parametrize("decode", ["marginal", "map"])
def test_more_labels_than_can_be_counted(decode: str) -> None:
    layer = crf.LabelCRF(20, decode).eval().double()
    logits, pairwise = field(20, strength=0.3)
    layer.pairwise.data.copy_(pairwise)
    marginals = crf.mean_field_logits(logits, pairwise)
    expected = marginals if decode == "marginal" else crf.climb(logits, pairwise, marginals)
    assert torch.equal(layer(logits), expected)


def test_sixteen_labels_are_exact() -> None:
    logits, _ = field(16, n=2)
    none = torch.zeros(16, 16, dtype=torch.float64)
    expected = torch.nn.functional.softplus(logits).sum(dim=1)
    assert torch.allclose(crf.log_partition(logits, none), expected, rtol=0, atol=1e-10)


# In a run.


def test_training_learns_the_potentials_and_prediction_uses_them() -> None:
    engine = make_engine({CRF: {"l2": 0.0}}, TABLE)
    inputs = engine.train.inputs(np.arange(4))
    engine.fit()
    head = engine.backbone.head
    pairwise = head.get_parameter("labels.pairwise")
    assert pairwise.tril(-1).abs().sum() > 0
    assert not pairwise.triu().any()
    with torch.no_grad():
        potentials = engine.backbone.train()(inputs).logits
        logits = engine.backbone.eval()(inputs).logits
    symmetric = pairwise.tril(-1) + pairwise.tril(-1).T
    assert torch.allclose(logits, crf.set_logits(potentials, symmetric), atol=1e-6)
    assert not torch.allclose(logits, potentials, atol=1e-3)


@pytest.mark.parametrize("training", ["exact", "pseudo"])
def test_the_penalty_counts_once_for_each_example(training: str) -> None:
    engine = make_engine({CRF: {"l2": 0.5, "training": training}}, TABLE)
    plain = make_engine({CRF: {"l2": 0.0, "training": training}}, TABLE)
    losses = []
    for made in (engine, plain):
        made.backbone.head.get_parameter("labels.pairwise").data.copy_(2 * torch.ones(3, 3).tril(-1))
        examples = made.train
        batch = Batch(examples.inputs(np.arange(5)), examples.targets[:5], torch.ones(5), torch.arange(5))
        loss = made.plan.one(LOSS)
        assert loss is not None
        losses.append(loss(made.backbone(batch.inputs), batch, made.moment()).sum(dim=1))
    # Three pairs with a potential of 2 each.
    assert torch.allclose(losses[0] - losses[1], torch.full((5,), 0.5 * 3 * 4.0), atol=1e-5)


@pytest.mark.parametrize("training", ["exact", "pseudo"])
def test_micro_batches_mean_nothing(training: str) -> None:
    assert split_difference({CRF: {"training": training}}, TABLE) <= 1e-9


def test_the_linear_probe_starts_the_head_under_the_potentials() -> None:
    recipe = {CRF: {}, technique_class("linear_probe"): {}}
    without = {technique_class("bce"): {}, technique_class("linear_probe"): {}}
    started = []
    for names in (recipe, without):
        engine = make_engine(names, Setup(modality="table", kind="multilabel", max_steps=1))
        engine.fit()
        started.append(engine.backbone.state_dict())
    # With all potentials zero the first gradient of the head is that of bce.
    for name in ("weight", "bias"):
        assert torch.allclose(started[0][f"head.base.{name}"], started[1][f"head.{name}"], atol=1e-5)


def test_too_many_labels_for_the_exact_loss() -> None:
    task = make_task("multilabel", [str(c) for c in range(17)])
    engine = make_engine({CRF: {}}, TABLE)
    context = replace(engine.plan.context, task=task, backbone=tiny_backbone("table", task))
    technique = make(LabelCRF, {"training": "exact"})
    with pytest.raises(ConfigError, match=r'"exact" looks at 2\^17 sets and at most 16 labels'):
        technique.attach(Plan(context))
    make(LabelCRF, {}).attach(Plan(context))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ("class_weights", "a set of labels has one term"),
        ("distillation", "the logits in training are potentials"),
        ("label_smoothing", "makes targets soft and label_crf needs hard ones"),
        ("hidden_mixup", "makes targets soft and label_crf needs hard ones"),
        ("bce", "both want the phase 'loss'"),
        ("classifier_chain", "both want the phase 'loss'"),
    ],
)
def test_what_it_does_not_go_with(other: str, reason: str) -> None:
    with pytest.raises(ConflictError, match=reason):
        make_engine({CRF: {}, technique_class(other): {}}, Setup(kind="multilabel"))


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_one_label_for_each_example_is_no_set(kind: str) -> None:
    with pytest.raises(ConflictError, match="label_crf works on multilabel tasks"):
        make_engine({CRF: {}}, Setup(kind=kind))


def test_on_top_of_a_label_embedding() -> None:
    weights = train({CRF: {}, technique_class("label_embedding"): {}}, Setup(kind="multilabel"))
    assert {"head.base.labels", "head.labels.pairwise"} <= set(weights)
    other = train({CRF: {"decode": "map"}, technique_class("label_embedding"): {}}, Setup(kind="multilabel"))
    assert difference(weights, other) == 0


@pytest.mark.parametrize("key", ["label_crf", "classifier_chain"])
def test_a_frozen_head_is_refused_and_not_trained_through_twice(key: str) -> None:
    rules = {"rules": [{"match": ["head"], "frozen_until": "1dur"}]}
    engine = make_engine({technique_class(key): {}, technique_class("group_rules"): rules}, TABLE)
    with pytest.raises(ConflictError, match=rf"{key} needs the head's logits .* and the head is frozen"):
        engine.fit()
