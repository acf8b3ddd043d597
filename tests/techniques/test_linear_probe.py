"""The linear probe against scikit-learn's logistic regression, and written into real heads."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from etude.core.phases import START
from etude.core.plan import Plan
from etude.core.technique import Context
from etude.errors import ConflictError
from etude.techniques.heads.linear_probe import LinearProbe, LinearProbeConfig, fit_logistic, linear_layer

N, D, L2 = 400, 12, 0.01


@pytest.fixture
def features() -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.normal(size=(N, D)) * generator.uniform(0.1, 10, D) + generator.normal(size=D)


def noisy_scores(features: np.ndarray, n: int) -> np.ndarray:
    generator = np.random.default_rng(1)
    scaled = StandardScaler().fit_transform(features)
    return scaled @ generator.normal(size=(D, n)) + 2 * generator.normal(size=(N, n))


def test_one_label_equals_scikit_learn(features: np.ndarray) -> None:
    classes = noisy_scores(features, 4).argmax(1)
    scaled = StandardScaler().fit_transform(features)
    theirs = LogisticRegression(C=1 / (L2 * N), tol=1e-8, max_iter=1000).fit(scaled, classes)
    x, y = torch.from_numpy(features), torch.nn.functional.one_hot(torch.from_numpy(classes)).double()
    weight, bias = fit_logistic(x, y, torch.ones(N), L2, multilabel=False)
    ours = torch.softmax(x @ weight.T + bias, 1).numpy()
    np.testing.assert_allclose(ours, theirs.predict_proba(scaled), atol=1e-3)


def test_any_labels_equal_one_scikit_learn_for_each(features: np.ndarray) -> None:
    labels = (noisy_scores(features, 3) > [0, 1, 4]).astype(float)
    scaled = StandardScaler().fit_transform(features)
    x = torch.from_numpy(features)
    weight, bias = fit_logistic(x, torch.from_numpy(labels), torch.ones(N), L2, multilabel=True)
    ours = torch.sigmoid(x @ weight.T + bias).numpy()
    for c in range(3):
        theirs = LogisticRegression(C=1 / (L2 * N), tol=1e-8, max_iter=1000).fit(scaled, labels[:, c])
        np.testing.assert_allclose(ours[:, c], theirs.predict_proba(scaled)[:, 1], atol=1e-3)


def test_a_weight_of_two_is_a_row_twice(features: np.ndarray) -> None:
    x = torch.from_numpy(features)
    y = torch.from_numpy((noisy_scores(features, 2) > 0).astype(float))
    weights = torch.ones(N)
    weights[:50] = 2
    weights[50:60] = 0
    rows = torch.cat([torch.arange(50), torch.arange(50), torch.arange(60, N)])
    by_weight = fit_logistic(x, y, weights, L2, multilabel=True)
    by_rows = fit_logistic(x[rows], y[rows], torch.ones(len(rows)), L2, multilabel=True)
    torch.testing.assert_close(by_weight, by_rows, rtol=1e-4, atol=1e-5)


def test_a_constant_column_is_harmless(features: np.ndarray) -> None:
    x = torch.from_numpy(features).clone()
    x[:, 3] = 5.0
    y = torch.from_numpy((noisy_scores(features, 2) > 0).astype(float))
    weight, bias = fit_logistic(x, y, torch.ones(N), L2, multilabel=True)
    assert torch.equal(weight[:, 3], torch.zeros(2).double())
    assert bool(bias.isfinite().all())


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_the_head_knows_its_task_before_the_first_step(
    kind: str, features: np.ndarray, tiny_context: Callable[..., Context]
) -> None:
    context = tiny_context(kind, n_rows=N)
    plan = Plan(context)
    plan.attach(LinearProbe(LinearProbeConfig(C=1 / (L2 * 300), max_rows=300)))
    start = plan.one(START)
    assert start is not None
    n = context.task.n_classes
    scores = torch.from_numpy(noisy_scores(features[:, :8].repeat(2, 1)[:, :D], n)).float()
    wanted = scores > 0 if kind == "multilabel" else torch.nn.functional.one_hot(scores.argmax(1), n)
    asked: list[np.ndarray] = []
    x = torch.from_numpy(features[:, :8]).float()

    def features_of(rows: np.ndarray) -> torch.Tensor:
        asked.append(rows)
        return x[torch.from_numpy(rows)]

    start(context.backbone, features_of, wanted.float(), torch.ones(N))
    assert len(asked) == 1
    assert len(np.unique(asked[0])) == 300
    logits = context.backbone.head(x).detach()
    decided = context.task.decide(context.task.probabilities(logits).numpy())
    chance = max(wanted.float().mean().item(), 1 - wanted.float().mean().item())
    assert (decided == wanted.bool().numpy()).mean() > chance


def test_heads_of_one_linear_layer_are_found() -> None:
    layer = nn.Linear(4, 2)
    assert linear_layer(layer) is layer
    assert linear_layer(nn.Sequential(nn.Dropout(0.1), layer)) is layer


@pytest.mark.parametrize(
    "head",
    [
        nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)),
        nn.Sequential(nn.ReLU(), nn.Linear(4, 2)),
        nn.Linear(4, 2, bias=False),
    ],
)
def test_other_heads_are_refused(head: nn.Module, tiny_context: Callable[..., Context]) -> None:
    context = tiny_context()
    context.backbone.head = head
    with pytest.raises(
        ConflictError, match=r'Linear; use backbone\.head = "linear" without pooling = "native", or remove'
    ):
        Plan(context).attach(LinearProbe(LinearProbeConfig()))


def test_bad_arguments_are_named() -> None:
    x, y = torch.ones(3, 2), torch.ones(3, 1)
    with pytest.raises(ValueError, match="3 features, 3 targets, 2 weights differ"):
        fit_logistic(x, y, torch.ones(2), 1.0, multilabel=True)
    with pytest.raises(ValueError, match="all weights are 0"):
        fit_logistic(x, y, torch.zeros(3), 1.0, multilabel=True)
