"""Metrics against scikit-learn, on random and on degenerate cases, in one piece and in many."""

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from etude.core.task import Binary, Multiclass, Multilabel, Task
from etude.errors import DataError
from etude.evaluation.metrics import Metrics, Scores, score
from etude.evaluation.names import default_metrics, find_metric
from etude.evaluation.reliability import calibration_scores

Case = tuple[Task, NDArray[Any], NDArray[Any]]


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def single(c: int, n: int, seed: int, *, absent: int | None = None, always: int | None = None) -> Case:
    """Random rows; one class may be absent from the truth, or be the only one that is predicted."""
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((n, c)) * 2
    classes = rng.integers(c, size=n)
    if absent is not None:
        classes[classes == absent] = (absent + 1) % c
    if always is not None:
        logits[:, always] += 100
    labels = [f"label {i}" for i in range(c)]
    return (Binary if c == 2 else Multiclass)(labels), softmax(logits), np.eye(c)[classes]


def several(c: int, n: int, seed: int, *, empty: int | None = None, shift: float = 0.0) -> Case:
    """Random subsets; one label may hold in no row, and predictions may all be high or low."""
    rng = np.random.default_rng(seed)
    probabilities = 1 / (1 + np.exp(-rng.standard_normal((n, c)) * 2 - shift))
    targets = (rng.random((n, c)) < 0.3).astype(np.float32)
    if empty is not None:
        targets[:, empty] = 0
    return Multilabel([f"label {i}" for i in range(c)]), probabilities, targets


def equal(case: Case) -> Case:
    """The same score for every row and label."""
    task, probabilities, targets = case
    return (
        task,
        np.full_like(probabilities, 0.5 if task.kind == "multilabel" else 1 / task.n_classes),
        targets,
    )


def rounded(case: Case) -> Case:
    """Scores of one decimal, of which many are equal; rows still sum to one."""
    task, probabilities, targets = case
    coarse = np.clip(probabilities.round(1), 0.1, 0.9)
    if task.kind != "multilabel":
        coarse /= coarse.sum(axis=1, keepdims=True)
    return task, coarse, targets


def certain(case: Case) -> Case:
    """Scores of 0 and 1 alone."""
    task, probabilities, targets = case
    return task, task.decide(probabilities).astype(float), targets


def full(case: Case, label: int) -> Case:
    """A label that holds in every row."""
    task, probabilities, targets = case
    targets = targets.copy()
    targets[:, label] = 1
    return task, probabilities, targets


CASES: dict[str, Case] = {
    "multiclass": single(5, 200, 0),
    "multiclass, few rows": single(7, 6, 1),
    "multiclass, a class absent": single(4, 100, 2, absent=2),
    "multiclass, one class predicted": single(4, 100, 3, always=1),
    "multiclass, absent and predicted": single(3, 50, 4, absent=1, always=1),
    "multiclass, one row": single(3, 1, 5),
    "binary": single(2, 200, 6),
    "binary, no positives": single(2, 60, 7, absent=1),
    "binary, no negatives": single(2, 60, 8, absent=0),
    "binary, all predicted negative": single(2, 60, 9, always=0),
    "binary, all predicted positive": single(2, 60, 10, always=1),
    "multilabel": several(6, 200, 11),
    "multilabel, a label without positives": several(4, 100, 12, empty=2),
    "multilabel, nothing predicted": several(4, 100, 13, shift=-100.0),
    "multilabel, everything predicted": several(4, 100, 14, shift=100.0),
    "multilabel, one label": several(1, 50, 15),
    "multilabel, one row": several(3, 1, 16),
    "multiclass, all scores equal": equal(single(4, 60, 17)),
    "binary, all scores equal": equal(single(2, 60, 18)),
    "multilabel, all scores equal": equal(several(4, 60, 19)),
    "multiclass, many equal scores": rounded(single(5, 200, 20)),
    "multilabel, many equal scores": rounded(several(5, 200, 21)),
    "multiclass, scores of exactly 0 and 1": certain(single(4, 60, 22)),
    "binary, scores of exactly 0 and 1": certain(single(2, 60, 23)),
    "multilabel, scores of exactly 0 and 1": certain(several(4, 60, 24)),
    "multiclass, three rows": single(4, 3, 25),
    "binary, three rows": single(2, 3, 26),
    "multilabel, three rows": several(4, 3, 27),
    "multilabel, a label that always holds": full(several(4, 60, 28), 1),
}

