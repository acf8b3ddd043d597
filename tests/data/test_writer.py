"""Writing: what goes in comes out, and a file appears whole or not at all."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude.data.sources import read_table, stream_rows
from etude.data.writer import RowWriter
from etude.errors import DataError

FIRST = {"text": ['a "quote", comma', "line\nend"], "score": np.array([0.25, 1.0]), "labels": [[], ["x"]]}
SECOND = {"text": ["Käse"], "score": [0.5], "labels": [["x", "y"]]}


def _write(path: Path, *chunks: dict[str, Any]) -> None:
    with RowWriter(str(path)) as writer:
        for chunk in chunks:
            writer.write(chunk)


def _write_and_stop(path: Path) -> None:
    with RowWriter(str(path)) as writer:
        writer.write(FIRST)
        assert len(list(path.parent.iterdir())) == 2
        raise InterruptedError


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_round_trip_keeps_types(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    _write(path, FIRST, SECOND)
    table = read_table(str(path), role="test")
    assert table.column("text") == ['a "quote", comma', "line\nend", "Käse"]
    assert table.column("score") == [0.25, 1.0, 0.5]
    assert table.column("labels") == [[], ["x"], ["x", "y"]]


def test_csv_round_trip_joins_lists(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with RowWriter(str(path), list_separator="; ") as writer:
        writer.write({**FIRST, "extra": [None, {"a": 1}]})
    table = read_table(str(path), role="test")
    assert table.column("text") == FIRST["text"]
    assert table.column("score") == ["0.25", "1.0"]
    assert table.column("labels") == ["", "x"]
    assert table.column("extra") == ["", '{"a": 1}']


def test_a_matrix_becomes_lists(capsys: pytest.CaptureFixture[str]) -> None:
    with RowWriter("-") as writer:
        writer.write({"probabilities": np.array([[0.25, 0.75]])})
    assert json.loads(capsys.readouterr().out) == {"probabilities": [0.25, 0.75]}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_an_error_leaves_the_older_file_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    path.write_text("older")
    with pytest.raises(InterruptedError):
        _write_and_stop(path)
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_file_appears_only_at_the_end(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    with RowWriter(str(path)) as writer:
        writer.write(FIRST)
        assert not path.exists()
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_without_rows_leaves_an_empty_table(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    _write(path)
    with pytest.raises(DataError, match="holds no rows"):
        read_table(str(path), role="test")


def test_paths_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"out.xlsx ends in '.xlsx' and rows go to a csv, jsonl or parquet"):
        RowWriter(str(tmp_path / "out.xlsx"))
    with pytest.raises(DataError, match=r"cannot be written: No such file or directory"):
        RowWriter(str(tmp_path / "none" / "out.csv"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=r"folder.csv is a folder; name a file inside it"):
        RowWriter(str(tmp_path / "folder.csv"))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_disk_that_refuses_is_one_sentence_and_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = [f"{i * 7919 % 10007:x}" * 20 for i in range(2000)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(DataError, match=r"cannot be written: File too large; free some space or choose"):
            _write(tmp_path / f"out.{suffix}", {"text": noise})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_chunks_of_other_columns_or_lengths(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with pytest.raises(ValueError, match=r"this chunk has the columns \('b',\), the first one \('a',\)"):
        _write(path, {"a": [1]}, {"b": [1]})
    with pytest.raises(ValueError, match=r"the columns have \{'a': 1, 'b': 2\} rows"):
        _write(path, {"a": [1], "b": [1, 2]})
    assert not list(tmp_path.iterdir())


def test_parquet_refuses_a_column_of_two_types(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot hold these values in one parquet column .* write jsonl"):
        _write(tmp_path / "out.parquet", {"a": [1]}, {"a": ["x"]})
    assert not list(tmp_path.iterdir())


def test_a_long_file_streams_through_in_chunks(tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.parquet"
    source.write_text("text\n" + "".join(f"text {i}\n" for i in range(5000)))
    with RowWriter(str(target)) as writer:
        for table in stream_rows(str(source), 512):
            assert table.rows <= 512
            writer.write(table.values)
    assert read_table(str(target), role="test").column("text")[-1] == "text 4999"
