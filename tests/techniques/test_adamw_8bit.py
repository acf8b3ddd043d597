"""AdamW in 8 bits: which averages are bytes, how near it stays to AdamW, and its checkpoint."""

from pathlib import Path

import pytest
import torch

from etude.core.checkpoint import checkpoints, read_checkpoint
from etude.techniques import catalogue
from etude.techniques.optimizers.adamw_8bit import AdamW8bit, make_adamw_8bit
from etude.testing.harness import Setup, make_engine


def kept_in_bytes(min_size: int) -> set[str]:
    engine = make_engine({AdamW8bit: {"min_size": min_size}}, Setup(max_steps=1))
    engine.fit()
    state = engine.optimizer.state
    return {
        name
        for name, value in engine.backbone.named_parameters()
        if any(item.dtype == torch.uint8 for item in state[value].values() if isinstance(item, torch.Tensor))
    }


def test_large_matrices_are_in_bytes_and_embeddings_are_not() -> None:
    matrices = {f"layers.{i}.query_key.weight" for i in (0, 1)}
    assert kept_in_bytes(128) == matrices
    assert "embedding.weight" not in kept_in_bytes(1)
    assert len(kept_in_bytes(1)) == len(list(make_engine({AdamW8bit: {}}, Setup()).backbone.parameters())) - 1
    assert kept_in_bytes(4096) == set()


def test_a_quarter_of_the_memory() -> None:
    w = torch.nn.Parameter(torch.ones(64, 64))
    w.grad = torch.ones(64, 64)
    optimizer = make_adamw_8bit(
        [{"params": [w], "lr": 0.1, "weight_decay": 0.0}], lambda _: False, (0.9, 0.999), 1e-8
    )
    optimizer.step()
    # Two bytes a weight, a scale for every 256 of them, and the codes.
    codes = ("qmap1", "qmap2")
    used = {
        k: v.numel() * v.element_size()
        for k, v in optimizer.state[w].items()
        if k not in codes and k != "step"
    }
    assert used == {"state1": 4096, "state2": 4096, "absmax1": 64, "absmax2": 64}


def test_it_stays_near_adamw() -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(32, 32), torch.randn(50, 32, 32) + 0.5
    ends = []
    for small in (lambda _: False, lambda _: True):
        w = torch.nn.Parameter(start.clone())
        optimizer = make_adamw_8bit(
            [{"params": [w], "lr": 0.01, "weight_decay": 0.1}], small, (0.9, 0.999), 1e-8
        )
        for gradient in gradients:
            w.grad = gradient.clone()
            optimizer.step()
        ends.append(w.detach() - start)
    assert (ends[0] - ends[1]).norm() < 0.02 * ends[1].norm()
    assert not torch.equal(*ends)


def test_without_large_matrices_it_is_adamw() -> None:
    found = []
    for recipe in ({AdamW8bit: {"lr": 0.01, "min_size": 4096}}, {catalogue()["adamw"]: {"lr": 0.01}}):
        engine = make_engine(recipe, Setup())
        engine.fit()
        found.append(engine.backbone.state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_bytes_stay_bytes_in_a_checkpoint(tmp_path: Path) -> None:
    engine = make_engine({AdamW8bit: {"min_size": 16}}, Setup())
    engine.attach_folder(log=None, checkpoints=tmp_path)
    engine.fit()
    again = make_engine({AdamW8bit: {"min_size": 16}}, Setup())
    again.load_state(read_checkpoint(checkpoints(tmp_path)[-1]))
    weight, copy = engine.backbone.layers[0].out.weight, again.backbone.layers[0].out.weight
    for key in ("state1", "state2"):
        assert again.optimizer.state[copy][key].dtype == torch.uint8
        assert torch.equal(again.optimizer.state[copy][key], engine.optimizer.state[weight][key])


def test_the_default_bound_is_the_papers() -> None:
    assert catalogue()["adamw_8bit"].Config.model_fields["min_size"].default == 4096
    with pytest.raises(ValueError, match="min_size"):
        AdamW8bit.Config(name="adamw_8bit", min_size=0)