AVERAGES = ("macro", "micro", "weighted", "samples")
MORE = [f"{ratio}_{average}" for ratio in ("precision", "recall", "f1", "jaccard") for average in AVERAGES]
MORE += ["jaccard", "f0.5_macro", "top2_accuracy", "top3_accuracy"]


def ratios(truth: Any, found: Any, average: str, labels: Any) -> Scores:
    """Precision, recall, F1 and Jaccard."""
    options: Any = {"average": average, "zero_division": 0, "labels": labels}
    values = [*sk.precision_recall_fscore_support(truth, found, **options)[:3]]
    end = "" if average == "binary" else f"_{average}"
    names = [f"{ratio}{end}" for ratio in ("precision", "recall", "f1", "jaccard")]
    return dict(zip(names, [*values, sk.jaccard_score(truth, found, **options)], strict=True))


def expected(task: Task, probabilities: NDArray[Any], targets: NDArray[Any]) -> Scores:
    """The default scores and a few more by scikit-learn, those it has no value for left out."""
    decisions = task.decide(probabilities)
    # A column alone is a yes-or-no question to scikit-learn, of which the yes is our label.
    labels = [1] if task.n_classes == 1 else None
    several = task.kind == "multilabel"
    if several:
        truth: Any = targets.astype(int)
        found: Any = decisions.astype(int)
    else:
        truth, found = targets.argmax(axis=1), decisions.argmax(axis=1)
    scores = {"accuracy": sk.accuracy_score(truth, found)}
    for average in AVERAGES if several and not labels else AVERAGES[:3]:
        scores |= ratios(truth, found, average, labels)
    beta: Any = {"beta": 0.5, "average": "macro", "zero_division": 0, "labels": labels}
    scores["f0.5_macro"] = sk.fbeta_score(truth, found, **beta)
    if several:
        scores |= expected_of_several(truth, found, probabilities)
    else:
        scores |= expected_of_single(task, truth, found, probabilities)
    if task.kind == "binary":
        scores |= ratios(truth, found, "binary", None)
        questions: Any = (truth, probabilities[:, 1])
    else:
        questions = (targets.astype(int), probabilities)
    auc, precision = (
        np.atleast_1d(function(*questions, average=None))
        for function in (sk.roc_auc_score, sk.average_precision_score)
    )
    occurs = targets.any(axis=0) if task.kind == "multiclass" else slice(None)
    scores["average_precision"] = precision[occurs].mean()
    scores["roc_auc"] = np.nanmean(auc) if not np.isnan(auc).all() else np.nan
    return {name: float(value) for name, value in scores.items() if not np.isnan(value)}


def expected_of_several(truth: Any, found: Any, probabilities: Any) -> Scores:
    """What scikit-learn says of subsets of labels; a mean over all entries is one over rows and labels."""
    entries = truth.ravel(), probabilities.ravel()
    scores = {
        "hamming_loss": sk.hamming_loss(truth, found),
        "loss": sk.log_loss(*entries, labels=[0, 1]),
        "brier": sk.brier_score_loss(*entries, labels=[0, 1]),
    }
    if truth.shape[1] > 1:
        scores["coverage_error"] = sk.coverage_error(truth, probabilities)
    return scores


def expected_of_single(task: Task, truth: Any, found: Any, probabilities: Any) -> Scores:
    """What scikit-learn says where each row has one class."""
    labels = range(task.n_classes)
    scores = {
        "loss": sk.log_loss(truth, probabilities, labels=labels),
        "brier": sk.brier_score_loss(truth, probabilities, labels=labels),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, found),
        "mcc": sk.matthews_corrcoef(truth, found),
        "cohen_kappa": sk.cohen_kappa_score(truth, found),
    }
    if task.kind == "multiclass":
        for k in (2, 3):
            scores[f"top{k}_accuracy"] = sk.top_k_accuracy_score(truth, probabilities, k=k, labels=labels)
    return scores


