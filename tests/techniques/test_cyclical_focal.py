"""Cyclical focal loss: its schedule, its two ends, and the paper's formula."""

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
from tiny_contexts import make_context
from torch.nn.functional import one_hot

from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import LOSS
from etude.core.plan import build_plan
from etude.core.rng import Moment
from etude.techniques.losses.cyclical_focal import (
    CyclicalFocal,
    CyclicalFocalConfig,
    cyclical_focal_sigmoid_terms,
    cyclical_focal_softmax_terms,
    share_of_sure,
)
from etude.techniques.losses.focal import focal_sigmoid_terms, focal_softmax_terms


def test_the_share_falls_to_zero_and_rises_again() -> None:
    """The paper's two branches, with the epoch e of e_n: 1 - f e / e_n, then (f e / e_n - 1) / (f - 1)."""
    assert [share_of_sure(t, 4.0) for t in (0.0, 0.125, 0.25)] == [1.0, 0.5, 0.0]
    assert [share_of_sure(t, 4.0) for t in (0.625, 1.0)] == [0.5, 1.0]
    assert [share_of_sure(t, 2.0) for t in (0.25, 0.5, 0.75, 1.0)] == [0.5, 0.0, 0.5, 1.0]


def test_a_factor_of_one_never_returns() -> None:
    assert [share_of_sure(t, 1.0) for t in (0.0, 0.5, 1.0)] == [1.0, 0.5, 0.0]


def test_a_factor_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"factor is 0.5 and must be 1 or more"):
        share_of_sure(0.5, 0.5)


def test_one_label_is_the_papers_sum_of_two_parts() -> None:
    logits, classes, _ = seeded()
    p_t = logits.softmax(1)[torch.arange(64), classes]
    theirs = 0.4 * (1 + p_t) ** 3 * -p_t.log() + 0.6 * (1 - p_t) ** 2 * -p_t.log()
    ours = cyclical_focal_softmax_terms(logits, one_hot(classes, 5).double(), 3.0, 2.0, xi=0.4).sum(1)
    assert_same_gradients(ours, theirs, logits)


def test_in_its_hard_stage_it_is_the_focal_loss() -> None:
    logits, classes, several = seeded()
    targets = one_hot(classes, 5).double()
    ours = cyclical_focal_softmax_terms(logits, targets, 3.0, 2.0, xi=0.0)
    assert_same_gradients(ours, focal_softmax_terms(logits, targets, 2.0), logits)
    ours = cyclical_focal_sigmoid_terms(logits, several, 3.0, 2.0, xi=0.0)
    assert_same_gradients(ours, focal_sigmoid_terms(logits, several, 2.0), logits)


@pytest.mark.parametrize("terms_of", [cyclical_focal_softmax_terms, cyclical_focal_sigmoid_terms])
@pytest.mark.parametrize("xi", [0.0, 0.5, 1.0])
def test_keeps_to_what_every_loss_must(terms_of, xi: float) -> None:
    def terms(logits, targets):
        return terms_of(logits, targets, 3.0, 0.5, xi)

    assert_linear_in_targets(terms)
    assert_finite_at_the_ends(terms)
    assert_rows_do_not_lean_on_each_other(terms, seeded()[2])
    assert_keeps_float64(terms)


def test_the_loss_follows_the_run() -> None:
    """Of equal logits it is 1.5³ log 2 at the start and 0.5² log 2 after a quarter of the run."""
    plan = build_plan([CyclicalFocal(CyclicalFocalConfig())], make_context("binary"))
    loss = plan.one(LOSS)
    assert loss is not None
    batch = Batch({}, torch.tensor([[1.0, 0.0]]), torch.ones(1), torch.zeros(1, dtype=torch.int64))
    output = Output(torch.zeros(1, 2, dtype=torch.float64), torch.zeros(1, 3))
    found = [float(loss(output, batch, Moment(0, step, 0, 40, 40)).sum()) for step in (0, 10)]
    assert found == pytest.approx([1.5**3 * 0.6931471805599453, 0.25 * 0.6931471805599453], abs=1e-15)
