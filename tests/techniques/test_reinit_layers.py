"""Which layers are drawn afresh, how, and that nothing else moves."""

import math

import pytest
import torch
from tiny_contexts import make_context
from torch import nn

from etude.core.backbone import Backbone
from etude.core.phases import MODEL
from etude.core.plan import Plan
from etude.errors import ConflictError
from etude.techniques.initialisation.reinit_layers import (
    ReinitLayers,
    ReinitLayersConfig,
    draw_afresh,
    usual_std,
)
from etude.testing.tiny import TinyTransformer


def edited(backbone: Backbone, seed: int = 0, **settings: object) -> set[str]:
    """Edit the backbone and return the names of what changed."""
    before = {name: value.clone() for name, value in backbone.named_parameters()}
    plan = Plan(make_context(backbone=backbone, seed=seed))
    plan.attach(ReinitLayers(ReinitLayersConfig(**settings)))
    for edit in plan.many(MODEL):
        edit(backbone)
    return {name for name, value in backbone.named_parameters() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_the_top_layers_alone_are_drawn(layers: int) -> None:
    backbone = TinyTransformer(3, n_blocks=2)
    with torch.no_grad():
        for value in backbone.parameters():
            value.add_(1.0)
    touched = {name.rsplit(".", 2)[0] for name in edited(backbone, layers=layers)}
    assert touched == {f"layers.{i}" for i in (1, 0)[:layers]}
    for layer in list(backbone.layers)[2 - layers :]:
        assert torch.equal(layer.norm.weight, torch.ones(8))
        assert not layer.norm.bias.any()
        assert not layer.out.bias.any()


def test_draws_are_normal_and_keyed() -> None:
    one, same, other = (TinyTransformer(3, d_model=64, n_blocks=1) for _ in range(3))
    edited(one, std=0.05)
    edited(same, std=0.05)
    edited(other, seed=1, std=0.05)
    weight = one.layers[0].query_key.weight
    assert float(weight.detach().std()) == pytest.approx(0.05, rel=0.03)
    assert abs(float(weight.detach().mean())) < 4 * 0.05 / math.sqrt(weight.numel())
    assert torch.equal(weight, same.layers[0].query_key.weight)
    assert not torch.equal(weight, other.layers[0].query_key.weight)


def test_the_layers_of_a_head_are_poolers_too() -> None:
    backbone = TinyTransformer(3)
    backbone.head = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    assert edited(backbone, layers=0) == {"head.0.weight", "head.0.bias"}
    assert edited(backbone, layers=0, pooler=False) == set()


def test_the_architecture_names_the_deviation() -> None:
    backbone = TinyTransformer(3)
    assert usual_std(backbone) == 0.02
    backbone.network = nn.Identity()
    backbone.network.config = type("Config", (), {"initializer_range": 0.01})()  # type: ignore[assignment]
    assert usual_std(backbone) == 0.01


def test_more_layers_than_there_are_is_refused() -> None:
    with pytest.raises(
        ConflictError, match=r"reinit_layers.layers is 3 and the backbone has 2 layers between its embedding"
    ):
        edited(TinyTransformer(3), layers=3)
    with pytest.raises(ValueError, match=r"std is -1.0 and must be above 0"):
        draw_afresh(nn.Linear(2, 2), -1.0, 0)
