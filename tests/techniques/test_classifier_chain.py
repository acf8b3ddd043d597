"""The classifier chain against scikit-learn's, and its order, loss and place among other techniques."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import ClassifierChain as TheirChain
from torch.nn.functional import binary_cross_entropy_with_logits

from etude.errors import ConfigError, ConflictError
from etude.parts.classifier_chain import ClassifierChain, chain_logits, follow_chain
from etude.techniques import technique_class
from etude.techniques.heads.classifier_chain import chain_terms, order_of
from etude.testing.harness import Setup, make_engine, train
from etude.testing.technique_suite import split_difference

CHAIN = technique_class("classifier_chain")
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("feed", "method"), [("decision", "predict"), ("probability", "predict_proba")])
def test_prediction_is_scikit_learns_with_the_same_weights(feed: str, method: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((120, 4))
    first = x[:, 0] + rng.standard_normal(120) > 0
    y = np.stack([first, first ^ (x[:, 1] > 0.5), (x[:, 2] > 0) | first, rng.random(120) > 0.5], axis=1)
    order = [2, 0, 3, 1]
    theirs = TheirChain(LogisticRegression(C=10.0), order=order, chain_method=method).fit(x, y.astype(int))
    base, dependence = np.zeros((120, 4)), np.zeros((4, 4))
    for place, (c, fitted) in enumerate(zip(order, theirs.estimators_, strict=True)):
        base[:, c] = x @ fitted.coef_[0, :4] + fitted.intercept_[0]
        dependence[c, order[:place]] = fitted.coef_[0, 4:]
    part = ClassifierChain(order, feed).double().eval()
    part.weights.data.copy_(torch.from_numpy(dependence))
    found = torch.sigmoid(part(torch.from_numpy(base))).detach().numpy()
    assert np.abs(found - theirs.predict_proba(x)).max() < 1e-10
    assert np.array_equal(found >= 0.5, theirs.predict(x).astype(bool))


def test_only_earlier_labels_count_whatever_the_weights_hold() -> None:
    part = ClassifierChain([2, 0, 1], "decision")
    part.weights.data.fill_(1.0)
    assert part.dependence.tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]


def test_loss_by_hand_given_the_true_labels_before() -> None:
    dependence = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    terms = chain_terms(torch.tensor([[0.5, -1.0]]), dependence, torch.tensor([[1.0, 0.0]]))[0]
    # The second label's logit is -1 + 2, since the first one holds in truth.
    assert terms.tolist() == pytest.approx([math.log1p(math.exp(-0.5)) / 2, math.log1p(math.e) / 2])


def test_without_weights_it_is_bce() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    targets = (torch.rand(6, 4, generator=generator) < 0.5).double()
    none = torch.zeros(4, 4, dtype=torch.float64)
    expected = binary_cross_entropy_with_logits(logits, targets, reduction="none") / 4
    assert torch.equal(chain_terms(logits, none, targets), expected)
    assert torch.equal(follow_chain(logits, none, [3, 1, 0, 2], hard=True), logits)


def test_right_predictions_are_followed_as_in_training() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 5, generator=generator)
    dependence = torch.randn(5, 5, generator=generator).tril(-1)
    found = follow_chain(logits, dependence, list(range(5)), hard=True)
    assert torch.allclose(chain_logits(logits, dependence, (found >= 0).float()), found, atol=1e-6)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("given", [0, 1, 2, 3]),
        ("frequent", [2, 0, 3, 1]),
        ("rare", [1, 0, 3, 2]),
        (["d", "a", "c", "b"], [3, 0, 2, 1]),
    ],
)
def test_orders(said: str | list[str], expected: list[int]) -> None:
    assert order_of(said, ["a", "b", "c", "d"], np.array([5, 2, 9, 5]), RNG) == expected


def test_a_random_order_is_the_seeds_own() -> None:
    def order(seed: int) -> list[int]:
        engine = make_engine({CHAIN: {"order": "random"}}, Setup(kind="multilabel", seed=seed))
        return list(engine.backbone.head.labels.order)  # type: ignore[union-attr, arg-type]

    assert order(3) == order(3)
    assert sorted(order(3)) == [0, 1, 2]
    assert len({tuple(order(seed)) for seed in range(8)}) > 2


@pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "x"], ["a", "b", "b"]])
def test_names_that_are_not_the_labels(names: list[str]) -> None:
    with pytest.raises(
        ConfigError, match=rf"order names {len(names)} labels of 3, and '[cx]' is not in both"
    ):
        make_engine({CHAIN: {"order": names}}, Setup(kind="multilabel"))


def test_training_learns_the_weights_of_earlier_labels_only() -> None:
    for setup in (Setup(kind="multilabel"), Setup(modality="table", kind="multilabel")):
        weights = train({CHAIN: {"order": "given"}}, setup)["head.labels.weights"]
        assert weights.tril(-1).abs().sum() > 0
        assert not weights.triu().any()


def test_class_weights_act_on_each_label() -> None:
    setup = Setup(modality="table", kind="multilabel")
    recipe = {
        CHAIN: {},
        technique_class("class_weights"): {"strategy": "weights", "weights": [1.0, 0.0, 2.0]},
    }
    weights = train(recipe, setup)
    assert torch.equal(weights["head.base.bias"][1], torch.zeros(()))
    assert weights["head.base.bias"][2] != 0
    assert split_difference(recipe, setup) <= 1e-9


@pytest.mark.parametrize("other", ["label_smoothing", "hidden_mixup", "self_distillation"])
def test_soft_targets_are_no_labels_to_read(other: str) -> None:
    with pytest.raises(ConflictError, match=f"{other} makes targets soft and classifier_chain needs hard"):
        make_engine({CHAIN: {}, technique_class(other): {}}, Setup(kind="multilabel"))


def test_a_teacher_is_refused() -> None:
    with pytest.raises(ConflictError, match="classifier_chain clashes with distillation: the chain's logits"):
        make_engine({CHAIN: {}, technique_class("distillation"): {}}, Setup(kind="multilabel"))
