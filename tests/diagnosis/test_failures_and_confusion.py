"""Rows worth reading, wrong labels that were planted, and pairs of labels that are mixed up."""

from typing import Any

import numpy as np
import pytest

from etude.diagnosis.confusion import Pair, confused_pairs, confusion, confusion_matrix
from etude.diagnosis.evidence import Evidence
from etude.diagnosis.failures import (
    TEXT_LENGTH,
    confidences,
    doubtful_labels,
    failures,
    find_failures,
    margins,
    row_losses,
    text_of,
)


def test_losses_of_one_label_and_of_rows_out_of_scope(make: Any) -> None:
    found = row_losses(make.part("ab-", "aaa", sure=0.8))
    assert found == pytest.approx(-np.log([0.8, 0.1, 0.2]), rel=1e-5)


def test_losses_of_subsets_are_means_over_labels(make: Any) -> None:
    p = np.array([[0.9, 0.2, 0.5]])
    found = row_losses(make.subsets(["a"], ["a"], p))
    assert found == pytest.approx(-(np.log(0.9) + np.log(0.8) + np.log(0.5)) / 3, rel=1e-5)


def test_certain_mistakes_and_no_numbers_have_a_finite_loss(make: Any) -> None:
    part = make.part("ab", "aa", sure=1.0)
    part.probabilities[1] = np.nan
    assert np.isfinite(row_losses(part)).all()
    assert row_losses(part)[1] > 20


def test_confidence_and_margin(make: Any) -> None:
    part = make.part("a", "a", sure=0.7)
    assert confidences(part) == pytest.approx(0.7)
    assert margins(part) == pytest.approx(0.55)
    several = make.subsets(["ab"], ["a"], np.array([[0.7, 0.4, 0.1]]))
    assert confidences(several) == pytest.approx(0.6)
    assert margins(several) == pytest.approx(0.3)


def test_wrong_labels_are_found(make: Any) -> None:
    truth = list("abc" * 30)
    given = [*truth]
    for row in (4, 31, 77):
        given[row] = "b" if truth[row] != "b" else "c"
    assert sorted(doubtful_labels(make.part(given, truth, sure=0.95)).tolist()) == [4, 31, 77]
    assert len(doubtful_labels(make.part(truth, truth))) == 0


def test_wrong_subsets_are_found(make: Any) -> None:
    truth = ["a", "ab", "bc", ""] * 20
    given = [*truth]
    given[5], given[43] = "a", "b"
    assert sorted(doubtful_labels(make.subsets(given, truth)).tolist()) == [5, 43]


def test_rows_are_listed_by_kind(make: Any) -> None:
    part = make.part("aabbcc", "abbbca", sure=[0.6, 0.95, 0.9, 0.8, 0.7, 0.92])
    found = find_failures(part, shown=2)
    assert [row.row for row in found["confident_mistakes"]] == [101, 105]
    assert found["confident_mistakes"][0]._asdict() == {
        "row": 101, "text": "row 1", "labels": ["a"], "predicted": ["b"], "value": pytest.approx(0.95),
    }  # fmt: skip
    assert [row.row for row in found["highest_losses"]] == [101, 105]
    assert [row.row for row in found["smallest_margins"]] == [100, 104]


def test_long_texts_are_cut() -> None:
    assert len(text_of(["x" * 100_000], 0)) == TEXT_LENGTH + 2
    assert text_of([], 3) == ""


def test_the_validation_part_is_read_and_not_the_test_part(make: Any) -> None:
    parts = {"test": make.accuracy(0.5), "validation": make.accuracy(0.97, sure=0.95)}
    found = failures(Evidence(make.task(), parts=parts))
    assert found.evidence["part"] == "validation"
    assert found.verdict == "look"
    assert "12 of 400 rows of the validation part are wrong (3.0%), 12 of them with a" in found.sentence
    assert failures(Evidence(make.task())).verdict == "unknown"
    assert failures(Evidence(make.task(), parts={"validation": make.accuracy(0.995)})).verdict == "good"


def test_the_matrix_counts_true_labels_down(make: Any) -> None:
    names, matrix = confusion_matrix(make.part("aabc", "abbc"))
    assert names == ["a", "b", "c"]
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_rows_out_of_scope_and_without_an_answer_have_a_place(make: Any) -> None:
    names, matrix = confusion_matrix(make.part("aa--", "a-a-"))
    assert names[-1] == "(none)"
    assert matrix[0].tolist() == [1, 0, 0, 1]
    assert matrix[3].tolist() == [1, 0, 0, 1]
    assert confused_pairs(make.part("aa--", "a-a-"))[0] == Pair("(none)", "a", 1, 0.5)


def test_subsets_are_confused_where_one_is_missed_and_another_added(make: Any) -> None:
    part = make.subsets(["ab", "ab", "c", "a"], ["ac", "ac", "c", ""])
    _, matrix = confusion_matrix(part)
    assert matrix.tolist() == [[2, 0, 0], [0, 0, 2], [0, 0, 1]]
    assert confused_pairs(part) == [Pair("b", "c", 2, 1.0)]


@pytest.mark.parametrize(
    ("truth", "said", "verdict", "words"),
    [
        ("a" * 20 + "b" * 20, "a" * 10 + "c" * 10 + "b" * 19 + "a", "look", "One pair stands out: 'a' was"),
        ("abc" * 8, "abc" * 6 + "bca" * 2, "good", "No pair stands out; the most frequent one"),
        ("abc", "abc", "good", "No label of the validation part was taken for another."),
        ("abc", "acb", "good", "No pair stands out"),
    ],
)  # fmt: skip
def test_pairs_that_stand_out(make: Any, truth: str, said: str, verdict: str, words: str) -> None:
    found = confusion(Evidence(make.task(), parts={"validation": make.part(truth, said)}))
    assert found.verdict == verdict
    assert words in found.sentence


def test_single_labels_that_are_missed_are_no_pair(make: Any) -> None:
    parts = {"validation": make.subsets(["a", "b"], ["", "b"])}
    found = confusion(Evidence(make.task("multilabel"), parts=parts))
    assert found.sentence == (
        "No label of the validation part was taken for another; its 1 mistakes miss or add single labels."
    )
