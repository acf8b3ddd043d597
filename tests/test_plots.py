"""Schedules as pictures: the curves, the characters, the files and the command."""

from pathlib import Path

import pytest

from etude import cli
from etude.core.phases import SCHEDULE
from etude.errors import ConfigError
from etude.plots import Curves, draw, save, schedule_curves
from etude.techniques import catalogue

SCHEDULES = [name for name, t in catalogue().items() if t.facts.phase is SCHEDULE]


def etude(*arguments: str) -> int:
    """Run the command line in this process and return its exit code."""
    with pytest.raises(SystemExit) as left:
        cli.main(list(arguments))
    return int(left.value.code or 0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_can_be_drawn(name: str) -> None:
    curves = schedule_curves(name, n_epochs=4, n_steps=40)
    (line,) = curves.lines.values()
    assert len(line) == 40
    assert min(line) >= 0
    assert max(line) <= 1
    assert name in draw(curves).plain


def test_a_picture_of_four_rows_by_hand() -> None:
    curves = Curves("t", range(4), {"learning rate": [1.0, 1.0, 0.0, 0.0]}, 4, 1)
    drawn = draw(curves, width=40, height=5, braille=False).plain.splitlines()
    assert drawn == [
        "t",
        "",
        "  1 +*********************                   ",
        "    |                    *                   ",
        "0.5 +                    *                   ",
        "    |                    *                   ",
        "  0 +                    ********************",
        "    +----------------------------------------",
        "     0                   2   4 steps, 1 epoch",
    ]


def test_braille_has_eight_dots_to_a_character() -> None:
    flat = draw(Curves("t", range(2), {"learning rate": [1.0, 1.0]}, 2, 1), width=20, height=5).plain
    assert flat.splitlines()[2] == f"  1 ┤{chr(0x2809) * 20}"


def test_groups_have_lines_of_their_own() -> None:
    curves = schedule_curves("gradual_unfreezing", n_epochs=2, n_steps=20)
    assert list(curves.lines) == ["0: embedding", "1: layer.0", "2: layer.1", "3: head"]
    assert curves.lines["0: embedding"] == pytest.approx([0.0] * 10 + [0.005] * 10)
    assert curves.lines["3: head"] == [1.0] * 10 + [0.5] * 10
    assert "3: head: at most 1" in draw(curves).plain


def test_long_runs_are_sampled() -> None:
    assert len(schedule_curves("cosine", n_epochs=3, n_steps=1_000_000).steps) == 2000


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_files(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"curve{suffix}"
    save(schedule_curves("one_cycle", n_epochs=2, n_steps=50), path)
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    assert path.read_bytes().startswith(starts[suffix])


def test_the_command_draws(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert (
        etude("show", "one_cycle", "--plot", "--set", "pct_start=0.5", "--epochs", "3", "--steps", "60") == 0
    )
    out = capsys.readouterr().out
    assert out.startswith("one_cycle: factor of the learning rate\n")
    assert "60 steps, 3 epochs" in out
    path = tmp_path / "curve.png"
    assert etude("show", "linear", "--plot", str(path)) == 0
    assert capsys.readouterr().out == f"drawn in {path}\n"
    assert path.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sam", "--plot"], "sam sets no learning rate, so that there is nothing to draw"),
        (
            ["linear", "--plot", "curve.gif"],
            "'curve.gif'; end its name in .png, .svg, .pdf",
        ),
        (["linear", "--epochs", "3"], "FILE, --set, --epochs and --steps say what is drawn, and need --plot"),
        (
            ["linear", "--plot", "--steps", "0"],
            "10 epochs and 0 steps cannot be drawn; give at least",
        ),
        (["cosine", "--plot", "--set", "finl=1"], "unknown key 'finl' in [cosine]; did you mean 'final'?"),
        (["linear", "--plot", "no/such/folder/curve.png"], "the picture cannot be written to"),
    ],
)
def test_mistakes(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert etude("show", *arguments) == 2
    assert words in capsys.readouterr().err


def test_a_technique_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="there is no technique 'cosin'; did you mean 'cosine'"):
        schedule_curves("cosin")
