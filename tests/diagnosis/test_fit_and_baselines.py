"""Over- and underfitting, the simple baselines, and the intervals that both rest on."""

from typing import Any

import numpy as np
import pytest

from etude.diagnosis.baselines import baselines, zero_rule
from etude.diagnosis.evidence import Evidence
from etude.diagnosis.fit import fit
from etude.diagnosis.noise import difference, main_score, measure, rough
from etude.evaluation.metrics import score


def test_the_main_score_is_the_metric_of_that_name(make: Any) -> None:
    for part, metric in (
        (make.accuracy(0.7), "accuracy"),
        (make.subsets(["ab", "c", ""], ["a", "ac", "b"]), "f1_macro"),
    ):
        assert main_score(part) == pytest.approx(score(part.task, part.probabilities, part.targets)[metric])


def test_an_interval_narrows_with_the_rows(make: Any) -> None:
    few, many = measure(make.accuracy(0.8, n=20)), measure(make.accuracy(0.8, n=2000))
    assert few.low < many.low < 0.8 < many.high < few.high
    assert many.half_width == pytest.approx(1.96 * (0.8 * 0.2 / 2000) ** 0.5, rel=0.02)
    assert rough(0.0, 3).high > 0.5


def test_a_resampled_interval_holds_the_score(make: Any) -> None:
    part = make.subsets(["ab", "c", "", "a"] * 20, ["a", "ac", "b", "a"] * 20)
    found = measure(part)
    assert found.low < found.value < found.high
    assert found == measure(part)


def test_equal_decisions_differ_by_nothing(make: Any) -> None:
    one, other = make.accuracy(0.8), make.accuracy(0.6)
    assert difference(one, one) == (0, 0, 0)
    found = difference(one, other)
    assert found.value == pytest.approx(0.2)
    assert 0.1 < found.low < 0.2 < found.high < 0.3


@pytest.mark.parametrize(
    ("train", "validation", "scores", "losses", "verdict", "words"),
    [
        (0.95, 0.94, [0.9, 0.94], [0.3, 0.2], "good", "which differ by no more than chance"),
        (1.0, 0.8, [0.7, 0.8], [0.6, 0.5], "look", "It fits its training rows better than new ones"),
        (0.97, 0.93, [0.9, 0.93], [0.2, 0.4], "look", "the validation loss rose by 100% after its minimum"),
        (1.0, 0.7, [0.9, 0.7], [0.3, 0.9], "bad", "It overfits: accuracy is 1.0000"),
        (0.6, 0.6, [0.5, 0.6], [1.0, 0.9], "look", "It may underfit"),
        (None, 0.8, [0.7, 0.8], [0.3, 0.9], "look", "scores of training rows are not there to tell"),
        (None, 0.8, [0.7, 0.8], [0.5, 0.3], "good", "The validation loss ended at its minimum (0.3000)"),
        (1.0, None, [], [], "unknown", "There are no scores of validation rows to compare"),
        (None, 0.8, [], [], "unknown", "There are no scores of training rows to compare"),
    ],
)  # fmt: skip
def test_fit(
    make: Any, train: Any, validation: Any, scores: list[float], losses: list[float], verdict: str, words: str
) -> None:
    shares = {"train": train, "validation": validation}
    parts = {part: make.accuracy(share) for part, share in shares.items() if share is not None}
    found = fit(Evidence(make.task(), make.scores(scores, losses), parts))
    assert found.verdict == verdict
    assert words in found.sentence


def test_three_rows_decide_nothing(make: Any) -> None:
    parts = {"train": make.accuracy(0.9, n=300), "validation": make.accuracy(2 / 3, n=3)}
    assert fit(Evidence(make.task(), make.scores([1.0, 2 / 3]), parts)).verdict == "good"


def summary(value: float, interval: tuple[float, float] | None = None, **known: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "metrics": {"test": {"accuracy": value}},
        "rows": {"test": 500},
        "baselines": {name: {"metrics": {"test": {"accuracy": score}}} for name, score in known.items()},
    }
    return found if interval is None else {**found, "intervals": {"test": {"accuracy": list(interval)}}}


@pytest.mark.parametrize(
    ("told", "verdict", "words"),
    [
        (summary(0.9, (0.87, 0.93), zero_rule=0.3, tfidf_logistic=0.8), "good", "tfidf logistic, has 0.8000"),
        (summary(0.9, (0.87, 0.93), zero_rule=0.3), "good", "no other baseline was trained"),
        (summary(0.9, (0.87, 0.93), zero_rule=0.3, tfidf_logistic=0.88), "look", "inside that interval"),
        (summary(0.9, (0.87, 0.93), zero_rule=0.3, tfidf_logistic=0.92), "look", "inside that interval"),
        (summary(0.9, (0.87, 0.93), zero_rule=0.3, tfidf_logistic=0.95), "bad", "No: accuracy on the test"),
        (summary(0.9, (0.87, 0.93), zero_rule=0.9), "bad", "zero rule, has 0.9000"),
        (summary(0.9), "unknown", "No baseline was scored; accuracy on"),
        (summary(1.0, (1.0, 1.0), zero_rule=0.999), "look", "1.0000 (0.9924 to 1.0000)"),
        ({"baselines": {"zero_rule": None}}, "unknown", "There is no scored test or validation part"),
    ],
)
def test_baselines(make: Any, told: dict[str, Any], verdict: str, words: str) -> None:
    found = baselines(Evidence(make.task(), summary=told))
    assert found.verdict == verdict
    assert words in found.sentence


def test_the_zero_rule_is_counted_where_the_run_has_none(make: Any) -> None:
    parts = {"train": make.part("aaab", "aaab"), "test": make.part("aabc", "aabc")}
    evidence = Evidence(make.task(), parts=parts)
    assert zero_rule(evidence, "test") == 0.5
    assert baselines(evidence).evidence["baselines"] == {"zero_rule": 0.5}


def test_the_zero_rule_of_subsets_gives_every_label_of_half_of_the_rows(make: Any) -> None:
    parts = {
        "train": make.subsets(["ab", "ab", "c", ""], [""] * 4),
        "test": make.subsets(["a", "c"], ["", ""]),
    }
    # a is found once and added once, b is added twice, c is missed: F1 of 2/3, 0 and 0.
    assert zero_rule(Evidence(make.task("multilabel"), parts=parts), "test") == pytest.approx(2 / 9)
    parts["train"] = make.subsets(["a", "", ""], [""] * 3)
    assert zero_rule(Evidence(make.task("multilabel"), parts=parts), "test") == pytest.approx(2 / 9)
    assert np.isfinite(main_score(parts["test"]))
