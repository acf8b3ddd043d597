"""Measures of data, verdicts in words, and reading on past faults."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from etude.core.observe import Reporter
from etude.data.labels import read_labels
from etude.data.profile import (
    co_occurrence,
    count_tokens,
    cut_at,
    describe_columns,
    estimate_tokens,
    histogram,
    imbalance,
    labels_per_row,
    shared_values,
    top_pairs,
)
from etude.data.salvage import read_what_can_be_read, retry, sift
from etude.data.table import Table
from etude.data.text import check_texts
from etude.data.verdicts import Checkup, Remark, Section
from etude.errors import DataError


def test_columns_are_described_by_what_their_cells_are() -> None:
    cells = ["a", "1.5", None, float("nan"), 2, True, [1], {"a": 1}, "  "]
    (column,) = describe_columns(Table("a.jsonl", {"x": cells}, range(1, 10)))
    assert column.types == ("text", "number as text", "number", "true or false", "list", "mapping")
    assert (column.nulls, column.blanks, column.distinct) == (2, 1, 7)


def test_co_occurrence_and_its_pairs() -> None:
    truth = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=bool)
    matrix = co_occurrence(truth)
    assert matrix.tolist() == [[3, 2, 0], [2, 2, 0], [0, 0, 0]]
    (pair,) = top_pairs(matrix, ["joy", "love", "rage"], len(truth))
    assert (pair.first, pair.second, pair.rows) == ("joy", "love", 2)
    assert pair.lift == pytest.approx(2 / 4 / (3 / 4 * 2 / 4))
    assert labels_per_row(truth) == [1, 1, 2]


def test_imbalance_without_any_label_is_no_number() -> None:
    assert np.isnan(imbalance(np.zeros(3)))


@pytest.mark.parametrize("lengths", [[3], [2, 900], [5] * 99 + [100_000], list(range(1, 300))])
def test_a_histogram_counts_every_text_once(lengths: list[int]) -> None:
    found = histogram(np.array(lengths))
    assert sum(found.counts) == len(lengths)
    assert found.edges[0] == min(lengths)
    assert found.edges[-1] > max(lengths)
    assert found.edges == sorted(set(found.edges))
    assert len(found.edges) == len(found.counts) + 1 <= 42


def test_nothing_is_cut_from_texts_that_just_fit() -> None:
    assert cut_at(np.array([4, 4]), 4).rows == 0
    assert cut_at(np.array([4, 12]), 4).token_share == 0.5


def test_a_slow_tokenizer_is_asked_for_uncut_texts() -> None:
    def encode(*parts: list[str], truncation: bool, verbose: bool) -> dict[str, list[list[int]]]:
        assert not truncation
        return {
            "input_ids": [[0 if c == "?" else 1 for c in "".join(row)] for row in zip(*parts, strict=True)]
        }

    encode.is_fast = False  # type: ignore[attr-defined]
    encode.unk_token_id = 0  # type: ignore[attr-defined]
    tokens = count_tokens(["ab?", "c"], ["d", "??"], encode, Reporter())
    assert tokens.lengths.tolist() == [4, 3]
    assert tokens.unknown.tolist() == [1, 2]


def test_guessed_tokens_grow_with_the_text_in_any_script() -> None:
    lengths = estimate_tokens(["a" * 40, "مرحبا", "😀😀", "x" * 100_000]).lengths
    assert lengths.tolist() == [12, 6, 4, 25_002]


def test_values_that_two_parts_share() -> None:
    assert shared_values(["a", "b", "b"], ["b", "c"]) == {"b": (2, 1)}
    assert shared_values([], ["b"]) == {}


def test_a_checkup_is_as_bad_as_its_worst_remark() -> None:
    safe, look, bad = (Remark(v, v) for v in ("safe", "look", "unsafe"))  # type: ignore[arg-type]

    def checkup(*remarks: Remark) -> Checkup:
        sections = [Section(f"s{i}", "?", [safe, remark]) for i, remark in enumerate(remarks)]
        return Checkup("a.csv", "binary", ["a", "b"], {"train": 2}, sections)

    assert checkup(safe).sentence == "Safe to train on: all 1 checks passed."
    assert checkup(safe, look, look).sentence == "Fit to train on, but have a look at s1 and s2."
    unsafe = checkup(bad, look, safe)
    assert unsafe.sentence == "Not safe to train on: mend s0 first; look also at s1."
    assert (checkup(look).exit_code, unsafe.exit_code) == (0, 1)
    assert json.loads(json.dumps(unsafe.to_json()))["sections"][0]["remarks"][0]["verdict"] == "unsafe"


@pytest.mark.parametrize(
    ("name", "content", "rows", "faults"),
    [
        (
            "a.csv",
            b'text,label\na,x\nb,c,x\n\ncaf\xe9,x\n"he said "no"",x\nlast,y\n',
            {"a": 1, "last": 5},
            {2: "has 3 field(s) and the header has 2", 3: "is not UTF-8", 4: "is no valid csv"},
        ),
        ("a.tsv", b"text\tlabel\na\tx\nb\n", {"a": 1}, {2: "has 1 field(s) and the header has 2"}),
        (
            "a.jsonl",
            b'{"text": "a"}\n[1]\n{"text":\n{"text": "caf\xe9"}\n\n{"text": "b"}\n',
            {"a": 1, "b": 6},
            {2: "holds no object", 3: "is no valid JSON", 4: "is not UTF-8"},
        ),
    ],
)
def test_all_rows_that_cannot_be_read_are_named(
    tmp_path: Path, name: str, content: bytes, rows: dict[str, int], faults: dict[int, str]
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    table, found = read_what_can_be_read(str(path), "train")
    assert dict(zip(table.column("text"), table.numbers, strict=True)) == rows
    assert [fault.row for fault in found] == list(faults)
    for fault in found:
        assert fault.sentence.startswith(f"{path}, {table.unit} {fault.row} {faults[fault.row or 0]}")


@pytest.mark.parametrize(
    ("name", "words"), [("gone.csv", "there is no file"), ("a.json", "is no valid JSON")]
)
def test_a_file_of_which_nothing_can_be_read_is_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "a.json").write_text("[{")
    with pytest.raises(DataError, match=words):
        read_what_can_be_read(str(tmp_path / name), "train")


def test_rows_are_sifted_one_by_one_where_one_fails() -> None:
    table = Table("a.csv", {"text": ["a", " ", None, "b"], "other": [1, 2, 3, 4]}, [1, 2, 3, 5])
    kept, faults = sift(table, "validation", ["text"], lambda rows: check_texts(rows, "text"))
    assert (kept.column("other"), kept.numbers) == ([1, 4], [1, 5])
    assert [(f.part, f.row, f.column) for f in faults] == [
        ("validation", 2, "text"),
        ("validation", 3, "text"),
    ]


def test_faults_that_show_among_other_rows_are_found_in_turn() -> None:
    table = Table("a.jsonl", {"label": ["a", 3, "b", 4, "a"]}, range(1, 6), "line")
    labels, kept, faults = retry(table, "train", lambda rows: read_labels(rows, "label"))
    assert labels is not None
    assert labels.names == [["a"], ["b"], ["a"]]
    assert [fault.row for fault in faults] == [2, 4]
    assert list(kept.numbers) == [1, 3, 5]


def test_a_fault_without_a_row_ends_the_search() -> None:
    table = Table("a.jsonl", {"label": ["a"]}, [1])
    found, _, faults = retry(table, "train", lambda rows: read_labels(rows, "lable"))
    assert found is None
    assert (faults[0].row, faults[0].column) == (None, None)


def test_the_search_ends_where_faults_do_not() -> None:
    def never(rows: Table) -> None:
        raise DataError(f"{rows.line(0, 'label')} is wrong")

    table = Table("a.jsonl", {"label": list("abcdef")}, range(1, 7))
    found, kept, faults = retry(table, "train", never, most=3)
    assert (found, len(faults), kept.rows) == (None, 3, 4)


def test_a_stand_in_for_a_tokenizer_is_not_needed_for_empty_parts() -> None:
    tokenizer = SimpleNamespace(is_fast=False, unk_token_id=None)
    assert len(count_tokens([], None, tokenizer, Reporter()).lengths) == 0
