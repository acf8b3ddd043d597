"""Metrics against scikit-learn, on random and on degenerate cases, in one piece and in many."""

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from etude.core.task import Binary, Multiclass, Multilabel, Task
from etude.evaluation.metrics import Metrics, Scores, score

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
}


def expected(task: Task, probabilities: NDArray[Any], targets: NDArray[Any]) -> Scores:
    """The same scores by scikit-learn."""
    decisions = task.decide(probabilities)
    # A column alone is a yes-or-no question to scikit-learn, of which the yes is our label.
    labels: Any = {"labels": [1]} if task.n_classes == 1 else {}
    if task.kind == "multilabel":
        truth: Any = targets.astype(int)
        found: Any = decisions.astype(int)
    else:
        truth, found = targets.argmax(axis=1), decisions.argmax(axis=1)
    scores = {"accuracy": sk.accuracy_score(truth, found)}
    averages = {"f1": sk.f1_score, "precision": sk.precision_score, "recall": sk.recall_score}
    for name, function in averages.items():
        scores[f"{name}_macro"] = function(truth, found, average="macro", zero_division=0, **labels)
    for average in ("micro", "weighted"):
        scores[f"f1_{average}"] = sk.f1_score(truth, found, average=average, zero_division=0, **labels)
    if task.kind == "multilabel":
        scores["hamming_loss"] = sk.hamming_loss(truth, found)
        losses = [
            sk.log_loss(truth[:, c], probabilities[:, c], labels=[0, 1]) for c in range(targets.shape[1])
        ]
        scores["loss"] = np.mean(losses)
    else:
        scores["loss"] = sk.log_loss(truth, probabilities, labels=range(task.n_classes))
        scores["balanced_accuracy"] = sk.balanced_accuracy_score(truth, found)
        scores["mcc"] = sk.matthews_corrcoef(truth, found)
    if task.kind == "binary":
        for name, function in averages.items():
            scores[name] = function(truth, found, zero_division=0)
    return {name: float(value) for name, value in scores.items()}


@pytest.mark.parametrize("name", CASES)
def test_equals_scikit_learn(name: str) -> None:
    task, probabilities, targets = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of what is degenerate
        theirs = expected(task, probabilities, targets)
    ours = score(task, probabilities, targets)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert ours[key] == pytest.approx(value, abs=1e-9), key


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [1, 7])
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
