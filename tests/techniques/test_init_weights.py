"""First weights: each scheme's variance by its formula, each layer type's scheme, and the scope."""

import math

import pytest
import torch
from tiny_contexts import make_context
from torch import nn

from etude.core.phases import MODEL
from etude.core.plan import Plan
from etude.core.rng import torch_generator
from etude.techniques.initialisation.init_weights import (
    InitWeights,
    InitWeightsConfig,
    Scheme,
    draw,
    initialise,
)
from etude.testing.tiny import TinyMLP

N_IN, N_OUT = 300, 500


def drawn(scheme: Scheme, *shape: int, std: float = 0.02) -> torch.Tensor:
    weight = torch.full(shape, 9.0, dtype=torch.float64)
    draw(weight, scheme, torch_generator(0, scheme), std)
    return weight


@pytest.mark.parametrize(
    ("scheme", "variance"),
    [
        ("xavier_uniform", 2 / (N_IN + N_OUT)),
        ("xavier_normal", 2 / (N_IN + N_OUT)),
        ("kaiming_uniform", 2 / N_IN),
        ("kaiming_normal", 2 / N_IN),
        ("normal", 0.02**2),
        # A normal distribution cut off at two deviations has 0.7737 of its variance left.
        ("trunc_normal", 0.773741 * 0.02**2),
    ],
)
def test_variance_by_the_formula(scheme: Scheme, variance: float) -> None:
    weight = drawn(scheme, N_OUT, N_IN)
    assert float(weight.var()) == pytest.approx(variance, rel=0.02)
    assert abs(float(weight.mean())) < 5 * math.sqrt(variance / weight.numel())


def test_bounds_of_the_uniform_and_the_cut() -> None:
    assert float(drawn("xavier_uniform", N_OUT, N_IN).abs().max()) <= math.sqrt(6 / (N_IN + N_OUT))
    assert float(drawn("kaiming_uniform", N_OUT, N_IN).abs().max()) <= math.sqrt(6 / N_IN)
    assert float(drawn("trunc_normal", N_OUT, N_IN).abs().max()) <= 0.04


def test_kernels_count_all_their_inputs() -> None:
    assert float(drawn("kaiming_normal", 64, 32, 3, 3).var()) == pytest.approx(2 / (32 * 9), rel=0.03)


def test_orthogonal_and_keep() -> None:
    weight = drawn("orthogonal", 5, 8)
    assert torch.allclose(weight @ weight.T, torch.eye(5, dtype=torch.float64), atol=1e-12)
    assert float(drawn("keep", 2, 2).min()) == 9.0
    with pytest.raises(ValueError, match=r"the shape \(4,\) and schemes need two dimensions"):
        drawn("normal", 4)


def test_each_layer_type_has_its_scheme_and_norms_keep_their_values() -> None:
    network = nn.ModuleDict(
        {
            "linear": nn.Linear(40, 40),
            "conv": nn.Conv2d(8, 8, 3),
            "norm": nn.LayerNorm(4),
            "rnn": nn.GRU(16, 16),
            "table": nn.Embedding(9, 4),
        }
    )
    table = network["table"].weight.clone()
    config = InitWeightsConfig(scope="all", linear="orthogonal", conv="normal", std=0.5)
    initialise(network, config, seed=0)
    eye = torch.eye(40)
    assert torch.allclose(network["linear"].weight @ network["linear"].weight.T, eye, atol=1e-5)
    assert float(network["conv"].weight.detach().std()) == pytest.approx(0.5, rel=0.1)
    for gate in network["rnn"].weight_hh_l0.chunk(3):
        assert torch.allclose(gate @ gate.T, torch.eye(16), atol=1e-5)
    assert not any(bool(value.any()) for name, value in network["rnn"].named_parameters() if "bias" in name)
    assert not network["conv"].bias.any()
    assert torch.equal(network["norm"].weight, torch.ones(4))
    assert torch.equal(network["table"].weight, table)


@pytest.mark.parametrize(("scope", "hidden_moves"), [("head", False), ("all", True)])
def test_scope(scope: str, hidden_moves: bool) -> None:
    backbone = TinyMLP(3)
    before = backbone.hidden[0].weight.clone(), backbone.head.weight.clone()
    plan = Plan(make_context(backbone=backbone))
    plan.attach(InitWeights(InitWeightsConfig(scope=scope)))
    (edit,) = plan.many(MODEL)
    edit(backbone)
    assert torch.equal(backbone.hidden[0].weight, before[0]) is not hidden_moves
    assert not torch.equal(backbone.head.weight, before[1])
