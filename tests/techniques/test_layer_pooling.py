"""Layer pooling against its formula, and the layers it takes."""

import pytest
import torch

from etude.errors import ConfigError
from etude.parts.tokens import pool_cls, pool_last, pool_max, pool_mean
from etude.techniques import technique_class
from etude.techniques.heads.layer_pooling import layer_pooler
from etude.testing.harness import Setup, make_engine, train
from etude.testing.tiny import TinyTransformer, tiny_examples, tiny_task

POOLS = {"mean": pool_mean, "cls": pool_cls, "last": pool_last, "max": pool_max}


@pytest.mark.parametrize("tokens", POOLS)
def test_a_mixture_of_the_last_layers_then_of_the_tokens(tokens: str) -> None:
    generator = torch.Generator().manual_seed(0)
    layers = [torch.randn(2, 4, 3, generator=generator, dtype=torch.float64) for _ in range(5)]
    mask = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1]])
    pooler = layer_pooler(3, tokens).double()
    with torch.no_grad():
        pooler.weights.copy_(torch.tensor([0.25, -1.0, 2.0]))
    weights = torch.tensor([0.25, -1.0, 2.0], dtype=torch.float64).exp()
    mixed = sum(w / weights.sum() * layer for w, layer in zip(weights, layers[2:], strict=True))
    assert torch.allclose(pooler(layers, mask), POOLS[tokens](mixed, mask), rtol=0, atol=1e-12)


def test_one_layer_with_means_is_the_plain_model() -> None:
    plain = train({}, Setup(double=True))
    pooled = train({technique_class("layer_pooling"): {"layers": 1}}, Setup(double=True))
    assert all(torch.allclose(pooled[name], value, rtol=0, atol=1e-9) for name, value in plain.items())


def test_every_layer_gets_a_gradient_of_its_own() -> None:
    engine = make_engine({technique_class("layer_pooling"): {"layers": 2}}, Setup())
    engine.fit()
    weights = engine.backbone.pooler.weights  # type: ignore[union-attr]
    assert weights.shape == (2,)
    assert weights[0] != weights[1]


def test_more_layers_than_there_are_means_all_of_them() -> None:
    engine = make_engine({technique_class("layer_pooling"): {"layers": 12}}, Setup())
    assert engine.backbone.pooler.weights.shape == (2,)  # type: ignore[union-attr]


def test_a_backbone_that_gives_fewer_layers_than_it_has_blocks() -> None:
    backbone = TinyTransformer(3)
    backbone.put_pooler(layer_pooler(3))
    inputs = tiny_examples("text", tiny_task("multiclass")).inputs(torch.arange(2).numpy())
    with pytest.raises(ConfigError, match="gave 2 layers and layers = 3 are pooled"):
        backbone(inputs)