def scored(task: Task, probabilities: NDArray[Any], targets: NDArray[Any]) -> Scores:
    """Our scores of every metric that scikit-learn has."""
    names = [name for name in MORE if task.kind in find_metric(name).kinds]
    chosen = dict.fromkeys([*default_metrics(task.kind), *names])
    return score(task, probabilities, targets, names=list(chosen))


@pytest.mark.parametrize("name", CASES)
def test_equals_scikit_learn(name: str) -> None:
    task, probabilities, targets = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of what is degenerate
        theirs = expected(task, probabilities, targets)
    ours = scored(task, probabilities, targets)
    # Reliability has tests of its own, and scikit-learn knows no means over rows of a single column.
    without = {"ece"} | ({"coverage_error"} if task.n_classes == 1 else set())
    if task.n_classes == 1:
        without |= {name for name in ours if name.endswith("_samples")}
    assert ours.keys() - without == theirs.keys()
    for key, value in theirs.items():
        assert ours[key] == pytest.approx(value, abs=1e-12), key


def test_default_scores_are_those_of_the_catalogue() -> None:
    task, probabilities, targets = CASES["multilabel"]
    assert tuple(score(task, probabilities, targets)) == default_metrics("multilabel")
    task, probabilities, targets = CASES["multiclass"]
    assert tuple(score(task, probabilities, targets)) == default_metrics("multiclass", 5)
    task, probabilities, targets = CASES["binary"]
    assert tuple(score(task, probabilities, targets)) == default_metrics("binary")


def test_calibration_error_is_that_of_the_reliability_diagram() -> None:
    for task, probabilities, targets in CASES.values():
        theirs = calibration_scores(task, probabilities, targets)
        ours = score(task, probabilities, targets, names=["ece", "brier", "loss"])
        assert list(ours.values()) == pytest.approx(list(theirs.values()), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "size"),
    [(name, 40) for name in CASES] + [("multiclass, few rows", 1), ("multilabel, three rows", 1)],
)
def test_pieces_equal_the_whole(name: str, size: int) -> None:
    task, probabilities, targets = CASES[name]
    metrics = Metrics(task)
    for start in range(0, len(targets), size):
        metrics.update(probabilities[start : start + size], targets[start : start + size])
    whole = score(task, probabilities, targets)
    assert metrics.compute() == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_each_label_equals_scikit_learn(name: str) -> None:
    task, probabilities, targets = CASES[name]
    metrics = Metrics(task)
    metrics.update(probabilities, targets)
    labels = [1] if task.n_classes == 1 else None
    theirs = sk.precision_recall_fscore_support(
        targets.astype(int),
        task.decide(probabilities).astype(int),
        labels=labels,
        average=None,
        zero_division=0,
    )
    ours = metrics.per_class()
    assert [row["label"] for row in ours] == list(task.labels)
    for key, values in zip(("precision", "recall", "f1", "rows"), theirs, strict=True):
        assert [row[key] for row in ours] == pytest.approx(list(values), abs=1e-12)


def test_no_rows_give_no_scores() -> None:
    assert Metrics(Multiclass(["a", "b"])).compute() == {}
    assert score(Multilabel(["a"]), np.zeros((0, 1)), np.zeros((0, 1))) == {}


def test_a_sure_mistake_has_a_finite_loss() -> None:
    found = score(Multiclass(["a", "b"]), np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    assert found["loss"] == pytest.approx(-np.log(np.finfo(float).eps))
    assert found["accuracy"] == 0.0


def test_single_precision_probabilities_count_in_double() -> None:
    task, probabilities, targets = CASES["multiclass"]
    low = score(task, probabilities.astype(np.float32), targets.astype(np.float32))
    assert low == pytest.approx(score(task, probabilities, targets), abs=1e-6)


NONE = [False, False]


def test_rows_out_of_scope_should_not_be_answered() -> None:
    task = Multiclass(["a", "b"])
    targets = np.array([[1, 0], [0, 1], [1, 0], [0, 0], [0, 0], [0, 0]])
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.6, 0.4], [0.7, 0.3], [0.55, 0.45]])
    decisions = np.array([[True, False], [True, False], NONE, NONE, [True, False], NONE])
    found = score(task, probabilities, targets, decisions)
    assert found["accuracy"] == pytest.approx(3 / 6)  # one of class a, and two out of scope
    assert found["in_scope_accuracy"] == pytest.approx(1 / 3)
    assert found["oos_recall"] == pytest.approx(2 / 3)
    assert found["oos_precision"] == pytest.approx(2 / 3)
    assert found["coverage"] == pytest.approx(3 / 6)
    assert found["selective_accuracy"] == pytest.approx(1 / 3)
    # "None of them" is a class of its own to what compares whole decisions.
    truth, said = [0, 1, 0, 2, 2, 2], [0, 0, 2, 2, 0, 2]
    assert found["mcc"] == pytest.approx(sk.matthews_corrcoef(truth, said))
    assert found["cohen_kappa"] == pytest.approx(sk.cohen_kappa_score(truth, said))
    assert found["f1_macro"] == pytest.approx(
        sk.f1_score(truth, said, labels=[0, 1], average="macro", zero_division=0)
    )
    # Of a row without a class no probability is right or wrong.
    inside = score(task, probabilities[:3], targets[:3], names=["loss", "brier", "roc_auc", "ece"])
    assert {name: found[name] for name in inside} == pytest.approx(inside)


