"""Gradients and updates, calibration, thresholds, labels, and rows over epochs."""

from typing import Any

import numpy as np
import pytest

from etude.diagnosis.decisions import calibration, labels, thresholds
from etude.diagnosis.dynamics import by_group, dynamics
from etude.diagnosis.evidence import Evidence, RowLosses
from etude.diagnosis.rows import forgotten, never_learned, rows


def norms(values: list[float]) -> list[dict[str, Any]]:
    return [{"step": i, "grad_norm": value} for i, value in enumerate(values)]


def groups(**ratios: float) -> list[dict[str, Any]]:
    said = {name: {"grad_norm": 1.0, "update_ratio": ratio, "lr": 1e-4} for name, ratio in ratios.items()}
    return [{"step": step, "dynamics": said} for step in range(3)]


@pytest.mark.parametrize(
    ("history", "verdict", "words"),
    [
        (norms([1.0] * 10), "good", "the gradient norm stayed around 1"),
        (norms([1.0] * 10) + groups(body=1e-3, head=4e-3), "good", "by 1.0e-03 to 4.0e-03 of their norm"),
        (norms([1.0] * 9 + [50.0]), "look", "The gradient norm jumped to 50, its median is 1"),
        (norms([1.0] * 16 + [500.0] * 4), "bad", "Gradients exploded: their norm ended at 500"),
        (norms([1.0] * 9 + [np.nan]), "bad", "The gradient norm was not finite in 1 records"),
        (groups(body=0.2, head=1e-3), "look", "Large updates of 'body' are 2.0e-01 of its weights"),
        (groups(body=1e-8), "look", "Small updates of 'body' are 1.0e-08 of its weights"),
        (norms([1.0]), "unknown", "No gradient norms were logged"),
        ([], "unknown", "No gradient norms were logged"),
    ],
)
def test_dynamics(make: Any, history: list[Any], verdict: str, words: str) -> None:
    found = dynamics(Evidence(make.task(), history))
    assert found.verdict == verdict
    assert words in found.sentence


def test_vanished_gradients_are_named(make: Any) -> None:
    said = {
        "body": {"grad_norm": 1e-9, "update_ratio": 1e-3},
        "head": {"grad_norm": 1.0, "update_ratio": 1e-3},
    }
    found = dynamics(Evidence(make.task(), [{"step": 1, "dynamics": said}]))
    assert found.sentence == "Gradients of 'body' have almost vanished: 1e-09 against 1."


def test_medians_by_group_leave_out_what_is_missing() -> None:
    history = [
        {"dynamics": {"body": {"grad_norm": 1.0, "update_ratio": None}}},
        {"dynamics": {"body": {"grad_norm": 3.0, "lr": np.inf}}},
        {"dynamics": None},
    ]
    (group,) = by_group(history)
    assert group.grad_norm == 2
    assert np.isnan(group.update_ratio)
    assert np.isnan(group.lr)


@pytest.mark.parametrize(
    ("ece", "rows", "verdict"),
    [(0.01, 500, "good"), (0.07, 500, "look"), (0.3, 500, "bad"), (0.3, 3, "unknown")],
)
def test_calibration_of_the_summary(make: Any, ece: float, rows: int, verdict: str) -> None:
    told = {"calibration": {"test": {"before": {"ece": 0.2}, "after": {"ece": ece}}}, "rows": {"test": rows}}
    found = calibration(Evidence(make.task(), summary=told))
    assert found.verdict == verdict
    assert f"{ece:.3f} off on average (before calibration 0.200) on the test part" in found.sentence


