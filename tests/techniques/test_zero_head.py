"""The zero head: zero logits, a loss of log C, still layers below, and the recommended probe aside."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from etude.config.load import parse_config
from etude.core.task import Multiclass
from etude.errors import ConflictError
from etude.runs.resolve import resolve_techniques
from etude.techniques import technique_class
from etude.techniques.heads.zero_head import last_linear, scale_layer
from etude.testing.harness import Recipe, Setup, make_engine
from etude.testing.tiny import tiny_examples

SGD = technique_class("sgd")


def recipe(**settings: float) -> Recipe:
    return {technique_class("zero_head"): settings, SGD: {"lr": 0.1, "momentum": 0.0}}


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_all_logits_are_zero_and_the_first_loss_is_that_of_chance(kind: str) -> None:
    engine = make_engine(recipe(), Setup(kind=kind, max_steps=1))
    lines: list[float] = []
    engine.attach_folder(log=lambda record: lines.append(record["train"]["loss"]), checkpoints=None)
    engine.settings = replace(engine.settings, log_every=1)
    inputs = tiny_examples("text", engine.plan.context.task).inputs(torch.arange(4).numpy())
    n_classes = engine.plan.context.task.n_classes
    assert torch.equal(engine.backbone(inputs).logits, torch.zeros(4, n_classes))
    engine.fit()
    # The sum over labels is divided by their number, as torch does.
    chance = math.log(2) if kind == "multilabel" else math.log(n_classes)
    assert lines == [pytest.approx(chance, abs=1e-6)]


def test_the_first_step_moves_only_the_head() -> None:
    engine = make_engine(recipe(), Setup(max_steps=1))
    before = {name: value.clone() for name, value in engine.backbone.state_dict().items()}
    engine.fit()
    moved = {
        name for name, value in engine.backbone.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {"head.1.weight", "head.1.bias"}
    longer = make_engine(recipe(), Setup(max_steps=2))
    longer.fit()
    after = longer.backbone.state_dict()
    assert not torch.equal(after["embedding.weight"], before["embedding.weight"])


def test_a_scale_between_keeps_the_direction() -> None:
    plain = make_engine({}, Setup()).backbone.head[1].weight
    scaled = make_engine(recipe(scale=0.25), Setup()).backbone.head[1].weight
    assert torch.equal(scaled, plain * 0.25)


def test_zero_is_written_over_what_is_not_finite() -> None:
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data.fill_(float("nan"))
    scale_layer(layer, 0.0)
    assert torch.equal(layer.weight.data, torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"scale is -1\.0 and must be at least 0"):
        scale_layer(layer, -1.0)


def test_a_head_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(ConflictError, match="needs a head with a linear layer and this one is a Sequential"):
        last_linear(nn.Sequential(nn.Tanh()))


def names(**techniques: dict[str, float]) -> dict[str, object]:
    config = parse_config({"data": {"train": "a.csv"}, "techniques": techniques})
    return {t.key(): t.config for t in resolve_techniques(config, Multiclass(["a", "b"]))}


def test_the_recommended_probe_steps_aside() -> None:
    assert "linear_probe" in names()
    chosen = names(zero_head={})
    assert "linear_probe" not in chosen
    # A head that starts without a probe has far to go.
    assert chosen["head_lr"].factor > names()["head_lr"].factor  # type: ignore[attr-defined]


def test_both_by_name_are_refused() -> None:
    both = {technique_class("linear_probe"): {}, **recipe()}
    with pytest.raises(ConflictError, match="zero_head clashes with linear_probe: both give the head"):
        make_engine(both, Setup())