def test_rows_not_answered_are_wrong_but_counted() -> None:
    task = Multiclass(["a", "b"])
    decisions = np.array([[True, False], [True, False], NONE])
    found = score(task, np.full((3, 2), 0.5), np.array([[1, 0], [0, 1], [0, 1]]), decisions)
    assert (found["accuracy"], found["coverage"], found["selective_accuracy"]) == pytest.approx(
        (1 / 3, 2 / 3, 0.5)
    )
    assert "oos_recall" not in found
    assert "coverage" not in score(task, np.full((3, 2), 0.5), np.array([[1, 0], [0, 1], [0, 1]]))


def test_what_has_no_value_is_left_out() -> None:
    task = Multilabel(["a", "b"])
    found = score(task, np.array([[0.2, 0.7]]), np.array([[0, 1]]), names=["roc_auc", "average_precision"])
    assert found == {"average_precision": 0.5}  # label a, which no row has, counts as 0
    nobody = np.zeros((2, 2))
    found = score(
        Binary(["a", "b"]), np.full((2, 2), 0.5), nobody, names=["loss", "in_scope_accuracy", "recall"]
    )
    assert found == {"recall": 0.0}


@pytest.mark.parametrize("kind", [Multiclass, Multilabel])
def test_soft_targets(kind: type[Task]) -> None:
    rng = np.random.default_rng(0)
    soft = rng.random((40, 3))
    soft /= soft.sum(axis=1, keepdims=True)
    probabilities = softmax(rng.standard_normal((40, 3)))
    task = kind(["a", "b", "c"])
    found = score(task, probabilities, soft)
    hard = score(task, probabilities, task.decide(soft))
    soft_scores = calibration_scores(task, probabilities, soft)
    assert [found["ece"], found["brier"], found["loss"]] == pytest.approx(
        list(soft_scores.values()), abs=1e-12
    )
    kept = found.keys() - {"ece", "brier", "loss"}
    assert {name: found[name] for name in kept} == pytest.approx({name: hard[name] for name in kept})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_no_number_is_named(value: float) -> None:
    metrics = Metrics(Multilabel(["joy", "fear"]))
    metrics.update(np.full((4, 2), 0.5), np.zeros((4, 2)))
    broken = np.full((4, 2), 0.5)
    broken[2, 1] = value
    with pytest.raises(
        DataError, match=rf"the score of row 6 for label 'fear' is {value}; scores must be finite"
    ):
        metrics.update(broken, np.zeros((4, 2)))


def test_shapes_must_fit() -> None:
    with pytest.raises(DataError, match=r"have the shapes \(4, 2\), \(3, 2\); each must have as many rows"):
        score(Multilabel(["a", "b"]), np.full((4, 2), 0.5), np.zeros((3, 2)))


def test_scores_can_be_asked_for_in_between() -> None:
    task, probabilities, targets = CASES["multilabel"]
    metrics = Metrics(task)
    metrics.update(probabilities[:100], targets[:100])
    assert metrics.compute() == pytest.approx(score(task, probabilities[:100], targets[:100]))
    metrics.update(probabilities[100:], targets[100:])
    assert metrics.compute() == pytest.approx(score(task, probabilities, targets))
