"""``etude pretrain`` and ``etude resume`` from the command line."""

import json
from pathlib import Path

import pytest

from etude import cli
from etude.config.load import to_toml
from tiny_texts import text_config, write_texts


def etude(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(list(arguments))
    return int(left.value.code or 0)


def test_the_command_says_what_it_found_and_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_texts(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("config.toml").write_text(to_toml(text_config(pretrain={"epochs": 1})))
    capsys.readouterr()
    assert etude("pretrain", "config.toml", "--quiet") == 0
    said = capsys.readouterr().out
    assert "held out before  loss 3." in said
    assert "etude train CONFIG --set backbone.path=run/model" in said
    assert etude("pretrain", "config.toml", "--quiet") == 2
    assert "run already holds a run; go on with 'etude resume run'" in capsys.readouterr().err
    assert etude("resume", "run", "--quiet", "--json") == 0
    assert json.loads(capsys.readouterr().out)["losses"].keys() == {"before", "after"}
    assert etude("predict", "run", "messages.csv", "--quiet") == 2
    assert "knows no labels yet" in capsys.readouterr().err
    changes = ("--set", "backbone.path=run/model", "--set", "run.dir=main", "--set", "train.epochs=1")
    assert etude("train", "config.toml", "--quiet", *changes) == 0
    assert "accuracy" in capsys.readouterr().out
