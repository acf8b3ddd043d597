"""The documentation runs: every TOML block is a valid config, every command exists, Python is executed."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from etude import cli
from etude.config.load import parse_config
from etude.config.tune import read_tune
from etude.core.task import Multiclass, Multilabel
from etude.runs.resolve import resolve_techniques

ROOT = Path(__file__).parents[1]
NAMES = ("guide", "defaults", "tables", "images", "mnist", "tuning")
PAGES = ["README.md", *(f"docs/{name}.md" for name in NAMES)]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (page, text)
        for page in PAGES
        for kind, text in BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
        if kind == language
    ]


def test_every_toml_block_resolves() -> None:
    found = blocks("toml")
    assert len(found) >= 4
    for page, text in found:
        config = parse_config(tomllib.loads(text))
        task = Multilabel(["a", "b"]) if config.task == "multilabel" else Multiclass(["a", "b", "c"])
        assert resolve_techniques(config, task), page
        assert read_tune(tomllib.loads(text))[0] == config, page


def test_every_command_exists(capsys: pytest.CaptureFixture[str]) -> None:
    commands = [line[2:] for _, text in blocks("console") for line in text.splitlines() if line[:2] == "$ "]
    etude = [shlex.split(command, comments=True) for command in commands if command.startswith("etude ")]
    assert len(etude) >= 10
    for words in etude:
        with pytest.raises(SystemExit) as left:
            cli.main([words[1], "--help"])
        assert left.value.code == 0, words
        shown = capsys.readouterr().out
        for option in [word for word in words if word.startswith("--")]:
            assert option in shown, words


@pytest.mark.minilm
def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"where is my parcel number {i},order" for i in range(20)]
    rows += [f"please give me my money back for {i},refund" for i in range(20)]
    (tmp_path / "messages.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        cli.main(["init", "messages.csv"])
    assert left.value.code in (0, None)
    found = blocks("python")
    assert found
    for page, text in found:
        exec(compile(text, page, "exec"), {})  # noqa: S102 - our own page, which is what is tested


def test_the_catalogue_page_is_made_from_the_cards() -> None:
    spec = importlib.util.spec_from_file_location("build_catalogue", ROOT / "docs/build_catalogue.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs/catalogue.md").read_text(encoding="utf-8") == module.page(), (
        "run python docs/build_catalogue.py"
    )
