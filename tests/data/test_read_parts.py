"""Parts by config: fractions, counts, files, folds, groups, times and rows out of scope, and what cannot be."""
# ruff: noqa: E501 - the table holds whole sentences

import json
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude.config.load import parse_config
from etude.config.run import Config
from etude.data.read import Parts, read_parts
from etude.data.texts import TextLoader
from etude.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write(path: str, records: list[dict[str, Any]]) -> None:
    Path(path).write_text("".join(json.dumps(record) + "\n" for record in records))


def _rows(n: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"text": f"text {i}", "label": "abc"[i % 3], "user": f"u{i % 13}", "day": f"2024-01-{1 + i % 28:02}"}
        for i in range(start, start + n)
    ]


def read_all(config: Config) -> Parts:
    return read_parts(config, TextLoader(config.data, config.backbone, lambda: None))


def _read(**data: Any) -> Parts:
    return read_all(parse_config({"data": {"train": "train.jsonl", **data}}))


def _ids(parts: Parts) -> dict[str, list[int]]:
    return {name: part.ids.tolist() for name, part in parts.rows.items()}


HOW = {
    "fractions": {"validation": 0.2, "test": 0.1},
    "counts": {"validation": 18, "test": 9},
    "one of each": {"validation": 18, "test": 0.1},
}


@pytest.mark.parametrize("how", HOW.values(), ids=HOW.keys())
@pytest.mark.parametrize("by", [{}, {"group": "user"}, {"time": "day"}, {"group": "user", "time": "day"}])
def test_no_row_is_in_two_parts_and_none_is_lost(how: dict[str, Any], by: dict[str, str]) -> None:
    _write("train.jsonl", _rows(90))
    parts = _read(**how, **by)
    ids = _ids(parts)
    assert list(ids) == ["train", "validation", "test"]
    assert sorted(chain(*ids.values())) == list(range(90))
    assert parts.rows["test"].content.shown() == [f"text {i}" for i in ids["test"]]
    if not by.get("group"):
        assert [len(rows) for rows in ids.values()] == [63, 18, 9]
    for one, other in combinations(parts.rows.values(), 2):
        if by == {"group": "user"}:
            assert set(one.groups or ()).isdisjoint(other.groups or ())
    if by == {"time": "day"}:
        days = {name: [i % 28 for i in rows] for name, rows in ids.items()}
        assert max(days["train"]) <= min(days["validation"]) <= max(days["validation"]) <= min(days["test"])
        assert parts.notes[0] == "the test part holds the 9 latest rows by 'day'"


def test_a_test_part_does_not_change_with_the_validation_part() -> None:
    _write("train.jsonl", _rows(90))
    drawn = [_ids(_read(test=0.1, **how))["test"] for how in ({}, {"validation": False}, {"folds": 4})]
    assert drawn[0] == drawn[1] == drawn[2]


@pytest.mark.parametrize("by", [{}, {"group": "user"}])
def test_every_row_but_the_test_parts_is_validated_once_over_the_folds(by: dict[str, str]) -> None:
    _write("train.jsonl", _rows(90))
    found = [_ids(_read(test=9, folds=4, fold=fold, **by)) for fold in range(4)]
    assert all(ids["test"] == found[0]["test"] for ids in found)
    assert sorted(chain(found[0]["test"], *(ids["validation"] for ids in found))) == list(range(90))
    assert all(len(set(chain(*ids.values()))) == 90 for ids in found)


def test_folds_in_time_train_on_the_past() -> None:
    _write("train.jsonl", [{**row, "day": i} for i, row in enumerate(_rows(50))])
    parts = _read(folds=4, fold=1, time="day", test=10)
    assert _ids(parts) == {
        "train": list(range(16)),
        "validation": list(range(16, 24)),
        "test": list(range(40, 50)),
    }
    assert parts.notes == [
        "the test part holds the 10 latest rows by 'day'",
        "the validation part is fold 1 of 0 to 3",
    ]


