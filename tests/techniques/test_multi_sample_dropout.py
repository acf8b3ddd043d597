"""Multi-sample dropout: the mean of five logits, one pass at inference, and its neighbours on the head."""

import pytest
import torch
from torch import nn
from torch.nn.functional import dropout

from etude.errors import ConflictError
from etude.parts import make_part
from etude.parts.multi_sample_dropout import MultiSampleDropoutHead
from etude.techniques import technique_class
from etude.techniques.regularisation.multi_sample_dropout import linear_layer, rates_between
from etude.testing.harness import Setup, make_engine, train
from etude.testing.technique_suite import finite

RATES = [0.1, 0.2, 0.3, 0.4, 0.5]
TECHNIQUE = technique_class("multi_sample_dropout")


def head() -> MultiSampleDropoutHead:
    torch.manual_seed(1)
    return MultiSampleDropoutHead(6, 3, RATES)


def test_training_is_the_mean_of_five_logits() -> None:
    ours, x = head().double().train(), torch.randn(4, 6).double()
    torch.manual_seed(3)
    found = ours(x)
    torch.manual_seed(3)
    each = torch.stack([ours.out(dropout(x, rate)) for rate in RATES])
    assert (found - each.mean(0)).abs().max() < 1e-12
    assert not torch.allclose(each[0], each[4])


def test_inference_is_a_single_pass() -> None:
    ours, x = head().eval(), torch.randn(4, 6)
    assert torch.equal(ours(x), nn.functional.linear(x, ours.out.weight, ours.out.bias))


def test_default_rates_are_those_of_the_sources() -> None:
    assert rates_between(0.1, 0.5, 5) == RATES
    assert rates_between(0.5, 0.5, 3) == [0.5, 0.5, 0.5]
    assert rates_between(0.2, 0.4, 1) == [pytest.approx(0.3)]


def test_the_part_is_made_again_from_its_settings() -> None:
    ours = head()
    again = make_part(ours.name, ours.settings)
    again.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6)
    assert torch.equal(again.eval()(x), ours.eval()(x))


def test_weights_stay_and_only_dropout_is_new() -> None:
    plain, edited = make_engine({}, Setup()).backbone, make_engine({TECHNIQUE: {}}, Setup()).backbone
    assert isinstance(edited.head, MultiSampleDropoutHead)
    assert torch.equal(edited.head.out.weight, plain.head[1].weight)
    assert [layer.p for layer in edited.head.dropouts] == RATES


def test_it_goes_with_the_probe_the_zero_head_and_the_heads_rate() -> None:
    probe, head_lr, zero = (technique_class(n) for n in ("linear_probe", "head_lr", "zero_head"))
    assert finite(train({TECHNIQUE: {}, probe: {}, head_lr: {}}, Setup()))
    engine = make_engine({TECHNIQUE: {}, zero: {}, head_lr: {}}, Setup())
    assert not engine.backbone.head.out.weight.any()
    engine.fit()
    assert engine.backbone.head.out.weight.any()
    probed = make_engine({TECHNIQUE: {}, probe: {}}, Setup())
    before = probed.backbone.head.out.weight.clone()
    probed.fit()
    assert not torch.equal(probed.backbone.head.out.weight, before)


def test_logits_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head().train()(torch.randn(2, 6).bfloat16()).dtype == torch.float32


def test_other_heads_are_refused() -> None:
    with pytest.raises(ConflictError, match=r"one linear layer and this one is made of Linear, Tanh, Linear"):
        linear_layer(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)))


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"a rate is 1.0 and must lie in \[0, 1\)"):
        rates_between(0.1, 1.0, 5)
    with pytest.raises(ValueError, match="n is 0 and must be at least 1"):
        rates_between(0.1, 0.5, 0)