def test_calibration_is_counted_where_the_summary_has_none(make: Any) -> None:
    found = calibration(Evidence(make.task(), parts={"validation": make.accuracy(0.5, sure=0.9)}))
    assert found.verdict == "bad"
    assert found.evidence["ece"] == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize(
    ("gain", "verdict", "words"),
    [
        ({"difference": 0.02, "low": 0.01, "high": 0.03}, "good", "Yes: accuracy changed by +0.0200"),
        ({"difference": 0.02, "low": -0.01, "high": 0.03}, "look", "Not beyond chance"),
        ({"difference": -0.02, "low": -0.03, "high": -0.01}, "bad", "No: accuracy changed by -0.0200"),
        ({"difference": 0.0, "low": 0.0, "high": 0.0}, "good", "They changed nothing"),
        ({"difference": None}, "unknown", "No decisions were fitted"),
    ],
)
def test_thresholds(make: Any, gain: dict[str, Any], verdict: str, words: str) -> None:
    found = thresholds(Evidence(make.task(), summary={"gain": {"test": {"loss": {}, "accuracy": gain}}}))
    assert found.verdict == verdict
    assert words in found.sentence


@pytest.mark.parametrize(
    ("truth", "said", "verdict", "words"),
    [
        ("abc", "abc", "good", "Each of the 3 labels is predicted"),
        ("aabbccccc", "aabbaaaaa", "bad", "1 of 3 labels are never predicted on the validation part: c."),
        ("aabbc", "aabba", "look", "with fewer than 5 rows there, never predicted: c"),
        ("aabb", "aabb", "look", "without any row there, so that nothing is known of them: c"),
    ],
)
def test_labels(make: Any, truth: str, said: str, verdict: str, words: str) -> None:
    found = labels(Evidence(make.task(), parts={"validation": make.part(truth, said)}))
    assert found.verdict == verdict
    assert words in found.sentence


def falling(n: int = 200, epochs: int = 4) -> Any:
    rng = np.random.default_rng(0)
    return (np.exp(-np.arange(epochs)) * rng.uniform(0.8, 1.2, (n, epochs))).astype(np.float32)


def test_rows_that_stay_high_and_rows_that_are_forgotten() -> None:
    losses = falling()
    losses[[3, 50, 120]] = 5.0
    losses[50] = 6.0
    losses[[7, 9], -1] = 4.0
    losses[[7, 9], :2] = 0.01
    assert set(never_learned(losses).tolist()) >= {3, 50, 120}
    assert never_learned(losses)[0] == 50
    assert set(forgotten(losses).tolist()) >= {7, 9}
    assert not set(forgotten(losses).tolist()) & {3, 50, 120}


def test_rows_that_were_not_seen_do_not_count() -> None:
    losses = falling()
    losses[:, 2] = np.nan
    losses[11] = np.nan
    losses[3] = 5.0
    losses[3, 1] = np.inf
    assert 11 not in never_learned(losses)
    assert never_learned(falling(epochs=2)).tolist() == []


def test_the_verdict_on_rows(make: Any) -> None:
    losses = falling()
    losses[:6] = 5.0
    texts, names = [f"row {i}" for i in range(200)], [["a"]] * 200
    found = rows(Evidence(make.task(), losses=RowLosses(np.arange(200) + 10, losses, texts, names)))
    assert found.verdict == "look"
    assert found.sentence.startswith("6 of 200 training rows kept a high loss in all epochs (3.0%)")
    first = found.evidence["never_learned_rows"][0]
    assert (first["row"], first["text"], first["labels"]) == (10, "row 0", ["a"])
    calm = rows(Evidence(make.task(), losses=RowLosses(np.arange(200), falling())))
    assert calm.verdict == "good"


@pytest.mark.parametrize(
    ("losses", "words"),
    [(None, "were not kept (loss_history keeps them)"), (np.ones((9, 1), np.float32), "span 1 epochs")],
)
def test_no_course_no_verdict(make: Any, losses: Any, words: str) -> None:
    kept = None if losses is None else RowLosses(np.arange(len(losses)), losses)
    found = rows(Evidence(make.task(), losses=kept))
    assert found.verdict == "unknown"
    assert words in found.sentence
