"""The learning-rate finder: the readings of a curve, the sweep on a real run, and the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))
from tiny_project import CONFIG, etude, write_project

from etude.config.load import load_config
from etude.errors import ConfigError, RunError
from etude.runs.build import build
from etude.search.curve import SUGGESTIONS, smoothed, steepest, sweep_rates, valley
from etude.search.lr_finder import find_lr, sweep_run

MORE = """
[techniques.sam]
[techniques.length_buckets]
enabled = false
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "config.toml"


def test_the_mean_forgets_its_start() -> None:
    losses = np.linspace(3.0, 1.0, 40)
    weights = 0.9 ** np.arange(40)[::-1]
    assert smoothed([2.5] * 30, 0.98) == pytest.approx([2.5] * 30)
    assert smoothed(losses.tolist(), 0.9)[-1] == pytest.approx(float(losses @ weights / weights.sum()))


def test_readings_of_a_known_curve() -> None:
    """Flat, a logistic fall centred at 1e-3, an explosion from 1e-1 on."""
    rates = sweep_rates(1e-7, 10.0, 200)
    x = np.log10(rates)
    losses = 2.0 - 1.0 / (1.0 + np.exp(-3.0 * (x + 3.0))) + np.exp(4.0 * (x + 0.5))
    assert np.log10(steepest(rates, losses)) == pytest.approx(-3.0, abs=0.1)
    minimum = rates[losses.argmin()]
    assert SUGGESTIONS["minimum/10"](rates, losses) == pytest.approx(minimum / 10)
    assert SUGGESTIONS["between"](rates, losses) ** 2 == pytest.approx(steepest(rates, losses) * minimum / 10)


def test_the_valley_is_that_of_fastai() -> None:
    """Against the double loop of the original."""
    losses = np.random.default_rng(0).standard_normal(60).cumsum()
    lengths, end, start = [1] * 60, 0, 0
    for i in range(1, 60):
        for j in range(i):
            if losses[i] < losses[j] and lengths[i] < lengths[j] + 1:
                lengths[i] = lengths[j] + 1
            if lengths[end] < lengths[i]:
                end = i
                start = end - lengths[end]
    third = (end - start) / 3
    assert valley(np.arange(1.0, 61.0), losses) == start + int(third) + int(third / 2) + 1


def test_a_run_is_left_as_it_was_and_the_sweep_repeats(project: Path) -> None:
    project.write_text(CONFIG + MORE)
    run = build(load_config(project))
    before = {name: value.clone() for name, value in run.backbone.state_dict().items()}
    first, n_stages = sweep_run(run, steps=12)
    assert n_stages == 1
    assert all(torch.equal(before[name], value) for name, value in run.backbone.state_dict().items())
    assert not run.engine.optimizer.state
    again, _ = sweep_run(run, steps=12)
    assert first.losses.tolist() == again.losses.tolist()
    run.engine.fit()
    plain = build(load_config(project))
    plain.engine.fit()
    mine, theirs = run.backbone.state_dict(), plain.backbone.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_groups_keep_the_ratios_of_their_rates(project: Path) -> None:
    """At 10 times the factor of the head, the same curve of the head is reached at a tenth of the rate."""
    frozen = ["techniques.freeze.until='1dur'", "techniques.ema.enabled=false",
              "techniques.hidden_mixup.enabled=false", "techniques.linear_probe.enabled=false"]  # fmt: skip
    plain = find_lr(
        load_config(project, [*frozen, "techniques.head_lr.factor=1"]), low=1e-4, high=1.0, steps=20
    )
    scaled = find_lr(
        load_config(project, [*frozen, "techniques.head_lr.factor=10"]), low=1e-5, high=0.1, steps=20
    )
    assert scaled.sweep.losses == pytest.approx(plain.sweep.losses, rel=1e-4)
    assert scaled.suggestion == pytest.approx(plain.suggestion / 10, rel=0.06)


