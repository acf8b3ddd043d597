"""A file that holds a table and no texts gets a config of the kind table."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from etude.config.run import Config
from etude.data.inspect_tables import propose_config
from etude.errors import DataError


def config_of(path: Path) -> Config:
    return Config.model_validate(tomllib.loads(propose_config(str(path))))


def write(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_table_is_of_the_kind_table(tmp_path: Path) -> None:
    rows = [f"{20 + i % 40},job {i % 5},{i % 7},{'yes' if i % 3 else 'no'}" for i in range(60)]
    path = write(tmp_path / "train.csv", "age,job,visits,answer", rows)
    (tmp_path / "test.csv").write_text(path.read_text())
    config = config_of(path)
    assert config.backbone.kind == "table"
    assert config.data.labels == "answer"
    assert config.data.test == str(tmp_path / "test.csv")
    assert "# numeric: age, visits\n# categorical: job\n" in propose_config(str(path))


def test_the_last_column_without_gaps_or_the_fewest_values_are_the_labels(tmp_path: Path) -> None:
    rows = [f"{i},{i % 2},{20 + i % 40},{i % 3},{'' if i == 7 else 'abc'[i % 3]}" for i in range(60)]
    assert config_of(write(tmp_path / "a.csv", "id,survived,age,sibs,port", rows)).data.labels == "survived"


def test_several_columns_of_labels_by_their_names(tmp_path: Path) -> None:
    rows = [f"{i / 7},{i / 3},{i % 2},{i % 3 // 2}" for i in range(60)]
    config = config_of(write(tmp_path / "a.csv", "f1,f2,label:sad,label:calm", rows))
    assert config.data.labels == ["label:sad", "label:calm"]
    assert config.task == "multilabel"


def test_texts_stay_texts(tmp_path: Path) -> None:
    rows = [f"this is message number {i},{i % 2},{i % 3 // 2}" for i in range(60)]
    assert config_of(write(tmp_path / "a.csv", "text,spam,rude", rows)).backbone.kind == "text"


def test_a_table_without_labels_is_refused(tmp_path: Path) -> None:
    rows = [f"{i / 7},{i / 3},{i / 11}" for i in range(60)]
    with pytest.raises(
        DataError, match=r"a\.csv has no column that looks like labels; name it in the config"
    ):
        propose_config(str(write(tmp_path / "a.csv", "f1,f2,f3", rows)))
