"""The slope of the training loss against its own noise, and the last evaluation against the best one."""

from typing import Any

import numpy as np
import pytest

from etude.config.load import parse_config
from etude.diagnosis.convergence import best_epoch, convergence, peak, slope
from etude.diagnosis.evidence import Evidence

RNG = np.random.default_rng(0)
NOISE = 0.01 * RNG.standard_normal(50)
STEPS = np.linspace(0, 1, 50)
FLAT = 0.2 + np.exp(-12 * STEPS) + NOISE
FALLING = 1.2 - STEPS + NOISE
RISING = FLAT + 2 * np.clip(STEPS - 0.75, 0, None)


def test_the_slope_is_that_of_least_squares() -> None:
    x, y = STEPS, 3 - 2 * STEPS + NOISE
    assert slope(x, y).value == pytest.approx(np.polyfit(x, y, 1)[0])


def test_the_interval_holds_the_slope_as_often_as_it_says() -> None:
    rng, x = np.random.default_rng(1), np.arange(6.0)
    found = [slope(x, 0.5 * x + rng.standard_normal(6)) for _ in range(2000)]
    assert np.mean([s.low < 0.5 < s.high for s in found]) == pytest.approx(0.95, abs=0.015)


def test_two_points_have_no_interval() -> None:
    with pytest.raises(ValueError, match="2 points have no slope with an interval; three are the fewest"):
        slope(np.arange(2.0), np.arange(2.0))


@pytest.mark.parametrize(
    ("values", "verdict", "words"),
    [
        (FLAT, "good", "The training loss has levelled off at 0."),
        (FALLING, "look", "The training loss still falls, from 1.1"),
        (RISING, "bad", "The training loss rises at the end"),
        (FLAT[::-1], "bad", "The training loss did not fall"),
        ([1.0, np.nan, 0.5, 0.4, 0.3, 0.2], "bad", "was not finite in 1 of its 6 records"),
        (0.9 - FLAT, "bad", "The training loss did not fall: it began at 0.2785"),
        ([1.1] * 30, "bad", "The training loss did not fall: it began at 1.1000 and ended at 1.1000"),
        (0.01 + 0.1 * FALLING[::2] / 10, "good", "The training loss has levelled off at 0.0"),
        ([1.0, 0.5], "unknown", "There are 2 records of the training loss and a slope needs 5"),
        ([2.0, 1.9, 1.0, 1.8, 0.9, 1.7, 0.8], "unknown", "too noisy to tell"),
    ],
)
def test_verdicts(make: Any, values: Any, verdict: str, words: str) -> None:
    found = convergence(Evidence(make.task(), make.losses(list(values))))
    assert found.verdict == verdict
    assert words in found.sentence
    assert bool(found.advice) == (verdict in ("look", "bad"))


def test_all_records_of_one_step_have_no_slope(make: Any) -> None:
    records = [{**record, "step": 7} for record in make.losses([1.0] * 9)]
    assert convergence(Evidence(make.task(), records)).verdict == "unknown"


def test_the_peak_is_the_earliest_of_the_best(make: Any) -> None:
    found = peak(Evidence(make.task(), make.scores([0.5, 0.9, 0.7, 0.9])))
    assert found is not None
    assert found == (2, 200, 0.9, 0.9, 400)


def test_an_evaluation_after_the_last_epoch_belongs_to_it(make: Any) -> None:
    records = [*make.losses([1.0] * 20), {"step": 200, "epoch": 2, "validation": {"accuracy": 0.9}}]
    config = parse_config({"data": {"train": "a.csv"}, "train": {"epochs": 2}})
    for evidence in (Evidence(make.task(), records), Evidence(make.task(), records[-1:], config=config)):
        found = peak(evidence)
        assert found is not None
        assert found.epochs == 2


@pytest.mark.parametrize(
    ("scores", "verdict", "words"),
    [
        (
            [0.5, 0.7, 0.9],
            "good",
            "The last evaluation is the best: accuracy 0.9000 after step 300 (epoch 3)",
        ),
        ([0.5, 0.9, 0.9], "good", "is as good as the first of the best: accuracy 0.9000 after step 200"),
        ([0.5, 0.9, 0.89], "good", "0.0100 below the best, accuracy 0.9000 after step 200 (epoch 2), within"),
        (
            [0.5, 0.9, 0.8],
            "bad",
            "0.1000 below the best, accuracy 0.9000 after step 200 (epoch 2), more than",
        ),
        ([0.9], "unknown", "There is one evaluation of accuracy on a validation part"),
        ([], "unknown", "There are no evaluations"),
        ([0.9, np.nan], "unknown", "There is one evaluation"),
    ],
)
def test_the_last_epoch_against_the_best(make: Any, scores: list[float], verdict: str, words: str) -> None:
    parts = {"validation": make.accuracy(scores[-1])} if scores and np.isfinite(scores[-1]) else {}
    found = best_epoch(Evidence(make.task(), make.scores(scores), parts))
    assert found.verdict == verdict
    assert words in found.sentence


def test_few_rows_prove_little(make: Any) -> None:
    records = make.scores([1.0, 0.6667])
    assert (
        best_epoch(Evidence(make.task(), records, {"validation": make.accuracy(2 / 3, n=3)})).verdict
        == "good"
    )
    found = best_epoch(Evidence(make.task(), records))
    assert found.verdict == "look"
    assert found.advice == ["Train again for 1 epoch, so that the schedule ends where the score is best."]
