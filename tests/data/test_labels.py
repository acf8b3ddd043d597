"""Labels: every way to write them, their order, and every fault with its place."""

from typing import Any

import pytest

from etude.data.labels import Labels, build_task, check_part, infer_kind, read_labels, sort_labels
from etude.data.table import Table
from etude.errors import DataError


def _table(path: str = "train.csv", **columns: list[Any]) -> Table:
    n_rows = len(next(iter(columns.values())))
    return Table(path, columns, range(1, n_rows + 1))


def _read(cells: list[Any], separator: str | None = None, like: Labels | None = None) -> Labels:
    return read_labels(
        _table("train.csv" if like is None else "test.csv", label=cells), "label", separator, like=like
    )


@pytest.mark.parametrize(
    ("cells", "kind", "order"),
    [
        (["spam", "ham", "spam"], "binary", ("ham", "spam")),
        (["negative", "positive"], "binary", ("negative", "positive")),
        ([" yes", "no ", "yes"], "binary", ("no", "yes")),
        ([True, False], "binary", ("false", "true")),
        ([1, 0, 1], "binary", ("0", "1")),
        (["1", "-1"], "binary", ("-1", "1")),
        (["10", "9", "2"], "multiclass", ("2", "9", "10")),
        ([10, 9, 2], "multiclass", ("2", "9", "10")),
        ([10.0, 9.0, 2.0], "multiclass", ("2", "9", "10")),
        (["b", "a", "10"], "multiclass", ("10", "a", "b")),
    ],
)
def test_one_label_in_each_row(cells: list[Any], kind: str, order: tuple[str, ...]) -> None:
    labels = _read(cells)
    task = build_task("auto", labels)
    assert labels.form == "single"
    assert task.kind == kind == infer_kind(labels)
    assert task.labels == order


@pytest.mark.parametrize(
    ("cells", "separator", "form", "order", "names"),
    [
        ([["b", "a", "b"], []], None, "names", ("a", "b"), [["b", "a"], []]),
        ([[10, 2], [2]], None, "names", ("2", "10"), [["10", "2"], ["2"]]),
        ([[0], [1], [0, 1]], None, "names", ("0", "1"), [["0"], ["1"], ["0", "1"]]),
        ([[0, 1, 0], [1, 1, 0]], None, "indicators", ("0", "1", "2"), [["1"], ["0", "1"]]),
        ([[0, 1], [1, 0]], None, "indicators", ("0", "1"), [["1"], ["0"]]),
        ([[True, False, True]], None, "indicators", ("0", "1", "2"), [["0", "2"]]),
        (["b|a", "", "a| "], "|", "separated", ("a", "b"), [["b", "a"], [], ["a"]]),
        (['["b", "a"]', "[]"], None, "names", ("a", "b"), [["b", "a"], []]),
        (["[0, 1, 1]", "[0, 0, 0]"], None, "indicators", ("0", "1", "2"), [["1", "2"], []]),
    ],
)
def test_several_labels_in_each_row(
    cells: list[Any], separator: str | None, form: str, order: tuple[str, ...], names: list[list[str]]
) -> None:
    labels = _read(cells, separator)
    task = build_task("auto", labels)
    assert labels.form == form
    assert labels.names == names
    assert task.kind == "multilabel"
    assert task.labels == order


def test_columns_of_zeros_and_ones_keep_their_order() -> None:
    table = _table(z=[0, 1, 1], a=["1", "0", "0"], m=[True, False, True])
    labels = read_labels(table, ["z", "a", "m"])
    assert labels.names == [["a", "m"], ["z"], ["z", "m"]]
    assert build_task("auto", labels).labels == ("z", "a", "m")