def test_files_that_share_a_group_are_refused() -> None:
    _write("train.jsonl", _rows(13))
    _write("test.jsonl", [{**row, "user": "new"} for row in _rows(3)] + [{**_rows(1)[0], "user": "u5"}])
    with pytest.raises(DataError) as raised:
        _read(test="test.jsonl", group="user", validation=False)
    assert str(raised.value) == (
        "1 group(s) of data.group = 'user', as 'u5', have rows both in the train part (train.jsonl) and in the "
        "test part (test.jsonl); remove them from one, or leave data.group out"
    )
    _write("test.jsonl", [{"text": "x", "label": "a"}])
    assert set(_read(test="test.jsonl", group="user").rows) == {"train", "validation", "test"}


def test_labels_of_a_single_row_are_told() -> None:
    _write("train.jsonl", [*_rows(30), {"text": "x", "label": "d", "user": "u", "day": "2024-01-01"}])
    parts = _read()
    assert parts.lonely == ["d"]
    assert 30 in parts.rows["train"].ids


def _scoped(n: int, start: int = 0) -> list[dict[str, Any]]:
    return [{**row, "label": "none" if i % 5 == 0 else row["label"]} for i, row in enumerate(_rows(n, start))]


def test_rows_out_of_scope_are_measured_and_not_learned() -> None:
    _write("train.jsonl", _scoped(100))
    _write("test.jsonl", _scoped(10, start=200))
    parts = _read(out_of_scope="none", validation=0.2, test="test.jsonl")
    assert parts.task.labels == ("a", "b", "c")
    train, validation, test = (part.targets(parts.task) for part in parts.rows.values())
    assert [len(part) for part in (train, validation, test)] == [64, 20, 10]
    assert train.sum(axis=1).tolist() == [1] * 64
    assert (~validation.any(axis=1)).sum() == 4
    assert (~test.any(axis=1)).tolist() == [True, *[False] * 4] * 2
    assert parts.notes == [
        "16 training rows of the label 'none' are out of scope and not learned, and 4 validation rows of it "
        "are rows that the model should not answer"
    ]
    assert len(_read(out_of_scope="none", limit=10).rows["train"]) == 10


def test_rows_out_of_scope_may_be_in_the_test_file_only() -> None:
    _write("train.jsonl", _rows(30))
    _write("test.jsonl", _scoped(10, start=200))
    parts = _read(out_of_scope="none", test="test.jsonl")
    assert (~parts.rows["test"].targets(parts.task).any(axis=1)).sum() == 2


def test_a_number_or_a_column_may_be_out_of_scope() -> None:
    _write("train.jsonl", [{**row, "label": "abc".index(row["label"])} for row in _rows(30)])
    assert _read(out_of_scope=1).task.labels == ("0", "2")
    _write(
        "train.jsonl", [{"text": "x", "a": i % 3 == 0, "b": i % 3 == 1, "c": i % 3 == 2} for i in range(30)]
    )
    config = {"data": {"train": "train.jsonl", "labels": ["c", "b", "a"], "out_of_scope": "b"}}
    assert read_all(parse_config(config | {"task": "multiclass"})).task.labels == ("c", "a")


def test_a_label_out_of_scope_that_cannot_be() -> None:
    _write("train.jsonl", _scoped(30))
    with pytest.raises(
        DataError,
        match=r"^data.out_of_scope = 'nones' is the label of no row of train.jsonl; did you mean 'none'\?; name",
    ):
        _read(out_of_scope="nones")
    _write("train.jsonl", [{"text": f"text {i}", "label": ["a", "b"][: i % 3]} for i in range(30)])
    with pytest.raises(
        DataError, match=r"^data.out_of_scope = 'a' is for tasks of one label in each row; in this multilabel"
    ):
        _read(out_of_scope="a")
    _write("train.jsonl", [{"text": f"text {i}", "label": {"a": 0.5, "b": 0.5}} for i in range(30)])
    with pytest.raises(
        DataError, match=r"^data.out_of_scope = 'a' needs certain labels and train.jsonl, col"
    ):
        _read(out_of_scope="a")


