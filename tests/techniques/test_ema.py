"""The moving average against torch's AveragedModel, lending, and its state."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from etude.core.phases import AVERAGE
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context
from etude.techniques import technique_class
from etude.techniques.averaging.ema import EMA, EMAConfig, decay_at
from etude.testing.harness import Setup, make_engine, train


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def shift(network: nn.Module, step: int) -> None:
    """Change every weight, as an optimizer would."""
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.sin(value * 10 + step), alpha=0.1)


def test_equals_torch_averaged_model(moment: Moment) -> None:
    network, ema = model(), EMA(EMAConfig(decay=0.9, warmup=False))
    theirs = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for step in range(6):
        shift(network, step)
        network(torch.randn(8, 3))
        ema.update(network, moment)
        theirs.update_parameters(network)
    expected = theirs.module.state_dict()
    with ema.lend(network):
        assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


def test_equals_the_sum_by_hand(moment: Moment) -> None:
    network, ema = nn.Linear(2, 1, bias=False).double(), EMA(EMAConfig(decay=0.8, warmup=True))
    expected = torch.zeros(1, 2).double()
    for t in range(5):
        shift(network, t)
        decay = 0.0 if t == 0 else min(0.8, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * network.weight.detach()
        ema.update(network, moment)
    with ema.lend(network):
        torch.testing.assert_close(network.weight.detach(), expected, rtol=0, atol=1e-14)


def test_raw_weights_come_back_bit_for_bit(moment: Moment) -> None:
    network, ema = model(), EMA(EMAConfig())
    for step in range(3):
        shift(network, step)
        ema.update(network, moment)
    raw = {name: value.clone() for name, value in network.state_dict().items()}
    lent = ema.lend(network)
    lent.__enter__()
    assert not torch.equal(network[0].weight, raw["0.weight"])
    assert not lent.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert all(torch.equal(value, raw[name]) for name, value in network.state_dict().items())


def test_before_the_first_step_it_lends_the_weights_themselves() -> None:
    network = model()
    before = network[0].weight.detach().clone()
    with EMA(EMAConfig()).lend(network):
        assert torch.equal(network[0].weight, before)


def test_weights_that_thaw_later_are_averaged_as_well(moment: Moment) -> None:
    network, ema = model(), EMA(EMAConfig(decay=0.5, warmup=False))
    network[0].requires_grad_(False)
    ema.update(network, moment)
    old = network[0].weight.detach().clone()
    network[0].requires_grad_(True)
    shift(network, 1)
    ema.update(network, moment)
    with ema.lend(network):
        lent = network[0].weight.detach().clone()
    torch.testing.assert_close(lent, (old + network[0].weight.detach()) / 2)
    assert network[0].weight.requires_grad


def test_resumed_state_goes_on_bit_for_bit(moment: Moment) -> None:
    network, ema = model(), EMA(EMAConfig())
    shift(network, 0)
    ema.update(network, moment)
    resumed = EMA(EMAConfig())
    resumed.load_state_dict(ema.state_dict())
    for step in range(1, 4):
        shift(network, step)
        ema.update(network, moment)
        resumed.update(network, moment)
    ours, theirs = ema.state_dict(), resumed.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(torch.as_tensor(ours[k]), torch.as_tensor(theirs[k])) for k in ours)


def test_tied_weights_are_averaged_once(moment: Moment) -> None:
    network, ema = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), EMA(EMAConfig(decay=0.5, warmup=False))
    network[1].weight = network[0].weight
    ema.update(network, moment)
    old = network[0].weight.detach().clone()
    shift(network, 1)
    ema.update(network, moment)
    with ema.lend(network):
        assert network[1].weight is network[0].weight
        lent = network[0].weight.detach().clone()
    torch.testing.assert_close(lent, (old + network[0].weight.detach()) / 2)


def test_decay_zero_is_absent(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(EMA(EMAConfig(decay=0.0)))
    assert plan.entries() == []
    plan.attach(EMA(EMAConfig(decay=0.9)))
    assert plan.one(AVERAGE) is not None


def test_the_default_averages_over_many_steps() -> None:
    """A decay of 0.1, as one of the sources has it, keeps a tenth of the past and hardly averages."""
    assert EMAConfig().decay >= 0.99
    search = EMAConfig.model_fields["decay"].json_schema_extra
    assert isinstance(search, dict)
    assert search["search"]["low"] >= 0.9  # type: ignore[index, call-overload]
    assert decay_at(0, 0.999, warmup=True) == pytest.approx(0.1)
    assert decay_at(10_000, 0.999, warmup=True) == 0.999


def test_raw_and_averaged_weights_are_both_kept() -> None:
    engine = make_engine({technique_class("ema"): {"decay": 0.9}}, Setup())
    engine.fit()
    state = engine.state()
    raw, shadow = state["model"], state["techniques"]["ema"]
    for name, value in engine.backbone.named_parameters():
        assert torch.equal(raw[name], value)
        assert not torch.equal(shadow[f"shadow.{name}"], value)


def test_training_never_sees_the_average() -> None:
    setup = Setup(dropout=0.2)
    found = train({technique_class("ema"): {}}, setup)
    plain = train({}, setup)
    assert all(torch.equal(found[name], value) for name, value in plain.items() if name[:5] != "kept.")


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"decay is 1.0 and must lie in \[0, 1\)"):
        decay_at(3, 1.0, warmup=False)
