"""Looking at a file: the right columns, the reasons, and a config that loads."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from etude.config.run import Config
from etude.data.inspect import Findings, inspect_file, render_config
from etude.errors import DataError

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "runs"]


def _text(i: int) -> str:
    return " ".join(WORDS[(i * k) % len(WORDS)] for k in range(1, 6 + i % 5)) + f" {i}"


def _inspect(tmp_path: Path, records: list[dict[str, Any]]) -> Findings:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return inspect_file(str(path))


def _loads(findings: Findings) -> Config:
    config = Config.model_validate(tomllib.loads(render_config(findings)))
    assert config.data.train == findings.path
    assert config.data.text == findings.text
    assert config.data.labels == findings.labels
    assert config.data.label_separator == findings.separator
    assert config.task == findings.kind
    assert config.backbone.max_length == findings.max_length
    return config


def test_a_column_that_is_called_label(tmp_path: Path) -> None:
    findings = _inspect(
        tmp_path,
        [{"id": f"x{i}", "body": _text(i), "fold": i % 2, "label": "abc"[i % 3]} for i in range(60)],
    )
    assert (findings.text, findings.labels, findings.kind) == ("body", "label", "multiclass")
    assert findings.counts == {"a": 20, "b": 20, "c": 20}
    assert findings.sentences["labels"] == "The labels are in 'label', as the name says."
    assert findings.sentences["task"] == "There are 3 labels, one for each row, each in 20 rows."
    _loads(findings)


def test_the_column_of_the_fewest_values_where_no_name_tells(tmp_path: Path) -> None:
    findings = _inspect(
        tmp_path, [{"q": _text(i), "coarse": "AB"[i % 2], "fine": f"c{i % 7}"} for i in range(70)]
    )
    assert (findings.labels, findings.kind) == ("coarse", "binary")
    assert "fewest distinct values, 2 in 70 rows. It could be 'fine' as well." in findings.sentences["labels"]
    assert findings.sentences["task"].endswith("'B' is the positive one.")
    _loads(findings)


def test_lists_of_names(tmp_path: Path) -> None:
    findings = _inspect(tmp_path, [{"t": _text(i), "moods": ["x", "y"][: i % 3]} for i in range(30)])
    assert (findings.labels, findings.kind, findings.counts) == ("moods", "multilabel", {"x": 20, "y": 10})
    assert findings.sentences["task"].startswith("There are 2 labels, 1.00 for each row and none for 10 rows")
    _loads(findings)


def test_columns_of_zeros_and_ones(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("text,toxic,rude\n" + "".join(f"{_text(i)},{i % 2},{i % 3 % 2}\n" for i in range(30)))
    findings = inspect_file(str(path))
    assert (findings.labels, findings.kind) == (["toxic", "rude"], "multilabel")
    assert findings.counts == {"toxic": 15, "rude": 10}
    _loads(findings)


def test_a_separator_in_the_cells(tmp_path: Path) -> None:
    cells = ["a", "b", "a|b", "b|c", "a|b|c"]
    findings = _inspect(tmp_path, [{"text": _text(i), "tags": cells[i % 5]} for i in range(30)])
    assert (findings.separator, findings.kind) == ("|", "multilabel")
    assert findings.sentences["label_separator"] == "Many cells hold several labels with '|' between them."
    _loads(findings)


def test_a_comma_in_class_names_is_no_separator(tmp_path: Path) -> None:
    findings = _inspect(
        tmp_path, [{"text": _text(i), "label": ["Food, drink", "Cars"][i % 2]} for i in range(30)]
    )
    assert (findings.separator, findings.kind) == (None, "binary")


def test_a_second_long_text_is_pointed_out(tmp_path: Path) -> None:
    findings = _inspect(
        tmp_path,
        [{"premise": _text(i) + " more", "hypothesis": _text(i + 1), "label": i % 3} for i in range(30)],
    )
    assert "Column 'hypothesis' is long as well and may be a text_pair." in findings.sentences["text"]


@pytest.mark.parametrize(
    ("text", "max_length"), [("hello world", 32), ("word " * 40, 128), ("日本" * 100, 256), ("x" * 9999, 512)]
)
def test_the_length_follows_the_texts(tmp_path: Path, text: str, max_length: int) -> None:
    findings = _inspect(tmp_path, [{"text": text, "label": i % 2} for i in range(10)])
    assert findings.max_length == max_length
    assert "words at the median" in findings.sentences["max_length"]


def test_ids_are_no_texts_however_long(tmp_path: Path) -> None:
    records = [{"id": f"{i:036x}", "text": f"go {i}", "label": i % 2} for i in range(10)]
    assert _inspect(tmp_path, records).text == "text"


def test_files_beside_the_training_file_are_found(tmp_path: Path) -> None:
    for name in ("train.csv", "test.csv", "dev.csv"):
        (tmp_path / name).write_text("text,label\n" + "".join(f"{_text(i)},{i % 2}\n" for i in range(10)))
    findings = inspect_file(str(tmp_path / "train.csv"))
    config = _loads(findings)
    assert config.data.test == findings.test == str(tmp_path / "test.csv")
    assert config.data.validation == findings.validation == str(tmp_path / "dev.csv")
    assert inspect_file(str(tmp_path / "test.csv")).test is None


def test_faulty_rows_are_named_and_not_guessed_round(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [{"text": _text(i), "label": i % 2} for i in range(10)]
    with pytest.raises(DataError, match=r"data.jsonl, line 11, column 'label' has no label"):
        _inspect(tmp_path, [*records, {"text": "more words", "label": None}])
    with pytest.raises(DataError, match=r"data.jsonl, line 11, column 'text' has no text"):
        _inspect(tmp_path, [*records, {"text": None, "label": 1}])


def test_odd_names_make_valid_toml(tmp_path: Path) -> None:
    records = [{'te"xt\n': _text(i), "läbel\\": i % 2} for i in range(10)]
    config = _loads(_inspect(tmp_path, records))
    assert config.data.text == 'te"xt\n'


def test_the_config_takes_the_callers_choices(tmp_path: Path) -> None:
    findings = _inspect(tmp_path, [{"text": _text(i), "label": i % 2} for i in range(10)])
    rendered = render_config(findings, backbone="pkg:some_package", test="held_out.csv", run_dir="runs/x")
    config = Config.model_validate(tomllib.loads(rendered))
    assert (config.backbone.path, config.data.test, config.run.dir) == (
        "pkg:some_package",
        "held_out.csv",
        "runs/x",
    )
    for sentence in findings.sentences.values():
        assert f"# {sentence}\n" in rendered


def test_files_without_texts_or_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no column of texts among a, b; texts are strings"):
        _inspect(tmp_path, [{"a": i, "b": i % 2} for i in range(10)])
    with pytest.raises(
        DataError, match=r"has no column that looks like labels beside 'text'; name the column"
    ):
        _inspect(tmp_path, [{"text": _text(i), "id": f"{i}"} for i in range(10)])
