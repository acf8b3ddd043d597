"""Abstaining by risk, coverage and out-of-scope recall."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from etude.config.decision import AbstainConfig, DecisionConfig
from etude.core.rng import numpy_generator
from etude.core.task import Binary, Multiclass, Multilabel, Task
from etude.decision import Decision
from etude.decision.abstain import SCORES, HeldOut, certainty, fit_abstention
from etude.errors import DataError

ABC = Multiclass(["a", "b", "c"])
levels = np.linspace(0.05, 0.95, 10)
"""Ten certainties, the last row's being the highest."""


def held_out(
    right: list[int], in_scope: list[int] | None = None, certainties: NDArray[np.float64] = levels
) -> HeldOut:
    n = len(right)
    inside = np.ones(n, dtype=bool) if in_scope is None else np.array(in_scope, dtype=bool)
    scores = dict.fromkeys(SCORES, certainties)
    return HeldOut(scores, np.ones(n, dtype=bool), np.array(right, dtype=bool), inside)


def test_risk_answers_the_most_rows_that_it_allows() -> None:
    rows = held_out([0, 0, 0, 1, 0, 1, 1, 1, 1, 1])
    found, note = fit_abstention(AbstainConfig(by="risk", target=0.15), rows)
    assert (levels >= found.threshold).sum() == 7  # one of seven is wrong, two of eight would be too many
    assert note.startswith(
        "abstaining by risk answers 7 of 10 held-out rows, 14.3% of them wrongly, which on"
    )
    assert (levels >= fit_abstention(AbstainConfig(by="risk", target=0.0), rows)[0].threshold).sum() == 5
    assert (levels >= fit_abstention(AbstainConfig(by="risk", target=1.0), rows)[0].threshold).all()


def test_a_risk_out_of_reach_is_said() -> None:
    found, note = fit_abstention(
        AbstainConfig(by="risk", target=0.1), held_out([1, 1, 1, 1, 1, 1, 1, 1, 1, 0])
    )
    assert note.endswith("10.0% of them wrongly, which on other rows may be up to 34.8% (95 % confidence)")
    found, note = fit_abstention(
        AbstainConfig(by="risk", target=0.05), held_out([0, 0, 0, 0, 0, 1, 1, 1, 1, 0])
    )
    assert (levels >= found.threshold).sum() == 5
    assert note.endswith("; no threshold reaches the target of 5.0%")


def test_rows_of_one_certainty_are_answered_together() -> None:
    rows = held_out([0, 1, 1, 1], certainties=np.array([0.5, 0.5, 0.5, 0.9]))
    found, _ = fit_abstention(AbstainConfig(by="risk", target=0.2), rows)
    assert found.threshold == pytest.approx(0.7)
    found, _ = fit_abstention(AbstainConfig(by="coverage", target=0.5), rows)
    assert found.threshold == 0.5


def test_coverage_answers_at_least_its_share() -> None:
    for target, answered in [(0.75, 8), (0.8, 8), (0.05, 1), (1.0, 10)]:
        found, _ = fit_abstention(AbstainConfig(by="coverage", target=target), held_out([1] * 10))
        assert (levels >= found.threshold).sum() == answered


def test_out_of_scope_rows_are_left_at_least_at_the_target() -> None:
    inside = [0, 1, 0, 1, 1, 0, 1, 1, 1, 0]
    rows = held_out(inside, inside)
    for target, answered in [(0.5, 7), (0.75, 4), (0.6, 4), (0.0, 10), (1.0, 0)]:
        found, note = fit_abstention(AbstainConfig(by="out_of_scope", target=target), rows)
        assert (levels >= found.threshold).sum() == answered
    assert note == "abstaining by out_of_scope leaves all 10 held-out rows unanswered"


def test_auto_takes_the_score_that_serves_best() -> None:
    rows = held_out([1, 0] * 5)
    useful = {**rows.certainties, "entropy": np.where(rows.right, 2.0, 1.0)}
    rows = HeldOut(useful, rows.answered, rows.right, in_scope=rows.right)
    for by, target in [("risk", 0.0), ("risk", 0.1), ("coverage", 0.5), ("out_of_scope", 0.9)]:
        assert fit_abstention(AbstainConfig(by=by, target=target), rows)[0].score == "entropy"
    assert fit_abstention(AbstainConfig(by="coverage", target=1.0), rows)[0].score == "probability"
    by_margin = AbstainConfig(by="risk", target=0.1, score="margin")
    assert fit_abstention(by_margin, rows)[0].score == "margin"


@pytest.mark.parametrize("task", [Binary(["a", "b"]), ABC, Multilabel(["a", "b", "c"])])
@pytest.mark.parametrize("score", SCORES)
def test_every_score_is_higher_where_the_model_is_surer(task: Task, score: str) -> None:
    n = task.n_classes
    logits = np.array(
        [[0.1] + [0.0] * (n - 1), [9.0] + [-9.0 if task.kind == "multilabel" else 0.0] * (n - 1)]
    )
    logits = logits.astype(np.float32)
    p = Decision.plain(task).probabilities(logits)
    low, high = certainty(score, task, p, logits)  # type: ignore[arg-type]
    assert high > low


def scattered(n_outside: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows of three classes, and rows of none, whose logits are small."""
    draw = numpy_generator(0, "scattered")
    classes = draw.integers(0, 3, 200)
    inside = 4.0 * np.eye(3)[classes] + draw.normal(size=(200, 3))
    outside = draw.normal(size=(n_outside, 3))
    targets = np.concatenate([np.eye(3)[classes], np.zeros((n_outside, 3))])
    return np.concatenate([inside, outside]).astype(np.float32), targets.astype(np.float32)


def test_out_of_scope_rows_of_other_data_are_left_unanswered() -> None:
    logits, targets = scattered(60)
    half = np.arange(len(targets)) % 2 == 0
    config = DecisionConfig(abstain=AbstainConfig(by="out_of_scope", target=0.9))
    _, decisions = Decision.fit(ABC, config, logits[half], targets[half], seed=0).apply(logits[~half])
    known = targets[~half].any(axis=1)
    assert (~decisions[~known].any(axis=1)).mean() > 0.7
    assert decisions[known][targets[~half][known] > 0].mean() > 0.8


def test_out_of_scope_needs_such_rows() -> None:
    logits, targets = scattered(1)
    config = DecisionConfig(abstain=AbstainConfig(by="out_of_scope"))
    with pytest.raises(
        DataError, match=r"1 held-out rows belong to no class, at least 2 being needed; name such"
    ):
        Decision.fit(ABC, config, logits, targets, seed=0)
