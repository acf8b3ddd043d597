"""Two models on the same rows: McNemar's test against SciPy, and the paired bootstrap."""

import numpy as np
import pytest
from scipy import stats

from etude.core.task import Binary, Multilabel
from etude.errors import DataError
from etude.evaluation.metrics import score
from etude.evaluation.paired import mcnemar, paired_bootstrap

RIGHT, WRONG = np.array([[0.2, 0.8]]), np.array([[0.7, 0.3]])
TASK = Binary(["no", "yes"])


def answers(only_a: int, only_b: int, both: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Which of the rows, all of label yes, each of two models has right."""
    a = np.repeat([True, False, True], [only_a, only_b, both])
    b = np.repeat([False, True, True], [only_a, only_b, both])
    return a, b


def model(correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and decisions that are right where they should be."""
    p = np.where(correct[:, None], RIGHT, WRONG)
    return p, TASK.decide(p)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (3, 3), (2, 9), (12, 12), (20, 4)])
def test_few_disagreements_are_judged_by_the_binomial(only_a: int, only_b: int) -> None:
    found = mcnemar(*answers(only_a, only_b))
    n = only_a + only_b
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.p == pytest.approx(stats.binomtest(only_a, n).pvalue if n else 1.0, abs=1e-12)


@pytest.mark.parametrize(("only_a", "only_b"), [(13, 12), (20, 20), (40, 15), (100, 300)])
def test_many_are_judged_by_chi_square(only_a: int, only_b: int) -> None:
    statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / (only_a + only_b)
    assert mcnemar(*answers(only_a, only_b)).p == pytest.approx(stats.chi2.sf(statistic, 1), abs=1e-12)


def test_both_models_need_the_same_rows() -> None:
    with pytest.raises(DataError, match="scored on 2 and 3 rows; a paired test needs the same rows of both"):
        mcnemar(np.ones(2, dtype=bool), np.ones(3, dtype=bool))


def test_the_difference_is_b_minus_a() -> None:
    a, b = answers(5, 45, both=150)
    targets = np.tile([0.0, 1.0], (200, 1))
    found = paired_bootstrap(TASK, targets, model(a), model(b), names=["accuracy", "loss"], resamples=300)
    accuracy, loss = found["accuracy"], found["loss"]
    assert accuracy.difference == pytest.approx(score(TASK, model(b)[0], targets)["accuracy"] - a.mean())
    assert accuracy.difference == pytest.approx(0.2)
    assert 0.1 < accuracy.low < 0.2 < accuracy.high < 0.3
    assert accuracy.excludes_zero
    assert accuracy.p == pytest.approx(2 / 301)
    assert loss.high < 0  # of which less is better
    back = paired_bootstrap(TASK, targets, model(b), model(a), names=["accuracy"], resamples=300)["accuracy"]
    assert (back.difference, back.low, back.high) == pytest.approx((-0.2, -accuracy.high, -accuracy.low))


def test_the_same_model_twice_differs_by_nothing() -> None:
    rng = np.random.default_rng(0)
    p, targets = rng.random((30, 3)), (rng.random((30, 3)) < 0.3).astype(float)
    found = paired_bootstrap(Multilabel(["a", "b", "c"]), targets, (p, p > 0.5), (p, p > 0.5), resamples=20)
    assert {(d.difference, d.low, d.high, d.p) for d in found.values()} == {(0.0, 0.0, 0.0, 1.0)}
    assert not any(d.excludes_zero for d in found.values())


def test_equally_good_models_show_no_difference() -> None:
    a, b = answers(10, 11)
    found = paired_bootstrap(TASK, np.tile([0.0, 1.0], (71, 1)), model(a), model(b), names=["accuracy"])
    assert not found["accuracy"].excludes_zero
    assert found["accuracy"].p > 0.5


def test_no_rows_have_no_difference() -> None:
    nothing = np.zeros((0, 2)), np.zeros((0, 2), dtype=bool)
    assert paired_bootstrap(TASK, np.zeros((0, 2)), nothing, nothing) == {}
