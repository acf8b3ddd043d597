"""Whatever is missing or broken, every question is answered, in words and as JSON."""

import json
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from etude.core.task import make_task
from etude.diagnosis import Evidence, RowLosses, diagnose, what_next
from etude.evaluation.scored import Scored

STEPS = [
    "convergence", "fit", "baselines", "failures", "confusion",
    "best_epoch", "dynamics", "calibration", "thresholds", "labels", "rows",
]  # fmt: skip


def answered(evidence: Evidence) -> dict[str, str]:
    found = diagnose(evidence)
    assert [verdict.step for verdict in found] == STEPS
    for verdict in found:
        assert verdict.sentence.endswith(".")
        assert verdict.sentence.count("nan") == 0
        assert "\n" not in verdict.sentence
        json.dumps(verdict.to_json(), allow_nan=False)
    for advice in what_next(found, evidence):
        json.dumps(advice.to_json())
    return {verdict.step: verdict.verdict for verdict in found}


def test_nothing_at_all(make: Any) -> None:
    assert set(answered(Evidence(make.task())).values()) == {"unknown"}


def test_a_killed_run_has_a_history_only(make: Any) -> None:
    history = [*make.losses(list(np.linspace(2, 1, 30))), *make.scores([0.5, 0.6], [1.0, 0.9])]
    found = answered(Evidence(make.task(), history))
    assert found["convergence"] == "look"
    assert found["best_epoch"] == "good"
    assert found["baselines"] == "unknown"


def test_any_piece_may_be_missing(make: Any) -> None:
    pieces: dict[str, Any] = {
        "history": [*make.losses([2.0, 1.5, 1.2, 1.1, 1.0, 1.0]), *make.scores([0.5, 0.6], [1.0, 0.9])],
        "parts": {part: make.accuracy(0.8, n=30) for part in ("train", "validation", "test")},
        "summary": {
            "metrics": {"validation": {"accuracy": 0.8}, "test": {"accuracy": 0.8}},
            "baselines": {"zero_rule": {"metrics": {"test": {"accuracy": 0.4}}}},
            "calibration": {"test": {"after": {"ece": 0.1}}},
            "gain": {"test": {"accuracy": {"difference": 0.1, "low": 0.0, "high": 0.2}}},
        },
        "losses": RowLosses(np.arange(30), np.ones((30, 4), np.float32)),
    }
    for n in range(len(pieces) + 1):
        for kept in combinations(pieces, n):
            answered(Evidence(make.task(), **{name: pieces[name] for name in kept}))
    for part in pieces["parts"]:
        answered(Evidence(make.task(), parts={part: pieces["parts"][part]}))


@pytest.mark.parametrize("summary", [
    {"metrics": None}, {"metrics": {"test": 3}}, {"baselines": []}, {"baselines": {"zero_rule": {}}},
    {"metrics": {"test": {"accuracy": float("nan")}}}, {"gain": {"test": {}}}, {"calibration": {"test": 1}},
    {"metrics": {"test": {"accuracy": 0.5}}, "intervals": {"test": {"accuracy": [None, 1.0]}}},
    {"rows": {"test": 0}, "metrics": {"test": {"accuracy": 0.5}}},
])  # fmt: skip
def test_a_summary_of_another_shape(make: Any, summary: dict[str, Any]) -> None:
    answered(Evidence(make.task(), summary=summary))


def test_a_history_of_another_shape(make: Any) -> None:
    nan = float("nan")
    records: list[dict[str, Any]] = [
        {}, {"step": 1}, {"train": None}, {"train": {"loss": nan}}, {"validation": {}}, {"dynamics": {}},
        {"validation": {"accuracy": nan, "loss": nan}}, {"step": 3, "grad_norm": nan}, {"dynamics": {"a": 1}},
        {"validation": {"accuracy": True}}, {"train": {"loss": "low"}},
    ]  # fmt: skip
    found = answered(Evidence(make.task(), records))
    assert found["convergence"] == "bad"


def test_three_rows(make: Any) -> None:
    history = [*make.losses([1.0] * 9), *make.scores([0.667, 0.333], [0.5, 0.6])]
    parts = {"train": make.accuracy(1.0, n=3), "validation": make.part("aab", "aba")}
    found = answered(Evidence(make.task(), history, parts))
    assert found["best_epoch"] == "good"
    assert found["calibration"] == "unknown"


def test_one_row_and_no_row(make: Any) -> None:
    answered(Evidence(make.task(), parts={"validation": make.part("a", "b")}))
    empty = make.part("", "")
    assert set(answered(Evidence(make.task(), parts={"validation": empty})).values()) == {"unknown"}


@pytest.mark.parametrize("broken", [np.nan, np.inf, 0.0, 1.0, 0.5])
def test_probabilities_that_say_nothing(make: Any, broken: float) -> None:
    for part in (make.accuracy(0.5, n=60), make.subsets(["a", "bc", ""] * 20, ["a", "b", "c"] * 20)):
        odd = replace(part, probabilities=np.full_like(part.probabilities, broken))
        answered(Evidence(part.task, parts={"validation": odd, "train": odd}))


def test_rows_out_of_scope_without_answers_and_soft_targets(make: Any) -> None:
    answered(Evidence(make.task(), parts={"validation": make.part("a-b-", "--aa")}))
    part = make.part("abc", "abc")
    soft = replace(part, targets=np.full_like(part.targets, 1 / 3))
    answered(Evidence(make.task(), parts={"validation": soft}))


def test_one_label_and_losses_that_are_all_missing(make: Any) -> None:
    task = make_task("multilabel", ["only"])
    p = np.linspace(0, 1, 10, dtype=np.float32)[:, None]
    part = Scored(task, p, p, p > 0.5, (p > 0.3).astype(np.float32), [""] * 10, np.arange(10))
    missing = RowLosses(np.arange(10), np.full((10, 4), np.nan, np.float32))
    answered(Evidence(task, parts={"validation": part}, losses=missing))
