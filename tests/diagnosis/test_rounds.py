"""What a diagnosis says of trees and of logistic regression."""

from __future__ import annotations

from typing import Any

import pytest

from etude.config.load import parse_config
from etude.core.task import Binary
from etude.diagnosis import Evidence, what_next
from etude.diagnosis.convergence import best_epoch, convergence
from etude.diagnosis.verdict import Verdict


def evidence(kind: str, fit: dict[str, Any] | None, **backbone: Any) -> Evidence:
    config = parse_config({"data": {"train": "a.csv"}, "backbone": {"kind": kind, **backbone}})
    return Evidence(Binary(["no", "yes"]), summary={} if fit is None else {"fit": fit}, config=config)


def losses(unit: str, at: list[float], validation: list[float], kept: float) -> dict[str, Any]:
    return {"unit": unit, "at": at, "train": [0.5] * len(at), "validation": validation, "kept": kept}


@pytest.mark.parametrize(
    ("kind", "settings", "fit", "verdict", "words", "advice"),
    [
        ("trees", {}, losses("rounds", [1, 2, 3], [0.6, 0.5, 0.55], 2), "good", "least after round 2", ""),
        (
            "trees", {"n_rounds": 3}, losses("rounds", [1, 2, 3], [0.6, 0.5, 0.4], 3), "look",
            "still fell in the last of 3 rounds", "n_rounds = 6",
        ),
        (
            "trees", {"early_stopping": False}, losses("rounds", [1, 2, 3], [0.6, 0.4, 0.5], 3), "look",
            "least after round 2", "early_stopping = 20",
        ),
        ("trees", {}, losses("rounds", [1, 2], [], 2), "unknown", "no validation part to tell", ""),
        ("trees", {}, None, "unknown", "were not kept", ""),
        ("linear", {}, losses("iterations", [0, 50], [0.7, 0.4], 50), "good", "done after 50", ""),
        (
            "linear", {"max_iter": 50}, losses("iterations", [0, 50], [0.7, 0.4], 50), "bad",
            "not done after 50", "max_iter = 150",
        ),
        (
            "linear", {"strength": "auto"}, losses("C", [0.1, 1, 10], [0.6, 0.5, 0.4], 10), "look",
            "at the end of them", "strength = 100",
        ),
        ("linear", {"strength": "auto"}, losses("C", [0.1, 1, 10], [0.6, 0.4, 0.5], 1), "good", "C = 1", ""),
    ],
)  # fmt: skip
def test_the_end_of_a_fit_is_judged(
    kind: str, settings: dict[str, Any], fit: dict[str, Any] | None, verdict: str, words: str, advice: str
) -> None:
    known = evidence(kind, fit, **settings)
    found = convergence(known)
    assert found.verdict == verdict
    assert words in found.sentence
    given = what_next([found], known)
    assert [piece.config.splitlines()[1] for piece in given] == ([advice] if advice else [])
    assert "no epochs" in best_epoch(known).sentence


def test_advice_on_over_and_underfitting_fits_the_model() -> None:
    over = Verdict("fit", "?", "look", "It fits too well.", {"gap": [0.2, 0.1, 0.3]})
    under = Verdict("fit", "?", "look", "It may underfit.", {"gap": [0.0, -0.01, 0.01]})
    assert [one.title for one in what_next([over], evidence("trees", None))] == ["Smaller trees"]
    assert [one.title for one in what_next([under], evidence("trees", None))] == ["Larger trees"]
    assert [one.config for one in what_next([over], evidence("linear", None))] == [
        "[backbone]\nstrength = 0.1\n"
    ]


def test_nothing_is_advised_that_acts_on_steps() -> None:
    verdicts = [
        Verdict(step, "?", "bad", "Bad.", {"doubtful": 5, "gap": [0.2, 0.1, 0.3], "loss_risen": 0.3})
        for step in ("convergence", "fit", "baselines", "failures", "confusion", "best_epoch", "labels")
    ]
    for advice in what_next(verdicts, evidence("trees", losses("rounds", [1, 2], [0.5, 0.4], 2))):
        assert not any(word in advice.config for word in ("[loss]", "[train]", "[optimizer]", "r_drop"))
