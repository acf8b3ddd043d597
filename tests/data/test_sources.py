"""Reading: every file type comes out the same, and every fault is one sentence that names its place."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etude.data.sources import read_table, stream_rows
from etude.data.table import Table, join_tables
from etude.errors import DataError

TEXTS = ["plain", 'says "so", twice', "Käse · 日本"]
LABELS = ["a", "b", "a"]


def _csv(path: Path) -> None:
    path.write_text('text,label\nplain,a\n"says ""so"", twice",b\nKäse · 日本,a\n', encoding="utf-8")


def _tsv(path: Path) -> None:
    path.write_text('text\tlabel\nplain\ta\nsays "so", twice\tb\nKäse · 日本\ta\n', encoding="utf-8")


def _jsonl(path: Path) -> None:
    records = [{"text": t, "label": n} for t, n in zip(TEXTS, LABELS, strict=True)]
    path.write_text("\n".join(json.dumps(r) for r in records), encoding="utf-8")


def _json(path: Path) -> None:
    records = [{"text": t, "label": n} for t, n in zip(TEXTS, LABELS, strict=True)]
    path.write_text(json.dumps(records, indent=1), encoding="utf-8")


def _parquet(path: Path) -> None:
    pq.write_table(pa.table({"text": TEXTS, "label": LABELS}), path)


FORMATS: dict[str, Callable[[Path], None]] = {
    "csv": _csv,
    "tsv": _tsv,
    "jsonl": _jsonl,
    "json": _json,
    "parquet": _parquet,
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_table(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"data.{suffix}"
    FORMATS[suffix](path)
    table = read_table(str(path), role="train")
    assert table.columns == ("text", "label")
    assert table.column("text") == TEXTS
    assert table.column("label") == LABELS
    unit = "line" if suffix == "jsonl" else "row"
    assert table.line(1) == f"{path}, {unit} 2"


@pytest.mark.parametrize("suffix", FORMATS)
def test_streams_are_the_whole_in_pieces(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"data.{suffix}"
    FORMATS[suffix](path)
    pieces = list(stream_rows(str(path), 2))
    assert [piece.rows for piece in pieces] == [2, 1]
    assert pieces[1].line(0).endswith(" 3")
    joined = join_tables(pieces)
    assert joined.values == read_table(str(path), role="test").values


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json"])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"data.{suffix}"
    FORMATS[suffix](path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_table(str(path), role="train").columns == ("text", "label")


def test_csv_fields_hold_commas_and_line_ends_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text('text,label\n\n"two\nlines, and a comma",a\n\nplain,b\n')
    table = read_table(str(path), role="train")
    assert table.column("text") == ["two\nlines, and a comma", "plain"]
    assert table.line(1) == f"{path}, row 2"


def test_a_csv_field_may_be_longer_than_the_limit_of_the_csv_module(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text(f"text,label\n{'x' * 200_000},a\n")
    assert len(read_table(str(path), role="train").column("text")[0]) == 200_000


def test_jsonl_objects_may_lack_keys_and_blank_lines_count_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "one"}\n\n{"text": "two", "label": [1, "x"]}\n')
    table = read_table(str(path), role="train")
    assert table.column("label") == [None, [1, "x"]]
    assert table.line(1, "label") == f"{path}, line 3, column 'label'"
    assert join_tables(list(stream_rows(str(path), 1))).values == table.values


FAULTS: dict[str, tuple[str, bytes, str]] = {
    "empty file": ("a.csv", b"", r"a.csv holds no rows; give a file with at least one example"),
    "header only": ("a.csv", b"text,label\n", r"a.csv holds no rows"),
    "blank jsonl": ("a.jsonl", b"\n\n", r"a.jsonl holds no rows"),
    "empty list": ("a.json", b"[]", r"a.json holds no rows"),
    "ragged csv": (
        "a.csv",
        b"text,label\nx,a\nx,y,a\n",
        r"row 2 has 3 field\(s\) and the header has 2; quote",
    ),
    "ragged tsv": (
        "a.tsv",
        b'text\tlabel\n"x\ty"\ta\n',
        r"row 1 has 3 field\(s\) and the header has 2; quotes",
    ),
    "unclosed quote": (
        "a.csv",
        b'text,label\nx,a\n"x,a\n',
        r"row 2 is no valid csv \(unexpected end of data\)",
    ),
    "csv bytes": (
        "a.csv",
        b"text,label\nx,a\ncaf\xe9,a\n",
        r"line 3 is not UTF-8: byte 4 of the line is 0xe9",
    ),
    "utf-16": ("a.tsv", "text\tlabel\n".encode("utf-16"), r"line 1 is not UTF-8: byte 1 of the line is 0xff"),
    "jsonl bytes": ("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}\n', r"line 2 is not UTF-8: byte 11 .* 0xff"),
    "json bytes": ("a.json", b'[{"text":\n"\xff"}]', r"line 2 is not UTF-8: byte 2 of the line is 0xff"),
    "bad jsonl": (
        "a.jsonl",
        b'{"text": "x"}\n{"text": \n',
        r"line 2 is no valid JSON \(Expecting value at char",
    ),
    "jsonl list": ("a.jsonl", b'["x"]\n', r"line 1 holds a list and an object is needed, as \{\"text\""),
    "jsonl null": ("a.jsonl", b"null\n", r"line 1 holds null and an object is needed"),
    "bad json": ("a.json", b'[{"text": "x"},\n]', r"no valid JSON \(.* in line \d, character \d+\)"),
    "json object": ("a.json", b'{"text": "x"}', r"a.json holds an object and a list of objects is needed"),
    "json item": ("a.json", b'[{"text": "x"}, 3]', r"row 2 holds a number and an object is needed"),
    "twins": ("a.csv", b"text,label,text\nx,a,y\n", r"has two columns named 'text'; rename or remove one"),
    "no parquet": (
        "a.parquet",
        b"text,label\nx,a\n",
        r"a.parquet is no readable parquet file \(.*\); write it again",
    ),
    "suffix": (
        "a.xlsx",
        b"x",
        r"a.xlsx ends in '.xlsx' and a csv, tsv, jsonl, json or parquet file is needed",
    ),
    "no suffix": ("data", b"x", r"data ends in 'nothing' and a csv"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_one_sentence(tmp_path: Path, fault: str) -> None:
    name, content, words = FAULTS[fault]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_table(str(path), role="train")
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=words):
        list(stream_rows(str(path), 1))


def test_a_parquet_file_with_two_columns_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table([["x"], ["y"]], names=["text", "text"]), path)
    with pytest.raises(DataError, match=r"has two columns named 'text'"):
        read_table(str(path), role="train")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*none\.csv; give a csv, tsv"):
        read_table(str(tmp_path / "none.csv"), role="train")
    with pytest.raises(DataError, match=r"is a folder and a csv, tsv, .* name the file inside it"):
        read_table(str(tmp_path), role="train")
    with pytest.raises(DataError, match=r"there is no file imdb; .* or a hub data set as 'owner/name'"):
        read_table("imdb", role="train")


def test_a_folder_that_is_here_makes_a_name_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match=r"there is no file data/train;"):
        read_table("data/train", role="train")


def test_a_hub_id_without_a_network_is_one_sentence() -> None:
    script = (
        "from etude.data.sources import read_table\n"
        "from etude.errors import DataError\n"
        "try: read_table('nobody/nothing', role='train')\n"
        "except DataError as error: print(error)\n"
    )
    # The library reads this setting once, when it is imported.
    said = _run(script, HF_HUB_OFFLINE="1")
    assert re.fullmatch(
        r"nobody/nothing is no file here and could not be read from the hub \(.*\); check the name, the "
        r"split and the network, or give a file\n",
        said,
    )


def _run(script: str, **environment: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_a_missing_column_names_the_closest_one() -> None:
    table = Table("train.csv", {"text": ["x"], "label": ["a"]}, range(1, 2))
    with pytest.raises(
        DataError,
        match=r"train.csv has no column 'lable'; did you mean 'label'\?; its columns are text, label",
    ):
        table.column("lable")


def test_taken_rows_keep_their_numbers() -> None:
    table = Table("train.csv", {"text": ["x", "y", "z"]}, range(1, 4)).take([2, 0])
    assert table.column("text") == ["z", "x"]
    assert table.line(0) == "train.csv, row 3"
    assert table.rows == 2


class _Input:
    """Standard input with given bytes."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def _stdin(monkeypatch: pytest.MonkeyPatch, content: bytes, chunk: int = 2) -> list[Table]:
    monkeypatch.setattr(sys, "stdin", _Input(content))
    return list(stream_rows("-", chunk))


