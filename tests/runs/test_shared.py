"""Runs that share data and frozen features give bit for bit what each gives alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_project import write_project

from etude.config.load import load_config
from etude.core.predict import CachedFeatures
from etude.runs.build import Run, build
from etude.runs.shared import Shared, weights_fingerprint

FROZEN = [
    "techniques.freeze.until=1dur",
    "techniques.ema.enabled=false",
    "techniques.hidden_mixup.enabled=false",
]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "config.toml"


def trained(config: Path, overrides: list[str], shared: Shared | None) -> Run:
    run = build(load_config(config, overrides), shared=shared)
    if shared is not None:
        shared.lend_features(run.engine, run.config)
    run.engine.fit()
    return run


@pytest.mark.parametrize("overrides", [FROZEN, [], [*FROZEN[:2], "techniques.mixup.enabled=false"]])
def test_a_run_that_shares_is_the_run_alone(config: Path, overrides: list[str]) -> None:
    shared = Shared()
    trained(config, [*overrides, "optimizer.lr=0.01"], shared)
    together, alone = trained(config, overrides, shared), trained(config, overrides, None)
    for name, value in alone.backbone.state_dict().items():
        assert torch.equal(value, together.backbone.state_dict()[name]), name
    assert together.engine.scores() == alone.engine.scores()
    assert together.fingerprints() == alone.fingerprints()


def test_features_are_computed_once_and_only_where_all_is_frozen(config: Path) -> None:
    shared = Shared()
    first, second = trained(config, FROZEN, shared), trained(config, [*FROZEN, "optimizer.lr=0.01"], shared)
    assert first.data is second.data
    assert isinstance(first.engine.train, CachedFeatures)
    assert first.engine.train._features is second.engine.train._features  # type: ignore[attr-defined]
    assert not isinstance(trained(config, [], shared).engine.train, CachedFeatures)
    half = trained(config, ["techniques.freeze.until=0.5dur"], shared)
    assert not isinstance(half.engine.train, CachedFeatures)
    assert shared.lend_features(build(load_config(config, FROZEN), shared=shared).engine, first.config) > 0


def test_other_settings_of_the_data_are_other_data_and_old_ones_are_forgotten(config: Path) -> None:
    shared = Shared(keep=1)
    first = build(load_config(config), shared=shared)
    other_seed = build(load_config(config, ["seed=1"]), shared=shared)
    assert other_seed.data is not first.data
    assert shared.fingerprint(first.config, first.data) != shared.fingerprint(
        other_seed.config, other_seed.data
    )
    assert build(load_config(config), shared=shared).data is not first.data


def test_the_fingerprint_of_weights_sees_each_value_and_leaves_out_what_it_is_told() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))
    before, without = weights_fingerprint(model), weights_fingerprint(model, without=model[2])
    with torch.no_grad():
        model[2].weight[0, 0] += 1
    assert weights_fingerprint(model) != before
    assert weights_fingerprint(model, without=model[2]) == without
