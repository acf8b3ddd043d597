"""Edits of a config's text: one value changes, and everything else stays as it was written."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from etude.config.edit import apply_settings, with_setting
from etude.errors import ConfigError

TEXT = """# a run
seed = 1  # of everything

[data]
train = "a.csv"

[optimizer]   # which
name = "adamw"
lr = 1e-4     # peak
betas = [0.9, 0.999]

[techniques.ema]
lr = 3
"""


def test_only_the_value_changes() -> None:
    edited = with_setting(TEXT, "optimizer", "lr", 2.5e-05)
    assert edited == TEXT.replace("lr = 1e-4     # peak", "lr = 2.5e-05     # peak")


def test_a_key_and_a_table_that_are_missing() -> None:
    edited = with_setting(with_setting(TEXT, "optimizer", "eps", 1e-07), "train", "batch_size", 64)
    content = tomllib.loads(edited)
    assert content["optimizer"]["eps"] == 1e-07
    assert content["optimizer"]["lr"] == 1e-4
    assert content["train"] == {"batch_size": 64}
    assert edited.endswith("[techniques.ema]\nlr = 3\n\n[train]\nbatch_size = 64\n")
    assert with_setting("", "train", "epochs", 3) == "[train]\nepochs = 3\n"
    assert tomllib.loads(with_setting("[train]", "train", "epochs", 3)) == {"train": {"epochs": 3}}


@pytest.mark.parametrize(
    "text",
    [
        'optimizer = {name = "adamw", lr = 1e-4}\n',
        "optimizer.lr = 1e-4\n",
        '[optimizer]\nlr = 1e-4 # "a" # b\nlr2 = 1\n',
    ],
)
def test_forms_that_are_not_edited_are_refused_and_others_are_right(text: str, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    try:
        apply_settings(file, {"optimizer": {"lr": 0.5}})
    except ConfigError as error:
        assert "in a form that --apply does not edit; paste the lines instead" in str(error)  # noqa: PT017
        assert file.read_text() == text
    else:
        wanted = tomllib.loads(text)
        wanted["optimizer"]["lr"] = 0.5
        assert tomllib.loads(file.read_text()) == wanted
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "c.toml"
    file.write_text(TEXT)
    (tmp_path / ".c.toml.partial").mkdir()
    with pytest.raises(ConfigError, match=r"cannot be written: .*; paste the lines instead"):
        apply_settings(file, {"optimizer": {"lr": 0.5}})
    assert file.read_text() == TEXT
    with pytest.raises(ConfigError, match="cannot be read"):
        apply_settings(tmp_path / "none.toml", {"optimizer": {"lr": 0.5}})
