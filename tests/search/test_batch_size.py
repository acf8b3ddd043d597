"""The batch-size finder: the estimators against known numbers, the memory, the command, and bad input."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))
from tiny_project import etude, write_project

from etude.config.load import load_config
from etude.core.observe import Reporter
from etude.errors import ConfigError, RunError
from etude.runs.build import build
from etude.search.batch_size import find_batch_size, noise_of
from etude.search.memory import largest, read_size, show_size
from etude.search.noise_scale import noise_scale, two_sizes


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "config.toml"


def test_linear_regression_on_gaussian_rows_has_the_noise_of_theory() -> None:
    """With x ~ N(0, I) in D dimensions, error d of the weights and noise s: tr(Σ) = D(|d|² + s²) + |d|²."""
    d_in, s, small, parts, repeats = 6, 0.7, 4, 8, 4000
    weights = torch.linspace(-1.0, 1.0, d_in, dtype=torch.float64)
    drawn = torch.Generator().manual_seed(0)
    x = torch.randn(repeats, parts, small, d_in, generator=drawn, dtype=torch.float64)
    noise = s * torch.randn(repeats, parts, small, generator=drawn, dtype=torch.float64)
    # The loss is half the squared error, and the true weights are zero.
    gradients = (x * (x @ weights - noise)[..., None]).mean(dim=2)
    norms = gradients.square().sum(-1).mean(1).numpy()
    large = gradients.mean(dim=1).square().sum(-1).numpy()
    found = noise_scale(*two_sizes(norms, large, small, small * parts))
    squared = float(weights.square().sum())
    trace = d_in * (squared + s * s) + squared
    assert found.trace == pytest.approx(trace, rel=0.05)
    assert found.squared_norm == pytest.approx(squared, rel=0.05)
    assert found.low < trace / squared < found.high
    assert found.high - found.low < 0.2 * trace / squared


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        pairs = rng.multivariate_normal([20.0, 2.0], [[9.0, -1.0], [-1.0, 1.0]], size=30)
        found = noise_scale(pairs[:, 0], pairs[:, 1])
        covered += found.low <= 10.0 <= found.high
    assert 0.9 < covered / 400 < 0.98


def test_a_gradient_that_is_lost_in_the_noise_has_no_upper_bound() -> None:
    rng = np.random.default_rng(1)
    found = noise_scale(rng.normal(10, 1, 12), rng.normal(0.0, 1.0, 12))
    assert math.isinf(found.high)
    assert found.low > 0
    with pytest.raises(ValueError, match="1 estimate has no uncertainty"):
        noise_scale(np.ones(1), np.ones(1))
    with pytest.raises(ValueError, match="the batches have 8 and 4 rows"):
        two_sizes(np.ones(1), np.ones(1), 8, 4)


@pytest.mark.parametrize("limit", [109, 110, 215, 500, 5000])
def test_the_largest_size_is_exact_and_the_limit_is_never_far_exceeded(limit: int) -> None:
    tried: list[int] = []

    def peak_of(size: int) -> int:
        tried.append(size)
        return 100 + 10 * size

    size, peaks = largest(peak_of, limit, 300)
    assert size == min((limit - 100) // 10, 300)
    assert len(peaks) == len(tried)
    assert max(100 + 10 * size for size in tried[2:] or [0]) <= limit


PEAK = """
import torch
from etude.search.memory import free_memory, peak_memory

with peak_memory(torch.device("cpu")) as before:
    pass
with peak_memory(torch.device("cpu")) as peak:
    torch.ones(40 * 2**20, dtype=torch.uint8).add_(1)
assert peak.bytes - before.bytes > 30 * 2**20, (peak, before)
assert free_memory() > 0
"""


def test_the_peak_holds_what_was_freed_again() -> None:
    # In a process of its own: one that has run other tests may have had a higher peak already.
    subprocess.run([sys.executable, "-c", PEAK], check=True)


def test_sizes_in_words() -> None:
    assert read_size("2 GiB") == 2 * 2**30
    assert show_size(read_size("2GiB")) == "2.00 GiB"
    for text in ("much", "-1GiB", "4 pounds", ""):
        with pytest.raises(ConfigError, match="is no amount of memory; write it as 4GiB or 500MB"):
            read_size(text)


def test_a_run_is_left_as_it_was(project: Path) -> None:
    run = build(load_config(project))
    plain = build(load_config(project))
    found = noise_of(run, 4, Reporter())
    assert found.n == 12
    assert found.trace > 0
    run.engine.fit()
    plain.engine.fit()
    mine, theirs = run.backbone.state_dict(), plain.backbone.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_the_noise_depends_on_no_technique_of_whole_batches(project: Path) -> None:
    """Clipping and mixing change the step, and not the gradient that is measured."""
    config = load_config(project, ["techniques.clip.enabled=false", "techniques.hidden_mixup.enabled=false"])
    more = load_config(project, ["techniques.clip.max_norm=0.001", "techniques.hidden_mixup.alpha=0.4"])
    assert noise_of(build(config), 0, Reporter()) == noise_of(build(more), 0, Reporter())


def test_the_command_finds_and_writes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tomllib.loads(project.read_text())
    assert etude("find-batch-size", "config.toml", "--most", "16", "--json", "--quiet", "--apply") == 0
    found = json.loads(capsys.readouterr().out)
    after = tomllib.loads(project.read_text())
    assert after["train"].pop("batch_size") == found["batch_size"] == 8
    assert after["train"].pop("micro_batch_size") == found["micro_batch_size"] == 8
    assert found["fits"]["rows"] == 16
    assert found["accumulation"] == 1
    before["train"].pop("batch_size")
    assert after == before


def test_what_was_found_in_words(project: Path) -> None:
    found = find_batch_size(load_config(project, ["train.batch_size=16"]), most=4)
    said = "\n".join(found.sentences())
    assert "micro-batch: 4 or more rows of length" in said
    assert f"effective batch size: {found.batch_size} rows = 4 in a forward pass x 1 device x" in said
    assert found.accumulation == found.batch_size // 4
    assert found.linear_lr == pytest.approx(found.lr * found.batch_size / 16, rel=0.01)


def test_memory_that_does_not_suffice(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load_config(project)
    with pytest.raises(
        RunError, match=r"a step of one row takes .* and the limit is 1\.0 MiB; give more with"
    ):
        find_batch_size(config, memory="1MiB")
    with pytest.raises(ConfigError, match="--memory is 0, in which nothing fits"):
        find_batch_size(config, memory="0GiB")
    assert etude("find-batch-size", "config.toml", "--memory", "lots") == 2
    assert "'lots' is no amount of memory" in capsys.readouterr().err
    (project.parent / "messages.csv").unlink()
    assert etude("find-batch-size", "config.toml") == 2
    assert "messages.csv" in capsys.readouterr().err