def test_standard_input_is_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = _stdin(monkeypatch, "\ufeffone\r\ntwo {\nthree".encode())
    assert [table.column("text") for table in tables] == [["one", "two {"], ["three"]]
    assert tables[1].line(0) == "standard input, line 3"


def test_standard_input_is_jsonl_where_it_begins_with_a_brace(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = _stdin(monkeypatch, b'\n  {"text": "one", "id": 7}\n{"text": "two"}\n')
    assert tables[0].values == {"text": ["one", "two"], "id": [7, None]}
    assert tables[0].line(0) == "standard input, line 2"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "standard input holds no rows; send one text"),
        (b"\n \n", "standard input holds no rows"),
        (b"one\n \ntwo\n", "standard input, line 2 is blank; send one text on each line"),
        (b"\none\n", "standard input, line 1 is blank"),
        (b"one\n\xff\n", "standard input, line 2 is not UTF-8: byte 1 of the line is 0xff"),
        (b'{"text": "x"}\n{\n', "standard input, line 2 is no valid JSON"),
    ],
)
def test_faults_of_standard_input(monkeypatch: pytest.MonkeyPatch, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        _stdin(monkeypatch, content)


def test_a_stream_reads_no_further_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand lines, one chunk asked for: the rest is still unread, so memory is one chunk."""
    source = _Input(b"a line of text\n" * 10_000)
    monkeypatch.setattr(sys, "stdin", source)
    first: Any = next(stream_rows("-", 100))
    assert first.rows == 100
    assert source.buffer.tell() == 100 * len(b"a line of text\n")