def test_training_rows_that_are_all_out_of_scope() -> None:
    _write("train.jsonl", [{"text": f"text {i}", "label": "none", "day": i} for i in range(6)])
    late = [{"text": "late", "label": label, "day": 9} for label in "ab"]
    _write("train.jsonl", [{"text": f"text {i}", "label": "none", "day": i} for i in range(6)] + late)
    with pytest.raises(
        DataError, match=r"^all 6 training rows have the label data.out_of_scope = 'none', and"
    ):
        _read(out_of_scope="none", time="day", validation=2)


def test_a_label_that_training_never_saw_is_named_beside_rows_out_of_scope() -> None:
    _write("train.jsonl", _scoped(30))
    _write("test.jsonl", [*_scoped(3), {"text": "x", "label": "z"}])
    with pytest.raises(
        DataError, match=r"^test.jsonl, line 4, column 'label' holds the label 'z', which 1 row"
    ):
        _read(out_of_scope="none", test="test.jsonl")


NONSENSE = {
    "a fold of none": ({"fold": 1}, "data: fold = 1 needs folds, the number of them; set folds, or remove fold"),
    "no such fold": ({"folds": 3, "fold": 3}, "data: fold = 3 is none of 3 folds, which are counted from 0; give at most 2"),
    "folds and a file": ({"folds": 3, "validation": "v.csv"}, 'data: folds = 3 takes the validation part out of the training file, and validation = "v.csv" says otherwise; remove one of the two'),
    "folds and none": ({"folds": 3, "validation": False}, "data: folds = 3 takes the validation part out of the training file, and validation = false says"),
    "one fold": ({"folds": 1}, "data.folds is 1 and must be a whole number of at least 2"),
    "time for files": ({"time": "day", "validation": "v.csv", "test": "t.csv"}, "data: time = 'day' says which rows of the training file are held out, and no part is taken out of it; give"),
    "groups of labels": ({"group": "label"}, "data: group names 'label', the column of the label; name another column"),
    "time by text": ({"time": "text"}, "data: time names 'text', the column of the text; name another column"),
    "a fraction of all": ({"test": 1.0}, "data.test is 1.0 and must be"),
    "no row": ({"test": 0}, "data.test is 0 and must be"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "words"), NONSENSE.values(), ids=NONSENSE.keys())
def test_settings_that_make_no_sense(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        _read(**data)
    assert str(raised.value).startswith(words)


def test_columns_that_are_not_there() -> None:
    _write("train.jsonl", _rows(9))
    with pytest.raises(DataError, match=r"^train.jsonl has no column 'users'; did you mean 'user'\?"):
        _read(group="users")
    with pytest.raises(DataError, match=r"^train.jsonl has no column 'days'; did you mean 'day'\?"):
        _read(time="days")


def test_parts_that_leave_nothing_to_train_on() -> None:
    _write("train.jsonl", _rows(10))
    with pytest.raises(
        DataError, match=r"^data.validation = 5 leaves none of the 5 rows that are left of 10 to"
    ):
        _read(test=5, validation=5)
    with pytest.raises(
        DataError, match=r"^data.test = 0.01 of 10 rows is no row at all; give a larger fraction"
    ):
        _read(test=0.01)
    with pytest.raises(DataError, match=r"^10 rows cannot make 11 folds; give at most as many as rows"):
        _read(folds=11)


def test_weights_and_numbers_follow_their_rows() -> None:
    _write("train.jsonl", [{**row, "w": i + 1, "n": -i} for i, row in enumerate(_rows(30))])
    for part in _read(weight="w", numeric=["n"], test=0.2).rows.values():
        assert np.array_equal(part.weights, part.ids + 1)
        assert np.array_equal(part.content.numbers[:, 0], -part.ids)
