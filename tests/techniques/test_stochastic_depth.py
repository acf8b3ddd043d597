"""Stochastic depth: rates by the paper's rule, layers that are the identity, and evaluation untouched."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_contexts import make_context
from torch import Tensor, nn
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertEncoder

from etude.core.phases import ADJUST, GRADIENT, MODEL
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.errors import ConflictError
from etude.techniques import technique_class
from etude.techniques.regularisation.stochastic_depth import (
    StochasticDepth,
    StochasticDepthConfig,
    branch_factors,
    drop_rates,
    scaling_hook,
)
from etude.testing.harness import Setup, train
from etude.testing.technique_suite import difference
from etude.testing.tiny import TinyTransformer, tiny_examples, tiny_task

INPUTS = tiny_examples("text", tiny_task("multiclass")).inputs(torch.arange(4).numpy())


def attached(rate: float, n_blocks: int = 4) -> tuple[Plan, TinyTransformer]:
    backbone = TinyTransformer(3, n_blocks=n_blocks)
    plan = Plan(make_context(backbone=backbone))
    plan.attach(StochasticDepth(StochasticDepthConfig(rate=rate)))
    edited = plan.many(MODEL)[0](backbone)
    assert edited is backbone
    return plan, backbone


def hidden(backbone: TinyTransformer) -> tuple[Tensor, ...]:
    """The embedding and every layer's features, of four texts."""
    embedding = backbone.embed(INPUTS)
    return embedding, *backbone.layers_from(embedding, INPUTS)


def test_rates_rise_linearly_to_the_last() -> None:
    """Equation 4 of the paper with a survival of 0.5 in the last of 54 blocks."""
    rates = drop_rates(54, 0.5)
    assert rates[-1] == 0.5
    assert [round(1 - rate, 6) for rate in rates] == [
        round(1 - layer / 54 * 0.5, 6) for layer in range(1, 55)
    ]
    # The paper's expected depth, "E(L~) ≈ 40".
    assert sum(1 - rate for rate in rates) == pytest.approx(40.25)


def test_layers_are_the_identity_or_their_branch_is_scaled(moment: Moment) -> None:
    plan, backbone = attached(0.8)
    whole = hidden(backbone.train())
    mask = INPUTS["attention_mask"].unsqueeze(-1)
    rates, seen = drop_rates(4, 0.8), set()
    for step in range(30):
        now = replace(moment, step=step)
        plan.many(ADJUST)[0](backbone, now)
        factors = branch_factors(rates, now.numpy("stochastic_depth").random(4).tolist())
        found = hidden(backbone)
        before = found[0]
        for layer, factor, after in zip(backbone.layers, factors, found[1:], strict=True):
            branch = type(layer).forward(layer, before, mask) - before  # around the hook
            torch.testing.assert_close(after, before + factor * branch, rtol=0, atol=1e-6)
            assert torch.equal(after, before) == (factor == 0.0)
            seen.add(factor == 0.0)
            before = after
        plan.many(GRADIENT)[0]([], now)
        assert all(torch.equal(a, b) for a, b in zip(hidden(backbone), whole, strict=True))
    assert seen == {True, False}


def test_how_often_each_layer_is_left_out(moment: Moment) -> None:
    rates = torch.tensor(drop_rates(4, 0.5))
    draws = [replace(moment, step=step).numpy("stochastic_depth").random(4).tolist() for step in range(1000)]
    left_out = torch.tensor([branch_factors(rates.tolist(), draw) for draw in draws]) == 0
    # Four standard errors of 1,000 draws are at most 0.064.
    assert ((left_out.float().mean(0) - rates).abs() < 0.064).all()


def test_evaluation_and_frozen_layers_have_all(moment: Moment) -> None:
    plan, backbone = attached(0.9)
    whole = hidden(backbone.eval())
    plan.many(ADJUST)[0](backbone, moment)
    assert all(torch.equal(a, b) for a, b in zip(hidden(backbone), whole, strict=True))
    backbone.train()
    backbone.layers.eval()
    assert all(torch.equal(a, b) for a, b in zip(hidden(backbone), whole, strict=True))


def test_a_layer_that_is_left_out_has_a_gradient_of_zero(moment: Moment) -> None:
    _, backbone = attached(0.5, n_blocks=2)
    layer = backbone.layers[0]
    layer._forward_hooks.clear()
    layer.register_forward_hook(scaling_hook([0.0], 0), with_kwargs=True)
    hidden(backbone.train())[-1].square().sum().backward()
    assert layer.out.weight.grad is not None
    assert not layer.out.weight.grad.any()
    assert backbone.layers[1].out.weight.grad.any()


def test_transformers_layers_in_a_row_are_skipped() -> None:
    """Layers of transformers that give a tensor, called as the library calls them."""
    config = BertConfig(hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=8,
                        attn_implementation="eager")  # fmt: skip
    torch.manual_seed(0)
    encoder, x = BertEncoder(config).train(), torch.randn(2, 4, 8)
    factors = [0.0, 0.0, 0.0]
    for i, layer in enumerate(encoder.layer):
        layer.register_forward_hook(scaling_hook(factors, i), with_kwargs=True)
    assert torch.equal(encoder(x).last_hidden_state, x)
    factors[:] = [1.0, 1.0, 1.0]
    assert not torch.allclose(encoder(x).last_hidden_state, x)


def test_layers_that_give_a_tuple_keep_the_rest_of_it() -> None:
    class Layer(nn.Module):
        def forward(self, hidden_states: Tensor) -> tuple[Any, ...]:
            return hidden_states + 3.0, "attentions"

    layer = Layer().train()
    layer.register_forward_hook(scaling_hook([2.0], 0), with_kwargs=True)
    found, rest = layer(hidden_states=torch.zeros(2))
    assert found.tolist() == [6.0, 6.0]
    assert rest == "attentions"


def test_training_differs_and_the_saved_names_do_not() -> None:
    recipe, setup = {technique_class("stochastic_depth"): {"rate": 0.5}}, Setup()
    found, plain = train(recipe, setup), train({}, setup)
    assert found.keys() == plain.keys()
    assert difference(found, plain) > 0


def test_a_backbone_of_one_layer_is_refused() -> None:
    with pytest.raises(ConflictError, match="at least 2 layers and TinyTransformer has 1; remove"):
        attached(0.1, n_blocks=1)


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"last is 1.0 and must lie in \[0, 1\)"):
        drop_rates(3, 1.0)
