"""What all optimizers keep to: late groups, changed settings, exact states, and missing packages."""

import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from etude.core.checkpoint import flatten, unflatten
from etude.core.phases import OPTIMIZER
from etude.errors import ConfigError
from etude.techniques import catalogue
from etude.techniques._optimizer_base import MEMORY, Assembly, Part
from etude.techniques.optimizers.adan import make_adan
from etude.testing.harness import Setup, make, make_engine, train

EVERY = {name: t for name, t in catalogue().items() if t.facts.phase is OPTIMIZER}


def optimizer_of(name: str) -> tuple[Optimizer, list[nn.Parameter]]:
    """The optimizer of a real engine over the tiny transformer, and its weights."""
    engine = make_engine({EVERY[name]: {"lr": 0.01}}, Setup())
    return engine.optimizer, list(engine.backbone.parameters())


def give_gradients(weights: list[nn.Parameter], step: int) -> None:
    for i, value in enumerate(weights):
        value.grad = torch.cos(torch.arange(value.numel()) * (i + 1.0) + step).reshape(value.shape)


def test_all_of_them_are_looked_at() -> None:
    assert set(EVERY) >= {
        "adafactor", "adam", "adamw", "adamw_8bit", "adan", "lamb", "lion", "muon", "nadam", "prodigy",
        "radam", "ranger", "rmsprop", "schedule_free", "sgd",
    }  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_every_optimizer_moves_the_weights_downhill(name: str) -> None:
    optimizer, weights = optimizer_of(name)
    before = [value.detach().clone() for value in weights]
    slopes = []
    for step in range(3):
        give_gradients(weights, 0)
        optimizer.step()
        moved = [(value.detach() - old).flatten() for value, old in zip(weights, before, strict=True)]
        slopes.append(float(sum(d @ v.grad.flatten() for d, v in zip(moved, weights, strict=True))))
        assert slopes[-1] < 0, step
    assert slopes[2] < slopes[1] < slopes[0]


@pytest.mark.parametrize("name", [name for name in EVERY if name != "prodigy"])
def test_a_group_that_thaws_late_starts_from_the_beginning(name: str) -> None:
    """Prodigy is left out: what it has learned of the distance is for all weights."""

    def end(n_frozen: int) -> list[torch.Tensor]:
        # All but the head are frozen at first, as gradual unfreezing does it.
        engine = make_engine({EVERY[name]: {"lr": 0.01}, catalogue()["head_lr"]: {"factor": 2.0}}, Setup())
        head = {id(value) for value in engine.backbone.head.parameters()}
        for step in range(n_frozen):
            weights = [v for v in engine.backbone.parameters() if id(v) in head]
            give_gradients(weights, step)
            engine.optimizer.step()
        body = [v for v in engine.backbone.parameters() if id(v) not in head]
        for step in range(4):
            give_gradients(body, step)
            engine.optimizer.step()
        return [value.detach() for value in body]

    for late, fresh in zip(end(7), end(0), strict=True):
        assert torch.equal(late, fresh)


@pytest.mark.parametrize("name", EVERY)
def test_a_changed_rate_and_decay_are_obeyed(name: str) -> None:
    optimizer, weights = optimizer_of(name)
    give_gradients(weights, 0)
    for group in optimizer.param_groups:
        group["lr"] = group["weight_decay"] = 0.0
    before = [value.detach().clone() for value in weights]
    optimizer.step()
    assert all(torch.equal(value, old) for value, old in zip(weights, before, strict=True))


@pytest.mark.parametrize("name", EVERY)
def test_the_state_survives_a_checkpoint_and_goes_back(name: str) -> None:
    optimizer, weights = optimizer_of(name)
    for step in range(2):
        give_gradients(weights, step)
        optimizer.step()
    kept = [value.detach().clone() for value in weights]
    held = {str(i): state for i, state in optimizer.state_dict()["state"].items()}
    tensors, numbers = flatten({"optimizer": held})
    tensors = {path: value.clone() for path, value in tensors.items()}
    assert all(isinstance(value, int | float) for value in numbers.values())

    def go_on() -> list[torch.Tensor]:
        for step in range(2, 5):
            give_gradients(weights, step)
            optimizer.step()
        return [value.detach().clone() for value in weights]

    first = go_on()
    state = {int(i): value for i, value in unflatten(tensors, numbers).get("optimizer", {}).items()}
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for value, old in zip(weights, kept, strict=True):
        value.data.copy_(old)
    for again, value in zip(go_on(), first, strict=True):
        assert torch.equal(again, value)


