"""Bootstrap intervals: a weight is a repetition, draws are keyed, and intervals have the right width."""

import numpy as np
import pytest

from etude.core.task import Binary, Multiclass, Multilabel, Task
from etude.errors import ConfigError
from etude.evaluation import bootstrap as module
from etude.evaluation.bootstrap import Samples, affordable, bootstrap, drawings
from etude.evaluation.metrics import score
from etude.evaluation.names import default_metrics

Case = tuple[Task, np.ndarray, np.ndarray, np.ndarray]


def case(kind: str, *, n: int = 40, coarse: bool = False, seed: int = 0) -> Case:
    """Random scores, equal ones among them where they are coarse; some rows out of scope or not answered."""
    rng = np.random.default_rng(seed)
    if kind == "multilabel":
        p = rng.random((n, 3))
        targets = (rng.random((n, 3)) < [0.5, 0.3, 0.05]).astype(float)
        decisions = p > 0.6
    else:
        c = 2 if kind == "binary" else 4
        p = rng.dirichlet(np.ones(c), size=n)
        targets = np.eye(c)[rng.integers(c, size=n)]
        targets[: n // 8] = 0
        decisions = (p == p.max(axis=1, keepdims=True)) & (p > 0.4)
    labels = [f"label {i}" for i in range(p.shape[1])]
    task = {"binary": Binary, "multiclass": Multiclass, "multilabel": Multilabel}[kind](labels)
    return task, p.round(1) if coarse else p, targets, decisions


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("n", [3, 40])
def test_a_weight_is_a_repetition(kind: str, coarse: bool, n: int) -> None:
    task, p, targets, decisions = case(kind, coarse=coarse, n=n)
    rng = np.random.default_rng(1)
    weights = rng.integers(0, 4, size=(5, n))
    weights[4] = 1  # and the part itself
    samples = Samples(task, p, targets, decisions)
    found = samples.under(weights.astype(np.float32))
    for r, times in enumerate(weights):
        rows = np.repeat(np.arange(n), times)
        repeated = score(
            task, p[rows], targets[rows], decisions[rows], names=[m.name for m in samples.metrics]
        )
        for name, values in found.items():
            # What has no value is NaN here and left out there.
            assert values[r] == pytest.approx(repeated.get(name, np.nan), abs=1e-12, nan_ok=True), name


def test_all_default_metrics_have_an_interval_around_their_value() -> None:
    task, p, targets, decisions = case("multilabel", n=200)
    values, found = score(task, p, targets, decisions), bootstrap(task, p, targets, decisions, resamples=200)
    assert tuple(found) == default_metrics("multilabel")
    outside = [name for name in found if not found[name].low <= values[name] <= found[name].high]
    assert outside == ["ece"] or not outside  # the one metric that chance only makes worse


def test_rows_out_of_scope_bring_their_metrics() -> None:
    found = bootstrap(*case("multiclass"), resamples=20)
    assert {"in_scope_accuracy", "oos_recall", "oos_precision", "coverage"} <= set(found)


def test_accuracy_has_the_interval_of_the_binomial() -> None:
    n, right = 400, 300
    p = np.tile([0.9, 0.1], (n, 1))
    targets = np.eye(2)[[0] * right + [1] * (n - right)]
    found = bootstrap(Binary(["a", "b"]), p, targets, names=["accuracy"])["accuracy"]
    half = 1.96 * np.sqrt(0.75 * 0.25 / n)
    assert (found.low, found.high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.006)
    assert found.resamples == 1000


def test_draws_depend_on_the_seed_and_not_on_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(drawings(7, 10, seed=3)))
    monkeypatch.setattr(module, "_CELLS", 21)
    blocks = list(drawings(7, 10, seed=3))
    assert [len(block) for block in blocks] == [3, 3, 3, 1]
    assert np.array_equal(np.concatenate(blocks), whole)
    assert (whole.sum(axis=1) == 7).all()
    assert not np.array_equal(whole, np.concatenate(list(drawings(7, 10, seed=4))))


def test_a_resample_without_any_value_does_not_count() -> None:
    p = np.full((10, 1), 0.5)
    targets = np.zeros((10, 1))
    targets[0] = 1
    found = bootstrap(Multilabel(["rare"]), p, targets, names=["roc_auc"], resamples=200)["roc_auc"]
    assert found.low == found.high == 0.5
    assert 90 < found.resamples < 160  # 1 - (1 - 1/10)^10 is 65 %
    assert bootstrap(Multilabel(["never"]), p, targets * 0, names=["roc_auc"]) == {}


def test_no_rows_have_no_interval() -> None:
    assert bootstrap(Multilabel(["a"]), np.zeros((0, 1)), np.zeros((0, 1))) == {}


def test_very_many_rows_are_drawn_less_often() -> None:
    assert affordable(50_000, 100, 1000) == 1000
    assert affordable(2_000_000, 100, 1000) == 100
    assert affordable(2_000_000, 100, 10) == 10


def test_the_calibration_error_of_too_many_entries_has_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CONFIDENCES", 100)
    found = bootstrap(*case("multilabel"), resamples=5)
    assert tuple(found) == tuple(name for name in default_metrics("multilabel") if name != "ece")


def test_names_are_checked() -> None:
    with pytest.raises(ConfigError, match="metric 'f1' is for binary tasks"):
        bootstrap(Multilabel(["a"]), np.zeros((1, 1)), np.zeros((1, 1)), names=["f1"])
