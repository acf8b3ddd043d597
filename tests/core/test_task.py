"""Tasks: labels to targets, logits to probabilities, probabilities to labels."""

import numpy as np
import pytest
import torch

from etude.core.task import Binary, Multiclass, Multilabel, Task, make_task
from etude.errors import DataError

LABELS = ["ham", "spam", "news"]


def test_encodes_one_label_and_several() -> None:
    assert Multiclass(LABELS).encode(["spam", "ham"]).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert Multilabel(LABELS).encode([["news", "ham"], [], ["spam"]]).tolist() == [
        [1, 0, 1], [0, 0, 0], [0, 1, 0],
    ]  # fmt: skip
    assert Multiclass(LABELS).encode([]).shape == (0, 3)


def test_an_unknown_label_names_the_closest() -> None:
    with pytest.raises(DataError, match=r"label 'spem' does not occur .*; did you mean 'spam'\?"):
        Multiclass(LABELS).encode(["spem"])


@pytest.mark.parametrize(
    ("kind", "labels", "words"),
    [
        ("multiclass", ["a"], r"1 label\(s\) \(a\).*multiclass task needs at least 2"),
        ("multilabel", [], r"0 label\(s\) \(none\).*needs at least 1"),
        ("binary", LABELS, r'task = "binary" needs two labels and the training part has 3'),
    ],
)
def test_too_few_or_too_many_labels(kind, labels: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        make_task(kind, labels)


@pytest.mark.parametrize("task", [Binary(LABELS[:2]), Multiclass(LABELS)])
def test_single_label_tasks_decide_for_the_most_probable(task: Task) -> None:
    logits = torch.randn(20, task.n_classes, generator=torch.Generator().manual_seed(0))
    probabilities = task.probabilities(logits)
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(20))
    decided = task.decide(probabilities.numpy())
    assert (decided.sum(axis=1) == 1).all()
    assert (decided.argmax(axis=1) == logits.argmax(dim=1).numpy()).all()


def test_equal_probabilities_still_give_one_label() -> None:
    assert Multiclass(LABELS).decide(np.full((1, 3), 1 / 3)).tolist() == [[True, False, False]]


def test_multilabel_decides_at_one_half() -> None:
    task = Multilabel(LABELS)
    probabilities = task.probabilities(torch.tensor([[0.0, -0.1, 3.0], [-1.0, -1.0, -1.0]]))
    decided = task.decide(probabilities.numpy())
    assert decided.tolist() == [[True, False, True], [False, False, False]]
    assert task.names(decided) == [["ham", "news"], []]


def test_decisions_undo_the_encoding() -> None:
    for task, rows in (
        (Multiclass(LABELS), [["news"], ["ham"]]),
        (Multilabel(LABELS), [["ham", "news"], []]),
    ):
        assert task.names(task.decide(task.encode(rows))) == rows
