"""The command line: its surface, its exit codes, and what goes to which stream."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer

from etude import cli
from etude.cli import training
from etude.errors import Interrupted
from etude.techniques import catalogue

SURFACE = {
    "train": {"CONFIG", "--set", "--auto-epochs", "--quiet", "--json"},
    "pretrain": {"CONFIG", "--set", "--quiet", "--json"},
    "self-train": {"CONFIG", "--set", "--quiet", "--json"},
    "resume": {"RUN", "--quiet", "--json"},
    "evaluate": {"RUN_OR_MODEL", "DATA", "--quiet", "--json"},
    "predict": {"RUN_OR_MODEL", "FILE", "--output", "--text", "--quiet", "--json"},
    "init": {"FILE", "--output", "--test", "--force"},
    "validate": {"CONFIG", "--set", "--json"},
    "explain": {"CONFIG", "--set", "--json"},
    "techniques": {"--family", "--json"},
    "show": {"NAME", "FILE", "--plot", "--set", "--epochs", "--steps"},
    "demo": {"--quiet", "--json"},
    "find-batch-size": {"CONFIG", "--set", "--memory", "--most", "--apply", "--quiet", "--json"},
    "find-lr": {
        "CONFIG", "--set", "--steps", "--low", "--high", "--stage", "--choose", "--plot", "--apply",
        "--quiet", "--json",
    },
    "check-data": {
        "CONFIG_OR_FILE", "--set", "--output", "--deep", "--correlate-with", "--quiet", "--json",
    },
    "baseline": {"CONFIG", "--only", "--set", "--quiet", "--json"},
    "ensemble": {
        "RUNS", "--set", "--output", "--method", "--weights", "--snapshots", "--quiet", "--json",
    },
    "soup": {"RUNS", "--output", "--recipe", "--top", "--quiet", "--json"},
    "study": {"CONFIG", "--set", "--dir", "--budget", "--test", "--quiet", "--json"},
    "retrain": {
        "--epochs-from", "--best", "--on-all-data", "--dir", "--set", "--quiet", "--json",
    },
    "tune": {"CONFIG", "--set", "--storage", "--quiet", "--json"},
    "compare": {"RUN_A", "RUN_B", "[RUN_C ...]", "--part", "--json"},
    "report": {"RUN", "--output", "--open"},
    "health": {"RUN_OR_MODEL", "--quiet", "--json"},
    "interpret": {
        "RUN_OR_MODEL", "--text", "--pair", "--file", "--rows", "--label", "--method", "--steps", "--empty",
        "--output", "--force", "--quiet", "--json",
    },
}  # fmt: skip

MESSAGES = "text,label\n" + "".join(
    f"{text} {number},{label}\n"
    for number in range(8)
    for text, label in (("where is my parcel", "order"), ("give me my money back", "refund"))
)


def etude(*arguments: str) -> int:
    """Run the command line in this process and return its exit code."""
    with pytest.raises(SystemExit) as left:
        cli.main(list(arguments))
    return int(left.value.code or 0)


def test_the_surface_is_as_it_was_agreed() -> None:
    group = typer.main.get_command(cli.app)
    found = {
        name: {
            max(option.opts, key=len) if option.param_type_name == "option" else option.metavar
            for option in command.params
            if option.name != "help"
        }
        for name, command in group.commands.items()  # type: ignore[attr-defined]
    }
    assert found == SURFACE


@pytest.mark.parametrize("command", SURFACE)
def test_every_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert etude(command, "--help") == 0
    assert re.search(rf"Example: .*etude {command}", capsys.readouterr().out)


def test_help_and_a_mistake_in_a_config_load_no_heavy_library(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("epochs = 3\n", encoding="utf-8")
    program = (
        "import sys\n"
        "from etude.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as left:\n    print('exit', left.code)\n"
        "heavy = {'torch', 'transformers', 'pyarrow', 'sklearn', 'datasets', 'numpy', 'accelerate'}\n"
        "print('loaded', sorted(heavy & set(sys.modules)))\n"
    )
    for arguments, code in ((["--help"], 0), (["--version"], 0), (["train", str(tmp_path / "bad.toml")], 2)):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
        )
        assert done.stdout.endswith(f"exit {code}\nloaded []\n"), done.stdout


def test_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "etude", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"etude {version('etude')}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["train", "gone.toml"],
            "error: there is no config file 'gone.toml'; 'etude init DATA_FILE' writes one",
        ),
        (["validate", "gone.toml"], "error: there is no config file 'gone.toml'"),
        (["explain", "gone.toml"], "error: there is no config file 'gone.toml'"),
        (["init", "gone.csv"], "error: there is no file gone.csv"),
        (
            ["show", "label_smoothin"],
            "error: there is no technique 'label_smoothin'; did you mean 'label_smoothing'?",
        ),
        (["techniques", "--family", "loss"], "error: there is no family 'loss'; did you mean 'losses'?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], in_folder: Path
) -> None:
    assert etude(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(words)
    assert err.count("\n") == 1


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_wrong_command_gets_the_closest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert etude("trian") == 2
    assert "Did you mean 'train'" in capsys.readouterr().err


def test_ctrl_c_is_one_line_and_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "read_config", stop)
    assert etude("train", "run.toml") == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_stopped_run_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise Interrupted("stopped at step 7; 'etude resume runs/a' goes on")

    monkeypatch.setattr(training, "read_config", stop)
    assert etude("train", "run.toml") == 130
    assert capsys.readouterr().err == "stopped at step 7; 'etude resume runs/a' goes on\n"


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(training, "read_config", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["train", "run.toml"])


@pytest.mark.parametrize("arguments", [["techniques"], ["techniques", "--json"]])
def test_a_closed_pipe_is_quiet(arguments: list[str]) -> None:
    # The pipe's reading end is closed before anything is written to it.
    program = (
        "import os, sys\n"
        "reading, writing = os.pipe()\n"
        "os.close(reading)\n"
        "os.dup2(writing, 1)\n"
        "from etude.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")


def test_techniques_lists_the_catalogue_by_family(capsys: pytest.CaptureFixture[str]) -> None:
    assert etude("techniques", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} == set(catalogue())
    assert [row["family"] for row in rows] == sorted(row["family"] for row in rows)
    assert etude("techniques") == 0
    table = capsys.readouterr().out
    assert all(name in table for name in catalogue())


def test_techniques_of_one_family(capsys: pytest.CaptureFixture[str]) -> None:
    assert etude("techniques", "--family", "targets", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["family"] for row in rows} == {"targets"}
    smoothing = next(row for row in rows if row["name"] == "label_smoothing")
    assert smoothing["phase"] == "soften"
    assert smoothing["passes"] == 1.0
    assert smoothing["summary"] == "train towards probabilities a little short of zero and one."


def test_show_prints_the_card_and_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert etude("show", "label_smoothing") == 0
    text = capsys.readouterr().out
    assert "y' = (1 - ε) y + ε / C" in text
    assert re.search(r"smoothing +a number of at least 0 and below 1 +0.1 +0 to 0.2 +share of the mass", text)


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_every_technique_can_be_shown(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert etude("show", name) == 0
    text = capsys.readouterr().out
    assert all(key in text for key in catalogue()[name].Config.model_fields if key != "name")


def test_init_writes_a_config_once(capsys: pytest.CaptureFixture[str], in_folder: Path) -> None:
    Path("messages.csv").write_text(MESSAGES, encoding="utf-8")
    assert etude("init", "messages.csv") == 0
    assert "etude train etude.toml" in capsys.readouterr().out
    written = Path("etude.toml").read_text(encoding="utf-8")
    assert 'labels = "label"' in written
    assert 'dir = "runs/messages"' in written

    Path("etude.toml").write_text("# mine\n", encoding="utf-8")
    assert etude("init", "messages.csv") == 2
    assert "'etude.toml' exists already; name another file with --output" in capsys.readouterr().err
    assert Path("etude.toml").read_text(encoding="utf-8") == "# mine\n"

    assert etude("init", "messages.csv", "--force", "--test", "held_out.csv") == 0
    assert 'test = "held_out.csv"' in Path("etude.toml").read_text(encoding="utf-8")


def test_init_names_a_folder_that_does_not_exist(capsys: pytest.CaptureFixture[str], in_folder: Path) -> None:
    Path("messages.csv").write_text(MESSAGES, encoding="utf-8")
    assert etude("init", "messages.csv", "--output", "no/such/folder.toml") == 2
    assert "cannot be written to 'no/such/folder.toml': No such file" in capsys.readouterr().err


def test_jobs_keep_their_names_whatever_rooms_are_imported() -> None:
    program = (
        "import etude, etude.ensemble.make, etude.report.page\n"
        "from etude.report.page import score\n"
        "print(callable(etude.report), callable(etude.ensemble), callable(etude.study))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True True True\n"