def test_the_best_reading_is_the_one_that_trains_to_the_lowest_validation_loss(project: Path) -> None:
    config = load_config(project, ["data.validation=0.5", "train.epochs=2"])
    found = find_lr(config, steps=30, choose="best")
    assert found.tried.keys() == found.suggestions.keys()
    assert found.tried[found.chosen] == min(found.tried.values())
    run = build(
        load_config(project, ["data.validation=0.5", "train.epochs=2", f"optimizer.lr={found.suggestion}"])
    )
    run.engine.fit()
    assert run.engine.evaluate()["loss"] == pytest.approx(found.tried[found.chosen])
    with pytest.raises(ConfigError, match="compares validation losses and there is no validation part"):
        find_lr(load_config(project, ["data.validation=false"]), choose="best")
    with pytest.raises(ConfigError, match="'best' trains whole runs and stage 2 is a part of one"):
        find_lr(config, choose="best", stage=2)


def test_each_stage_of_a_gradual_unfreezing(project: Path) -> None:
    config = load_config(project, ["techniques.gradual_unfreezing.head='2ep'"])
    head, whole = find_lr(config, steps=12), find_lr(config, steps=12, stage=2)
    assert (head.stage, whole.stage, whole.n_stages) == (1, 2, 2)
    assert head.sweep.losses.tolist() != whole.sweep.losses.tolist()
    assert "stage 2 of 2" in whole.toml()
    with pytest.raises(ConfigError, match="stage 3 is asked for and the run has stages 1 to 2"):
        find_lr(config, steps=12, stage=3)


def test_what_makes_no_sweep_is_refused(project: Path) -> None:
    config = load_config(project)
    with pytest.raises(ConfigError, match="one stage, since nothing thaws later"):
        find_lr(config, stage=2)
    with pytest.raises(ConfigError, match=r"a sweep from 1 to 0.1 is none"):
        find_lr(config, low=1.0, high=0.1)
    with pytest.raises(ConfigError, match="a sweep of 3 steps says nothing; give 8 or more"):
        find_lr(config, steps=3)
    with pytest.raises(ConfigError, match="'deepest' is no reading of the curve; choose from between"):
        find_lr(config, choose="deepest")
    with pytest.raises(
        RunError, match=r"while the rate rose was not finite or 4 times its minimum after .* steps"
    ):
        find_lr(config, low=1e4, high=1e9)


def test_a_loss_that_is_not_finite_from_the_start(project: Path) -> None:
    run = build(load_config(project, ["techniques.linear_probe.enabled=false"]))
    with torch.no_grad():
        for value in run.backbone.parameters():
            value.fill_(float("nan"))
    with pytest.raises(RunError, match="before any training was not finite"):
        sweep_run(run, steps=12)


def test_missing_training_data(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project.parent / "messages.csv").unlink()
    assert etude("find-lr", "config.toml") == 2
    assert "messages.csv" in capsys.readouterr().err


def test_the_command_writes_into_the_config_alone_what_it_found(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write_text(CONFIG + "# my notes\n[optimizer]  # mine\nlr = 1e-4  # a guess\n")
    assert (
        etude("find-lr", "config.toml", "--steps", "30", "--json", "--quiet", "--plot", "lr.png", "--apply")
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    text = project.read_text()
    assert f'[optimizer]  # mine\nname = "adamw"\nlr = {found["lr"]}  # a guess\n' in text
    assert text.startswith(CONFIG + "# my notes\n")
    assert load_config(project).optimizer == {"name": "adamw", "lr": found["lr"]}
    assert Path("lr.png").read_bytes()[1:4] == b"PNG"
    assert set(found["suggestions"]) == set(SUGGESTIONS)


def test_the_curve_in_the_terminal(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert etude("find-lr", "config.toml", "--steps", "30", "--quiet", "--plot", "terminal") == 0
    said = capsys.readouterr().out
    assert "adamw: training loss by learning rate" in said
    assert "^ between" in said or "between" in said
    assert "<- chosen" in said
    assert '[optimizer]\nname = "adamw"\nlr = ' in said


def test_a_picture_and_a_stage_that_are_refused_before_the_sweep(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert etude("find-lr", "config.toml", "--plot", "lr.gif") == 2
    assert "end its name in .png, .svg, .pdf" in capsys.readouterr().err
    assert etude("find-lr", "config.toml", "--stage", "2", "--apply") == 2
    assert "--apply writes optimizer.lr, the rate of the first stage" in capsys.readouterr().err
