"""LAWA: the mean of the last k by hand, in real trainings, with BatchNorm and after a stop."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from etude.core.phases import AVERAGE
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context
from etude.techniques import technique_class
from etude.techniques.averaging.lawa import LAWA, Latest, LAWAConfig
from etude.testing.harness import Setup, make_engine, weights
from etude.testing.technique_suite import difference, resume_difference


def attached(context: Context, **settings: Any) -> LAWA:
    technique = LAWA(LAWAConfig(**settings))
    technique.attach(Plan(context))
    return technique


def test_it_is_the_mean_of_the_last_k(tiny_context: Callable[..., Context]) -> None:
    network, points = nn.Linear(3, 2).double(), []
    lawa = attached(tiny_context(), k=3, every="5st")
    for step in range(30):
        with torch.no_grad():
            network.weight.add_(torch.sin(network.weight * 10 + step))
        lawa.update(network, Moment(0, step, step // 10, 10, 30))
        if (step + 1) % 5 == 0:
            points.append(network.weight.detach().clone())
        raw = network.weight.detach().clone()
        with lawa.lend(network):
            expected = torch.stack(points[-3:]).mean(dim=0) if points else raw
            torch.testing.assert_close(network.weight.detach(), expected, rtol=0, atol=1e-14)
        assert torch.equal(network.weight, raw)


def test_what_is_kept_is_a_copy() -> None:
    latest, weight = Latest(2), torch.zeros(2)
    latest.take({"w": weight})
    weight.add_(1.0)
    assert latest.mean()["w"].tolist() == [0.0, 0.0]
    assert Latest(2).mean() == {}


def test_the_kept_weights_are_the_mean_of_the_epochs_ends() -> None:
    ends: list[dict[str, torch.Tensor]] = []
    engine = make_engine({technique_class("lawa"): {"k": 2}}, Setup(epochs=4))
    engine.optimizer.register_step_post_hook(
        lambda *_: ends.append({n: v.detach().clone() for n, v in engine.backbone.named_parameters()})
    )
    engine.fit()
    found = weights(engine)
    for name, value in ends[8].items():
        torch.testing.assert_close(found[f"kept.{name}"], (value + ends[11][name]) / 2)
        assert torch.equal(found[name], ends[11][name])


def test_batch_norm_fits_the_mean_at_the_end() -> None:
    engine = make_engine({technique_class("lawa"): {}}, Setup(modality="image", epochs=4))
    engine.fit()
    found = weights(engine)
    assert not torch.equal(found["kept.stem.1.running_var"], found["stem.1.running_var"])
    assert found["kept.stem.1.num_batches_tracked"] == 1
    assert engine.plan.techniques["lawa"].settle(engine) is False


@pytest.mark.parametrize("modality", ["text", "image"])
def test_a_stop_changes_nothing(modality: Any) -> None:
    setup = Setup(modality=modality, epochs=4, dropout=0.2)
    assert resume_difference({technique_class("lawa"): {"k": 2}}, setup, step=10) == 0


def test_state_is_whole(tiny_context: Callable[..., Context]) -> None:
    network, lawa = nn.Linear(2, 2), attached(tiny_context(), k=12, every="1st")
    for step in range(30):
        with torch.no_grad():
            network.weight.add_(1.0)
        lawa.update(network, Moment(0, step, 0, 10, 30))
    again = attached(tiny_context(), k=12, every="1st")
    again.load_state_dict(lawa.state_dict())
    assert len(lawa.state_dict()) == 12 * 2
    assert difference(lawa.state_dict(), again.state_dict()) == 0


def test_k_one_is_absent(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(LAWA(LAWAConfig(k=1)))
    assert plan.entries() == []
    plan.attach(LAWA(LAWAConfig()))
    assert plan.one(AVERAGE) is not None


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValidationError, match="every is 0st and must be longer"):
        LAWAConfig(every="0st")
