"""Verdicts from made records, and the seeds that variants earn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from etude.evaluation.paired_seeds import holm
from etude.search.findings import findings_of
from etude.search.halving import Rung, first_rung, next_rung

ROLES = {
    "base": "base",
    "good": "added",
    "bad": "variant",
    "idle": "added",
    "kept": "removed",
    "broken": "added",
}


def record(accuracy: float, *, seconds: float = 1.0, memory: int = 100) -> dict[str, Any]:
    return {
        "status": "done",
        "scores": {"accuracy": accuracy},
        "seconds": {"train": seconds},
        "memory": memory,
        "rows": {"train": 10},
    }


@pytest.fixture
def records() -> dict[str, dict[int, dict[str, Any]]]:
    generator = np.random.default_rng(0)
    base = generator.normal(0.8, 0.02, 6)
    noise = generator.normal(0, 0.004, (4, 6))

    def runs(values: Any, **cost: Any) -> dict[int, dict[str, Any]]:
        return {seed: record(float(value), **cost) for seed, value in enumerate(values)}

    return {
        "base": runs(base),
        "good": runs(base + 0.03 + noise[0], seconds=2.0, memory=150),
        "bad": runs(base - 0.03 + noise[1]),
        "idle": runs(base + noise[2]),
        "kept": runs(base - 0.03 + noise[3], seconds=0.5),
        "broken": {
            seed: {"status": "failed", "why": "out", "scores": {}, "seconds": {}} for seed in range(6)
        },
    }


def test_verdicts_and_the_order(records: dict[str, dict[int, dict[str, Any]]]) -> None:
    found = {f.name: f for f in findings_of(records, ROLES, "accuracy")}
    assert list(found)[-1] == "broken"
    assert {name: f.verdict for name, f in found.items()} == {
        "good": "helped", "bad": "hurt", "idle": "nothing", "kept": "helped", "broken": "failed",
    }  # fmt: skip
    assert found["idle"].sentence.startswith("did nothing that 6 seeds can see: ")
    assert "is not visible with them" in found["idle"].sentence
    assert found["broken"].sentence == "failed: out"
    assert (found["good"].time, found["good"].memory) == pytest.approx((2.0, 1.5))
    assert found["kept"].time == pytest.approx(2.0), "leaving it out took half the time"


def test_p_values_are_corrected_for_the_variants_that_were_tested(
    records: dict[str, dict[int, dict[str, Any]]],
) -> None:
    found = findings_of(records, ROLES, "accuracy")
    tested = [f for f in found if f.effect is not None]
    raw = [float(stats.ttest_1samp(f.effects, 0.0).pvalue) for f in tested]
    assert [f.p for f in tested] == pytest.approx(holm(raw))


def test_less_may_be_better(records: dict[str, dict[int, dict[str, Any]]]) -> None:
    found = {f.name: f for f in findings_of(records, ROLES, "accuracy", greater_is_better=False)}
    assert (found["good"].verdict, found["bad"].verdict) == ("hurt", "helped")
    assert (found["good"].win_rate, found["bad"].win_rate) == (0.0, 1.0)


def test_one_seed_and_half_a_study(records: dict[str, dict[int, dict[str, Any]]]) -> None:
    few = {name: dict(list(runs.items())[:1]) for name, runs in records.items()}
    few["bad"] = {}
    found = {f.name: f for f in findings_of(few, ROLES, "accuracy")}
    assert found["good"].verdict == found["bad"].verdict == "unknown"
    assert "on one seed, which says nothing of chance" in found["good"].sentence
    assert found["bad"].sentence == "has not been trained yet"


def test_a_budget_halves_variants_until_it_suffices() -> None:
    names = [f"v{i}" for i in range(8)]
    effects = {name: float(i) for i, name in enumerate(names)}
    costs = dict.fromkeys([*names, "base"], 1.0)
    rung: Rung | None = first_rung(names, 16)
    seen = []
    while rung is not None:
        seen.append((len(rung.names), rung.n_seeds))
        rung = next_rung(rung, effects, costs, 16, left=20.0)
    assert seen == [(8, 2), (4, 4), (2, 8), (1, 16)]


def test_variants_without_a_score_drop_out() -> None:
    rung = next_rung(Rung(("a", "b"), 2), {"b": 1.0}, {"a": 1.0, "b": 1.0, "base": 1.0}, 4, left=100.0)
    assert rung == Rung(("b",), 4)
    assert next_rung(Rung(("a",), 2), {}, {"base": 1.0, "a": 1.0}, 4, left=100.0) is None