def test_counters_live_in_the_state_and_begin_anew_with_an_empty_one() -> None:
    w = nn.Parameter(torch.ones(3))
    optimizer = make_adan([{"params": [w], "lr": 0.1, "weight_decay": 0.0}], (0.98, 0.92, 0.99), 1e-8)

    def two_steps() -> torch.Tensor:
        w.data.fill_(1.0)
        for step in range(2):
            give_gradients([w], step)
            optimizer.step()
        return w.detach().clone()

    first = two_steps()
    assert optimizer.state_dict()["state"][MEMORY] == {"0.0.step": 2}
    optimizer.load_state_dict({"state": {}, "param_groups": optimizer.state_dict()["param_groups"]})
    assert torch.equal(two_steps(), first)


def test_settings_of_the_outer_groups_reach_their_part_only() -> None:
    one, two = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    parts = [
        Part(
            lambda groups: torch.optim.SGD(groups, momentum=0.5),
            settings=("lr", "weight_decay", "momentum"),
            takes=lambda value: value.dim() == 2,
        ),
        Part(lambda groups: torch.optim.AdamW(groups, eps=1e-8)),
    ]
    groups: list[dict[str, Any]] = [{"params": [one, two], "lr": 0.1, "weight_decay": 0.0, "name": "g"}]
    optimizer = Assembly(groups, parts)
    (group,) = optimizer.param_groups
    assert (group["momentum"], group["eps"], group["betas"], group["name"]) == (0.5, 1e-8, (0.9, 0.999), "g")
    group["eps"] = 1e9
    one.grad, two.grad = torch.ones(2, 2), torch.ones(2)
    optimizer.step()
    assert one.detach().unique().tolist() == pytest.approx([0.9])
    assert two.detach().unique().tolist() == pytest.approx([1.0])
    assert sorted(optimizer.state[one]) == ["momentum_buffer"]


NEEDED = dict.fromkeys(
    ("adan", "lamb", "lion", "ranger", "schedule_free"), ("pytorch_optimizer", "optimizers")
) | {"adamw_8bit": ("bitsandbytes", "quantised")}


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_package_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package, extra = NEEDED[name]
    monkeypatch.setitem(sys.modules, package, None)
    way_out = rf"run: pip install 'etude\[{extra}\]'"
    said = rf"^{name} needs the package '{package}', which is not installed; {way_out}$"
    with pytest.raises(ConfigError, match=said):
        make_engine({EVERY[name]: {}}, Setup())


@pytest.mark.parametrize("name", EVERY)
def test_the_default_trains(name: str) -> None:
    """Within the default run of 6 steps the weights move, and stay numbers."""
    engine = make_engine({EVERY[name]: {}}, Setup())
    before = {key: value.clone() for key, value in engine.backbone.state_dict().items()}
    engine.fit()
    after = engine.backbone.state_dict()
    assert any(not torch.equal(after[key], value) for key, value in before.items())


def test_bounds_are_shared_and_named() -> None:
    for technique in EVERY.values():
        for key, value, said in (
            ("lr", 0.0, "greater than 0"),
            ("weight_decay", -1e-9, "greater than or equal"),
        ):
            with pytest.raises(ValueError, match=rf"{key}\n.*{said}"):
                make(technique, {key: value})


def test_layer_wise_rates_reach_every_optimizer() -> None:
    """A head at a hundred times the rate ends elsewhere; one rate for all would not show."""
    for name, technique in EVERY.items():
        plain = train({technique: {}}, Setup(max_steps=3))
        fast = train({technique: {}, catalogue()["head_lr"]: {"factor": 100.0}}, Setup(max_steps=3))
        assert not torch.equal(plain["head.1.weight"], fast["head.1.weight"]), name
