"""The page of a study: what it says in words, and that a real browser draws its charts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from etude.report.tuning import render_study
from etude.report.tuning_charts import history_chart
from report.test_browser import CHROMIUM, Visit
from report.test_browser import browser as browser

SPACE = [
    {"path": "optimizer.lr", "low": 1e-5, "high": 1e-2, "log": True, "choices": [], "default": 1e-4},
    {"path": "backbone.pooling", "low": None, "high": None, "log": False, "choices": ["<b>cls", "mean"],
     "default": "mean"},
    {"path": "train.epochs", "low": 2, "high": 9, "log": False, "choices": [], "default": 5},
]  # fmt: skip
WORDS = ["1e-05 to 0.01, log", "<b>cls, mean", "2 to 9"]


def trial(place: int, state: str = "complete", **changes: Any) -> dict[str, Any]:
    settings = {
        "optimizer.lr": 1e-5 * 1.4**place,
        "backbone.pooling": ["<b>cls", "mean"][place % 2],
        "train.epochs": 2 + place % 8,
    }
    return {
        "place": place,
        "number": place,
        "stage": "all rows",
        "phase": "default" if place == 0 else "explore" if place < 8 else "exploit",
        "state": state,
        "value": None if state == "failed" else 0.6 + 0.01 * place,
        "settings": settings if place else {},
        "params": settings,
        "evaluations": 3,
        "seconds": 1.5,
        "trained": 1.2,
        "tries": 2 if state == "failed" else 1,
        "why": "<script>alert(1)</script> diverged" if state == "failed" else None,
    } | changes


def record(**changes: Any) -> dict[str, Any]:
    trials = [trial(k, {5: "pruned", 9: "failed"}.get(k, "complete")) for k in range(16)]
    return {
        "name": "churn",
        "storage": "churn/study.db",
        "metric": "accuracy",
        "greater_is_better": True,
        "training_rows": 100,
        "tune": {},
        "space": [
            {**d, "role": "scientific" if k == 1 else "nuisance", "words": WORDS[k]}
            for k, d in enumerate(SPACE)
        ],
        "trials": trials,
        "best": trials[15],
        "default": 0.6,
        "importances": {"optimizer.lr": 0.7, "train.epochs": 0.2, "backbone.pooling": 0.1},
        "borders": [{"path": "optimizer.lr", "sentence": "the best optimizer.lr lies at the upper end"}],
        "scientific": [
            {"values": {"backbone.pooling": name}, "trials": 8, "finished": 7, "value": 0.7, "settings": {}}
            for name in ("<b>cls", "mean")
        ],
        "confirmation": {
            "seeds": [1, 2], "default": [0.6, 0.62], "winner": [0.65, 0.66], "lost": [3],
            "of_default": {"mean": 0.61, "se": 0.01}, "of_winner": {"mean": 0.655, "se": 0.005},
            "difference": {"mean": 0.045, "low": 0.01, "high": 0.08, "p": 0.02}, "verdict": "better",
            "sentence": "the winner is better than the default by +0.0450",
        },
    } | changes  # fmt: skip


def test_the_page_says_what_was_found() -> None:
    page = render_study(record())
    for words in (
        "The winner is better than the default by +0.0450.",
        "16 trials over 3 settings (1 pruned, 1 failed)",
        "The best optimizer.lr lies at the upper end.",
        "Each value with the nuisance settings that suit it best",
        "Left out are the seeds 3",
        "failed, try 2",
        "&lt;script&gt;alert(1)&lt;/script&gt; diverged",
    ):
        assert words in page, words
    assert "<script>alert" not in page
    assert "<b>cls" not in page


def test_a_study_that_found_nothing_says_so() -> None:
    few = [trial(0), trial(1, "failed")]
    nothing = {"confirmation": None, "importances": {}, "borders": [], "scientific": []}
    page = render_study(record(trials=few, best=few[0], **nothing))
    assert "No trial was better than the config as it is." in page
    assert "Too few trials came to an end" in page
    lucky = render_study(record(confirmation=None))
    assert "without fresh seeds nobody knows how much" in lucky


def test_the_best_so_far_counts_finished_trials_in_their_order() -> None:
    trials = [trial(0), trial(1, value=0.9, state="pruned"), trial(2, value=0.5), trial(3, value=0.8)]
    chart = history_chart(trials, "accuracy", greater_is_better=True, rows="all rows")
    assert chart is not None
    assert [row["v"] for row in chart["layer"][0]["data"]["values"]] == [0.6, 0.6, 0.6, 0.8]
    assert history_chart(trials[:1], "accuracy", greater_is_better=True, rows="all rows") is None


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")
def test_a_browser_draws_it(browser: Any, tmp_path: Path) -> None:
    page = tmp_path / "study.html"
    page.write_text(render_study(record()), encoding="utf-8")
    visit = Visit(browser, page)
    drawn = visit.tab.locator("[data-chart] svg").count()
    assert drawn == visit.tab.locator("[data-chart]").count() == 4 + len(SPACE)
    visit.picture("tuning")
    visit.was_quiet()
