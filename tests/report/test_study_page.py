"""The page and the Markdown of a study, made from what a study gives as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from etude.report.study import cells, effects_chart, lead, render_study, study_markdown
from etude.search.findings import findings_of


def record(accuracy: float, train: float = 1.0) -> dict[str, Any]:
    scores = {"status": "done", "scores": {"accuracy": accuracy}}
    return scores | {"seconds": {"train": train}, "memory": 100, "rows": {"train": 9}}


@pytest.fixture
def study() -> dict[str, Any]:
    base = [0.80, 0.82, 0.81, 0.83]
    records: dict[str, dict[int, dict[str, Any]]] = {
        "base": {seed: record(value) for seed, value in enumerate(base)},
        "<b>sam": {s: record(v + 0.03 + 0.001 * s, 2.0) for s, v in enumerate(base)},
        "probe": {s: record(v - (-1) ** s * 0.01) for s, v in enumerate(base)},
        "broken": {0: {"status": "failed", "why": "memory did not suffice", "scores": {}, "seconds": {}}},
    }
    roles = {"base": "base", "<b>sam": "variant", "probe": "removed", "broken": "added"}
    findings = findings_of(records, roles, "accuracy")
    plain = {
        "metric": "accuracy",
        "seeds": [0, 1, 2, 3],
        "base": {"mean": 0.815, "se": 0.0065, "n": 4},
        "base_scores": dict(enumerate(base)),
        "findings": [finding.to_json() for finding in findings],
        "notes": ["A budget of 2h gave out seeds."],
        "test": None,
    }
    content: dict[str, Any] = json.loads(json.dumps(plain))
    return content


def test_the_page_says_what_helped_and_lets_no_name_become_code(study: dict[str, Any]) -> None:
    page = render_study(study, "Study demo")
    assert "&lt;b&gt;sam" in page
    assert "<b>sam" not in page
    assert "A budget of 2h gave out seeds." in page
    assert "memory did not suffice" in page
    assert "the test part stayed closed" in page
    assert lead(study).startswith(
        "Of 3 compared with the base, <b>sam helped; 1 did nothing that these seeds"
    )
    assert "The base reaches accuracy 0.815 ± 0.006 over 4 seeds" in lead(study)


def test_the_markdown_has_a_row_for_each_and_the_test_part_where_it_was_opened(study: dict[str, Any]) -> None:
    text = study_markdown(study, "Study demo")
    rows = [line for line in text.splitlines() if line.startswith("| <b>sam | helped")]
    assert rows == ["| <b>sam | helped | +0.032 | 0.029 to 0.034 | < 0.001 | 100% | 2.00 x | 1.00 x | 4 |"]
    assert "| probe (in the base) | nothing |" in text
    assert "without probe" in text
    assert "Test part" not in text
    opened = study | {"test": {"base": study["base"], "findings": study["findings"]}}
    assert "## Test part" in study_markdown(opened)
    assert "It was opened once" in render_study(opened)


def test_the_chart_holds_means_and_seeds(study: dict[str, Any]) -> None:
    shown = [finding for finding in study["findings"] if finding["effect"]]
    values = effects_chart(shown, "accuracy")["data"]["values"]
    assert [v["name"] for v in values if v["kind"] == "mean"] == ["<b>sam", "probe"]
    assert sum(v["kind"] == "seed" for v in values) == 8


def test_a_failed_row_is_dashes(study: dict[str, Any]) -> None:
    (broken,) = [finding for finding in study["findings"] if finding["name"] == "broken"]
    assert cells(broken) == ["broken", "failed", "–", "–", "–", "–", "–", "–", "0"]
