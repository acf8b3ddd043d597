"""Steps outside of the engine's loop: they leave nothing behind, whatever the techniques are."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from etude.config.load import parse_config
from etude.core.checkpoint import flatten
from etude.core.engine import Engine
from etude.errors import ConfigError
from etude.search.auto_epochs import train_auto_epochs
from etude.search.batch_size import find_batch_size
from etude.search.lr_finder import find_lr
from etude.search.probe import Probe, untouched
from etude.techniques import catalogue
from etude.testing.harness import Setup, make_engine

SETUPS = [Setup(dropout=0.2), Setup("table", dropout=0.2), Setup("image"), Setup(kind="multilabel"),
          Setup("table", kind="binary")]  # fmt: skip


def engine_of(name: str) -> Engine:
    """A run with the technique, on the first of the tiny backbones that can carry it."""
    refused: Exception | None = None
    for setup in SETUPS:
        try:
            return make_engine({catalogue()[name]: {}}, setup)
        except ConfigError as error:
            refused = error
    pytest.skip(str(refused))


def everything(engine: Engine) -> dict[str, Any]:
    tensors, numbers = flatten(engine.state())
    with engine.final_weights():
        kept = {f"kept.{name}": value.clone() for name, value in engine.backbone.state_dict().items()}
    return {**tensors, **numbers, **kept}


def same(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else bool(a == b) or (a != a and b != b)


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_a_run_trains_as_if_nothing_had_been_tried(name: str) -> None:
    plain, tried = engine_of(name), engine_of(name)
    with untouched(tried):
        probe = Probe(tried)
        probe.start()
        probe.train(4)
        batches = probe.batches(0)
        for _ in range(3):
            for group in probe.groups:
                group["lr"] = 0.5
            probe.step(*next(batches))
    assert all(value.grad is None for value in tried.backbone.parameters())
    before, after = plain.state(), tried.state()
    assert flatten(before)[1] == flatten(after)[1]
    plain.fit()
    tried.fit()
    wanted, found = everything(plain), everything(tried)
    assert set(wanted) == set(found)
    assert [key for key in wanted if not same(wanted[key], found[key])] == []


@pytest.mark.parametrize("kind", ["linear", "trees"])
def test_models_that_take_no_steps_are_refused(kind: str) -> None:
    config = parse_config({"data": {"train": "rows.csv"}, "backbone": {"kind": kind}})
    for what, search in {
        "find-lr": find_lr,
        "find-batch-size": find_batch_size,
        "--auto-epochs": train_auto_epochs,
    }.items():
        with pytest.raises(
            ConfigError, match=f'{what} is for networks, .* a model of kind "{kind}" does not'
        ):
            search(config)
