"""Forward correction: the paper's theorem, its limits, and matrices that do not fit."""

import pytest
import torch
from loss_checks import (
    assert_finite_at_the_ends,
    assert_keeps_float64,
    assert_linear_in_targets,
    assert_rows_do_not_lean_on_each_other,
    assert_same_gradients,
    seeded,
)
from pydantic import ValidationError
from tiny_contexts import make_context
from torch.nn.functional import cross_entropy, nll_loss, one_hot

from etude.core.plan import build_plan
from etude.errors import ConfigError
from etude.techniques.losses.forward_correction import (
    ForwardCorrection,
    ForwardCorrectionConfig,
    confusions,
    forward_terms,
)

T = torch.tensor(
    [
        [0.6, 0.1, 0.1, 0.1, 0.1],
        [0.0, 1.0, 0.0, 0.0, 0.0],
        [0.0, 0.5, 0.5, 0.0, 0.0],
        [0.2, 0.2, 0.2, 0.2, 0.2],
        [0.1, 0.0, 0.0, 0.0, 0.9],
    ],
    dtype=torch.float64,
)


def test_is_the_log_likelihood_of_the_noisy_label() -> None:
    logits, classes, _ = seeded()
    ours = forward_terms(logits, one_hot(classes, 5).double(), T).sum(1)
    assert_same_gradients(ours, nll_loss((logits.softmax(1) @ T).log(), classes, reduction="none"), logits)


def test_without_noise_it_is_cross_entropy() -> None:
    logits, classes, _ = seeded()
    ours = forward_terms(logits, one_hot(classes, 5).double(), torch.eye(5)).sum(1)
    assert_same_gradients(ours, cross_entropy(logits, classes, reduction="none"), logits)


def test_the_best_prediction_of_noisy_labels_is_the_clean_one() -> None:
    """Theorem 2: over rows of one class whose labels are drawn from T, the minimum is at that class."""
    logits = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(300):
        optimizer.zero_grad()
        forward_terms(logits, T[2:3], T).sum().backward()
        optimizer.step()
    assert float(logits.softmax(1)[0, 2].detach()) > 0.95
    plain = torch.softmax(T[2].log(), 0)
    assert float(plain[2]) == pytest.approx(0.5)  # what cross-entropy would come to


def test_keeps_to_what_every_loss_must() -> None:
    def terms(logits, targets):
        c = logits.shape[1]
        return forward_terms(logits, targets, 0.7 * torch.eye(c) + 0.3 / c)

    assert_linear_in_targets(terms)
    assert_finite_at_the_ends(terms)
    assert_rows_do_not_lean_on_each_other(terms, seeded()[2])
    assert_keeps_float64(terms)


def test_confusions_are_counted_by_true_class() -> None:
    found = confusions([0, 0, 0, 2], [0, 1, 1, 2], 3)
    assert found == pytest.approx(torch.tensor([[1 / 3, 2 / 3, 0], [0, 1, 0], [0, 0, 1]]).numpy())


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (
            [[1.0, 0.5], [0.0, 1.0]],
            r"row 1 of matrix is \[1.0, 0.5\] and must be shares of 0 or more that sum",
        ),
        ([[1.5, -0.5], [0.0, 1.0]], "row 1 of matrix"),
        ([[1.0], [1.0]], "matrix has 2 rows and row 1 has 1 shares"),
    ],
)
def test_what_is_no_matrix_of_shares_is_refused(matrix: list[list[float]], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ForwardCorrectionConfig(matrix=matrix)


def test_a_matrix_of_another_size_is_refused() -> None:
    technique = ForwardCorrection(ForwardCorrectionConfig(matrix=[[1.0, 0.0], [0.0, 1.0]]))
    with pytest.raises(
        ConfigError, match=r"loss\.matrix has 2 rows and there are 3 labels; give one for each"
    ):
        build_plan([technique], make_context("multiclass"))
    with pytest.raises(ValueError, match=r"the matrix is \(2, 2\) and there are 3 classes"):
        forward_terms(torch.zeros(1, 3), torch.zeros(1, 3), torch.eye(2))
