"""Soft labels: shares by name and lists of shares, checked row by row."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etude.core.task import Multiclass
from etude.data.inspect import inspect_file
from etude.data.labels import build_task, check_part, encode_labels, read_labels
from etude.data.sources import read_table
from etude.data.splits import split
from etude.data.table import Table
from etude.errors import DataError
from etude.evaluation.metrics import score


def table(*cells: Any, path: str = "votes.jsonl") -> Table:
    return Table(path, {"label": list(cells)}, range(1, len(cells) + 1), "line")


PLACE = "votes.jsonl, line 2, column 'label'"
MAPPINGS = ({"no": 0.25, "yes": 0.75}, {"yes": 1.0}, {"maybe": 0.5, "no": 0.5})
TARGETS = [[0.0, 0.25, 0.75], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]]


def test_mappings_become_targets_in_the_order_of_the_labels() -> None:
    labels = read_labels(table(*MAPPINGS), "label")
    task = build_task("auto", labels)
    assert (task.kind, task.labels) == ("multiclass", ("maybe", "no", "yes"))
    assert encode_labels(labels, task).tolist() == TARGETS
    assert encode_labels(labels, task, np.array([2, 0])).tolist() == [TARGETS[2], TARGETS[0]]


def test_json_in_a_csv_cell_and_lists_say_the_same() -> None:
    cells = ['{"no": 0.25, "yes": 0.75}', ' {"yes": 1}', '{"maybe": 0.5, "no": 0.5}']
    labels = read_labels(table(*cells), "label")
    assert encode_labels(labels, build_task("auto", labels)).tolist() == TARGETS
    lists = read_labels(table(*TARGETS), "label")
    task = build_task("auto", lists)
    assert (task.kind, task.labels) == ("multiclass", ("0", "1", "2"))
    assert encode_labels(lists, task).tolist() == TARGETS


@pytest.mark.parametrize(
    "kind",
    [
        pa.struct([(name, pa.float64()) for name in ("maybe", "no", "yes")]),
        pa.map_(pa.string(), pa.float64()),
    ],
)
def test_parquet_structs_and_maps(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "votes.parquet"
    cells = [list(m.items()) if pa.types.is_map(kind) else m for m in MAPPINGS]
    pq.write_table(pa.table({"text": ["a", "b", "c"], "label": pa.array(cells, kind)}), path)
    labels = read_labels(read_table(str(path), role="train"), "label")
    assert encode_labels(labels, build_task("auto", labels)).tolist() == TARGETS


def test_two_labels_are_binary_and_the_multilabel_task_must_be_named() -> None:
    assert build_task("auto", read_labels(table({"a": 0.4, "b": 0.6}), "label")).kind == "binary"
    labels = read_labels(table({"a": 0.9, "b": 0.6}, {}), "label")
    task = build_task("multilabel", labels)
    assert encode_labels(labels, task).tolist() == [[np.float32(0.9), np.float32(0.6)], [0.0, 0.0]]
    with pytest.raises(DataError, match=r"line 1, column 'label' holds shares that sum to 1.5, and those of"):
        build_task("auto", labels)


def test_rounded_shares_sum_to_one_exactly() -> None:
    labels = read_labels(table({"a": 0.333, "b": 0.333, "c": 0.333}, {"a": 0.3335, "b": 0.6674}), "label")
    targets = encode_labels(labels, build_task("auto", labels))
    np.testing.assert_allclose(targets.sum(axis=1), 1.0, atol=1e-7)
    assert targets[0].tolist() == [np.float32(1 / 3)] * 3


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (
            {"a": 0.5, "b": 0.498},
            f"{PLACE} holds shares that sum to 0.998, and those of one row must sum to 1",
        ),
        ({"a": 0.5, "b": 0.502}, f'{PLACE} holds shares that sum to 1.002, .*or set task = "multilabel"'),
        ({}, f"{PLACE} holds shares that sum to 0, and"),
        ({"a": -0.1, "b": 1.1}, f"{PLACE} gives the label 'a' the share -0.1, and a number from 0 to 1 is"),
        ({"a": "1"}, f"{PLACE} gives the label 'a' the share '1', and a number"),
        ({"a": True}, f"{PLACE} gives the label 'a' the share True, and a number"),
        ({"a": float("nan")}, f"{PLACE} gives the label 'a' the share nan, and a number"),
        ({"a": 0.5, " a": 0.5}, f"{PLACE} gives the label 'a' twice; name each once"),
        ({" ": 1.0}, f"{PLACE} gives the label '' without a name; name each once"),
        (
            "a",
            f"{PLACE} holds a string .* and the rows before it hold a mapping; write all labels in one way",
        ),
        (None, f"{PLACE} has no label"),
    ],
)
def test_faulty_shares(cell: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        build_task("auto", read_labels(table({"a": 0.5, "b": 0.5}, cell), "label"))


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ([0.5, 0.25, 0.25], f"{PLACE} holds a list of 3 shares, and 2 are expected, one for each label"),
        ([0.5, 0.4], f"{PLACE} holds shares that sum to 0.9, and"),
        ([1.5, -0.5], f"{PLACE} gives the label '0' the share 1.5, and"),
    ],
)
def test_faulty_lists(cell: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        build_task("auto", read_labels(table([0.5, 0.5], cell, [0.5, 0.5]), "label"))


def test_other_parts_may_be_certain_but_know_no_other_label() -> None:
    train = read_labels(table(*MAPPINGS), "label")
    task = build_task("auto", train)
    hard = read_labels(table("no", "yes", path="test.jsonl"), "label", like=train)
    check_part(hard, task, "votes.jsonl")
    assert encode_labels(hard, task).tolist() == [[0, 1, 0], [0, 0, 1]]
    other = read_labels(table({"no": 0.5, "yess": 0.5}, path="test.jsonl"), "label", like=train)
    with pytest.raises(DataError, match=r"test.jsonl, line 1, .* holds the label 'yess'.*did you mean 'yes'"):
        check_part(other, task, "votes.jsonl")
    uneven = read_labels(table({"no": 0.5}, path="test.jsonl"), "label", like=train)
    with pytest.raises(DataError, match=r"test.jsonl, line 1, .* sum to 0\.5"):
        check_part(uneven, task, "votes.jsonl")
    lists = read_labels(table(*TARGETS), "label")
    certain = read_labels(table([0, 1, 0]), "label", like=lists)
    assert encode_labels(certain, build_task("auto", lists)).tolist() == [[0, 1, 0]]
    with pytest.raises(DataError, match=r"holds shares by label and .* holds one label in each row"):
        read_labels(table(*MAPPINGS), "label", like=hard_training())


def hard_training() -> Any:
    return read_labels(table("no", "yes"), "label")


def test_a_split_counts_the_likeliest_label() -> None:
    targets = np.array([[0.9, 0.1]] * 8 + [[0.4, 0.6]] * 4, dtype=np.float32)
    _, held_out = split(Multiclass(["a", "b"]), targets, 3, seed=0)
    assert targets[held_out].argmax(axis=1).tolist() == [0, 0, 1]


def test_scores_take_the_likeliest_for_the_truth_and_the_loss_is_the_cross_entropy() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    targets = np.array([[0.4, 0.35, 0.25], [0.3, 0.4, 0.3]], dtype=np.float64)
    scores = score(Multiclass(["a", "b", "c"]), probabilities, targets)
    assert scores["accuracy"] == 0.5
    assert scores["loss"] == pytest.approx(-(targets * np.log(probabilities)).sum(axis=1).mean(), abs=1e-12)


def test_init_finds_soft_labels(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    lines = [f'{{"text": "a text of {i} words", "votes": {{"no": 0.4, "yes": 0.6}}}}' for i in range(6)]
    path.write_text("\n".join(lines))
    found = inspect_file(str(path))
    assert (found.labels, found.kind, found.counts) == ("votes", "binary", {"no": 0, "yes": 6})
