"""How far a score can be trusted: against references, and on data whose answer is known."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from etude.core.task import make_task
from etude.evaluation.baselines import BaselinePart
from etude.evaluation.drift import Rows, compare_parts
from etude.evaluation.repeats import ladder, repeat
from etude.evaluation.trust import agreement, auc, share_error, spread

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize("ties", [False, True])
def test_auc_equals_scikit_learn_and_the_interval_delong_by_hand(ties: bool) -> None:
    positive = GENERATOR.random(60) < 0.4
    scores = GENERATOR.normal(size=60) + positive
    if ties:
        scores = np.round(scores)
    found = auc(scores, positive)
    assert found.value == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    # The variance of a U statistic from how often each row wins, pair by pair.
    above, below = scores[positive], scores[~positive]
    wins = (above[:, None] > below).astype(float) + 0.5 * (above[:, None] == below)
    variance = wins.mean(axis=1).var(ddof=1) / len(above) + wins.mean(axis=0).var(ddof=1) / len(below)
    assert found.high - found.value == pytest.approx(stats.norm.ppf(0.975) * math.sqrt(variance), abs=1e-12)


def test_the_interval_of_an_auc_covers_what_it_should() -> None:
    covered = 0
    for _ in range(300):
        positive = np.arange(80) < 40
        scores = GENERATOR.normal(size=80) + positive * math.sqrt(2) * stats.norm.ppf(0.7)
        found = auc(scores, positive)
        covered += found.low <= 0.7 <= found.high
    assert 0.90 <= covered / 300 <= 0.99


def test_auc_at_its_ends() -> None:
    positive = np.array([True, True, False, False])
    assert auc(np.array([3.0, 4.0, 1.0, 2.0]), positive).value == 1.0
    assert auc(np.zeros(4), positive).to_json() == {"value": 0.5, "low": 0.5, "high": 0.5}
    with pytest.raises(ValueError, match="two rows on both sides, and there are 1 and 3"):
        auc(np.arange(4.0), np.array([True, False, False, False]))


def test_spread_is_that_of_numpy_and_needs_two_scores() -> None:
    scores = [0.71, 0.74, 0.70, 0.73, 0.72]
    found = spread(scores)
    assert found.std == pytest.approx(np.std(scores, ddof=1))
    assert found.standard_error == pytest.approx(stats.sem(scores))
    with pytest.raises(ValueError, match="two scores or more, and there are 1"):
        spread([0.5])


def test_the_error_of_a_share_is_that_of_the_binomial() -> None:
    assert share_error(0.3, 50) == pytest.approx(stats.binom(50, 0.3).std() / 50)


def test_agreement_equals_scipy() -> None:
    first = GENERATOR.random(9)
    second = first + 0.3 * GENERATOR.random(9)
    found = agreement(first.tolist(), second.tolist())
    reference = stats.pearsonr(first, second)
    interval = reference.confidence_interval()
    assert found.pearson.value == pytest.approx(reference.statistic)
    assert (found.pearson.low, found.pearson.high) == pytest.approx((interval.low, interval.high))
    assert found.spearman.value == pytest.approx(stats.spearmanr(first, second).statistic)
    assert found.spearman.low < found.spearman.value < found.spearman.high


def test_agreement_of_models_that_cannot_be_correlated() -> None:
    with pytest.raises(ValueError, match="five models or more, and there are 4"):
        agreement([1, 2, 3, 4], [1, 2, 3, 4])
    with pytest.raises(ValueError, match="all models score the same"):
        agreement([0.5] * 5, [1, 2, 3, 4, 5])
    assert agreement([1, 2, 3, 4, 5], [2, 4, 6, 8, 10]).pearson.low == 1.0


def _texts(n: int, words: str, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(words.split(), size=6)) for _ in range(n)]


WORDS = "parcel money order refund late broken colour size pay card"


def test_parts_that_are_drawn_alike_cannot_be_told_apart() -> None:
    drift = compare_parts(Rows(_texts(150, WORDS, 1)), Rows(_texts(80, WORDS, 2)), seed=0)
    assert drift.auc.low < 0.5 < drift.auc.high + 0.1
    assert (drift.rows, drift.folds) == ((150, 80), 5)
    assert compare_parts(Rows(_texts(150, WORDS, 1)), Rows(_texts(80, WORDS, 2)), seed=0) == drift


def test_a_word_of_one_part_tells_them_apart_and_is_named() -> None:
    other = [f"{text} zebra" for text in _texts(60, WORDS, 2)]
    drift = compare_parts(Rows(_texts(100, WORDS, 1)), Rows(other), seed=0)
    assert drift.auc.value > 0.95
    word = next(clue for clue in drift.clues if clue.kind == "word")
    assert (word.name, word.first, word.second) == ("zebra", 0.0, 1.0)
    assert 0 < word.share <= 1


def test_a_number_of_one_part_tells_them_apart_also_where_some_are_missing() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=100), generator.normal(size=60) + 3
    one[0] = np.nan
    blank = np.full(100, np.nan)
    drift = compare_parts(
        Rows(_texts(100, WORDS, 1), {"age": one, "blank": blank}),
        Rows(_texts(60, WORDS, 2), {"age": other, "blank": other}),
        seed=0,
    )
    assert drift.auc.low > 0.8
    assert drift.clues[0].name == "column 'age'"
    assert drift.clues[0].second == pytest.approx(other.mean())
    assert "column 'blank'" not in [clue.name for clue in drift.clues]


def test_texts_of_any_script_and_length_can_be_compared() -> None:
    odd = ["😀" * 5, "مرحبا بالعالم", "x" * 100_000, "<script>", "..."]
    drift = compare_parts(Rows(odd), Rows(odd), seed=0)
    assert 0.0 <= drift.auc.low <= drift.auc.high <= 1.0
    with pytest.raises(ValueError, match="five rows or more can be compared, and one has 4"):
        compare_parts(Rows(odd), Rows(odd[:4]), seed=0)


@pytest.fixture(scope="module")
def part() -> BaselinePart:
    labels = np.arange(80) % 2
    words = ["parcel order late", "money refund pay"]
    texts = [f"{words[label]} {noise}" for label, noise in zip(labels, _texts(80, WORDS, 3), strict=True)]
    flipped = np.where(np.arange(80) % 7 == 0, 1 - labels, labels)
    return BaselinePart(texts, np.eye(2, dtype=np.float32)[flipped])


def test_repeated_runs_differ_by_the_rows_they_drew_and_by_nothing_else(part: BaselinePart) -> None:
    task = make_task("binary", ["order", "refund"])
    noise = repeat(task, part, part, metric="accuracy", seed=0, runs=2)
    assert len(noise.scores) == noise.runs.runs == 2
    assert noise.runs == spread(noise.scores)
    assert 0.01 < noise.sampling_error < 0.1
    assert repeat(task, part, part, metric="accuracy", seed=0, runs=2) == noise


def test_models_of_the_ladder_get_better_on_both_parts(part: BaselinePart) -> None:
    task = make_task("binary", ["order", "refund"])
    rungs = ladder(task, part, {"validation": part, "test": part}, metric="loss", seed=0, shares=(0.05, 1.0))
    assert [rung.share for rung in rungs] == [0.25, 1.0]
    assert rungs[0].scores["test"] > rungs[1].scores["test"]


def test_cheap_models_of_several_labels_decide_each_as_often_as_training_has_it() -> None:
    generator = np.random.default_rng(0)
    targets = (generator.random((120, 3)) < [0.5, 0.1, 0.3]).astype(np.float32)
    texts = [" ".join(f"word{c}" for c in np.flatnonzero(row)) + " and" for row in targets]
    part = BaselinePart(texts, targets)
    noise = repeat(make_task("multilabel", "abc"), part, part, metric="f1_macro", seed=0, runs=2)
    assert noise.runs.mean > 0.95