def test_one_hot_lists_make_a_multiclass_task() -> None:
    labels = _read([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    task = build_task("multiclass", labels)
    assert task.kind == "multiclass"
    assert task.encode(labels.names).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_sorting_is_numeric_only_where_all_are_integers() -> None:
    assert sort_labels(["10", "9"]) == ("9", "10")
    assert sort_labels(["10", "9", "x"]) == ("10", "9", "x")


PLACE = "train.csv, row 2, column 'label'"


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["a", None], f"{PLACE} has no label; give it one, or remove the row"),
        (["a", " "], f"{PLACE} has no label"),
        ([0.0, float("nan")], f"{PLACE} has no label"),
        ([["a"], None], f"{PLACE} has no label"),
        (
            ["a", 1],
            rf"{PLACE} holds a number \(1\) and the rows before it hold a string; write all labels in",
        ),
        ([1, True], rf"{PLACE} holds a boolean \(True\) and the rows before it hold a number"),
        (["a", ["b"]], rf"{PLACE} holds a list \(\['b'\]\) and the rows before it hold a string"),
        (
            [["a"], ["b", 1]],
            rf"{PLACE} holds a list with a number \(1\) and the items before it are a string",
        ),
        ([1, 0.5], f"{PLACE} holds 0.5, which is no label; labels are names, integers or true and false"),
        (
            [{"a": 1}, {"a": 2}],
            f"{PLACE} gives the label 'a' the share 2, and a number from 0 to 1 is expected",
        ),
        ([["a"], [""]], f"{PLACE} holds '', which is no label"),
        ([[0, 0, 1], [1, 0]], f"{PLACE} holds a list of 2 zeros and ones, and 3 are expected, one for each"),
        ([[0, 0, 1], [1, 0, 2]], f"{PLACE} holds 2, and 0 or 1 is expected"),
        (['["a"]', "['b']"], rf"{PLACE} holds \"\['b'\]\", which is no JSON list; write it as"),
    ],
)
def test_faulty_cells(cells: list[Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        _read(cells)


def test_the_wrong_length_is_that_of_the_fewest_rows() -> None:
    with pytest.raises(DataError, match=r"row 1, column 'label' holds a list of 2 zeros and ones, and 3 are"):
        _read([[0, 0], [0, 1, 0], [1, 0, 0]])


def test_faulty_columns_of_zeros_and_ones() -> None:
    with pytest.raises(DataError, match=r"train.csv, row 2, column 'b' holds '2', and 0 or 1 is expected"):
        read_labels(_table(a=["0", "1"], b=["1", "2"]), ["a", "b"])
    with pytest.raises(DataError, match=r"train.csv, row 1, column 'b' has no label"):
        read_labels(_table(a=["0", "1"], b=["", "1"]), ["a", "b"])
    with pytest.raises(DataError, match=r"has no column 'c'; its columns are a, b"):
        read_labels(_table(a=["0"], b=["1"]), ["a", "c"])
    with pytest.raises(DataError, match=r"data.labels is an empty list; name the labels column"):
        read_labels(_table(a=["0"]), [])


def test_tasks_that_the_labels_cannot_make() -> None:
    with pytest.raises(DataError, match=r"column 'label' holds only one class, 'a', in all 2 rows; a class"):
        build_task("auto", _read(["a", "a"]))
    with pytest.raises(DataError, match=r"column 'label' holds no label in any row; check the column"):
        build_task("auto", _read([[], []]))
    with pytest.raises(DataError, match=r'task = "multilabel" needs lists of labels and train.csv, column'):
        build_task("multilabel", _read(["a", "b"]))
    with pytest.raises(
        DataError, match=r'"multiclass" needs one label in each row and train.csv, row 2, col'
    ):
        build_task("multiclass", _read([["a"], ["a", "b"]]))
    with pytest.raises(DataError, match=r'"binary" needs two labels and the training part has 3; use task ='):
        build_task("binary", _read(["a", "b", "c"]))


def test_labels_that_training_never_saw() -> None:
    train = _read(["sports", "politics"])
    task = build_task("auto", train)
    test = _read(["sports", "sport", "sport", "weather"], like=train)
    with pytest.raises(
        DataError,
        match=r"test.csv, row 2, column 'label' holds the label 'sport', which 2 row\(s\) of this part have "
        r"and train.csv never has \(and 1 other label\(s\) as well\); did you mean 'sports'\?; correct the",
    ):
        check_part(test, task, "train.csv")
    check_part(_read(["politics"], like=train), task, "train.csv")


def test_another_part_must_fit_the_task_and_the_form() -> None:
    train = _read([["a"], ["b"]])
    with pytest.raises(
        DataError, match=r"test.csv, column 'label' holds one label in each row and train.csv"
    ):
        _read(["a", "b"], like=train)
    assert _read([[], []], like=train).names == [[], []]
    one_hot = _read([[0, 1, 0], [1, 0, 0]])
    task = build_task("multiclass", one_hot)
    with pytest.raises(
        DataError, match=r"test.csv, row 1, column 'label' holds a list of 2 zeros .* and 3 are"
    ):
        _read([[0, 1]], like=one_hot)
    with pytest.raises(DataError, match=r'"multiclass" needs one label in each row and test.csv, row 1'):
        check_part(_read([[0, 0, 0]], like=one_hot), task, "train.csv")
    separated = _read(["a|b", "b"], "|")
    with pytest.raises(
        DataError, match=r"holds lists of labels and train.csv holds cells of separated labels"
    ):
        _read([["a"], ["b"]], "|", like=separated)
