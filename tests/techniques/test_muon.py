"""Muon: orthogonal steps for hidden matrices, AdamW for everything else."""

import pytest
import torch

from etude.errors import ConfigError, ConflictError
from etude.techniques import catalogue
from etude.techniques.optimizers.muon import Muon, make_muon
from etude.testing.harness import Setup, make_engine


def step_of(gradient: torch.Tensor) -> torch.Tensor:
    w = torch.nn.Parameter(torch.zeros_like(gradient))
    w.grad = gradient
    groups = [{"params": [w], "lr": 1.0, "weight_decay": 0.0}]
    make_muon(groups, lambda _: True, 0.95, (0.9, 0.999), 1e-8).step()
    return -w.detach()


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_all_directions_of_a_step_have_about_one_length(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
    n = min(shape)
    gradient = u @ torch.diag(torch.logspace(0, -1.5, n)) @ v
    found = step_of(gradient) / (0.2 * max(shape) ** 0.5)
    sizes = torch.linalg.svdvals(found)
    assert sizes.max() < 1.25
    assert sizes.min() > 0.5
    # The directions themselves stay: the product with the polar factor is nearly symmetric.
    assert torch.trace(found.T @ (u @ v)) > 0.7 * n


def test_a_step_has_the_size_of_one_of_adamw() -> None:
    """0.2 to 0.4 is what AdamW's steps come to (2502.16982, section 2.2), whatever the shape."""
    for shape in ((8, 8), (8, 64), (64, 8)):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        assert 0.14 < step_of(gradient).square().mean().sqrt() < 0.26


def test_who_is_whose() -> None:
    engine = make_engine({Muon: {"lr": 0.01}}, Setup())
    engine.fit()
    kept = {name: sorted(engine.optimizer.state[v]) for name, v in engine.backbone.named_parameters()}
    muon = {name for name, keys in kept.items() if keys == ["momentum_buffer"]}
    assert muon == {f"layers.{i}.{matrix}.weight" for i in (0, 1) for matrix in ("query_key", "out")}
    assert kept["embedding.weight"] == kept["head.1.weight"] == ["exp_avg", "exp_avg_sq", "step"]


def test_what_is_left_to_adamw_is_adamws() -> None:
    ends = []
    for name in ("muon", "adamw"):
        settings = {"lr": 0.01, "weight_decay": 0.1}
        engine = make_engine({catalogue()[name]: settings}, Setup(max_steps=1))
        engine.fit()
        ends.append(engine.backbone.state_dict())
    assert torch.equal(ends[0]["embedding.weight"], ends[1]["embedding.weight"])
    assert not torch.equal(ends[0]["layers.0.out.weight"], ends[1]["layers.0.out.weight"])


def test_a_model_without_hidden_matrices_is_refused() -> None:
    said = "^muon needs a matrix between the first block and the head, and this model has none; use adamw$"
    with pytest.raises(ConflictError, match=said):
        make_engine({Muon: {}}, Setup(modality="table"))


def test_an_old_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(
        ConfigError, match=r"muon needs torch 2.9 or newer and this is .*; update torch or use"
    ):
        make_engine({Muon: {}}, Setup())
