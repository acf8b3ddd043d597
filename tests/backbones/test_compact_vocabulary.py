"""The compact vocabulary trains exactly as the whole table does."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tiny_checkpoints import ARCHITECTURES
from torch import nn

from etude.backbones.text import TextBackbone, load_text_backbone
from etude.backbones.vocabulary import CompactEmbedding, can_compact
from etude.config.run import BackboneConfig
from etude.core.task import Task

Make = Callable[..., BackboneConfig]
USED = np.array([6, 9, 11, 14], dtype=np.int64)


def batch(step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    ids = torch.from_numpy(USED)[torch.randint(len(USED), (4, 6), generator=generator)]
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


def train(backbone: TextBackbone, optimizer: torch.optim.Optimizer) -> None:
    for step in range(4):
        backbone.key_randomness(step)
        logits = backbone.train()(batch(step)).logits
        nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_is_bit_equal(architecture: str, config: Make, task: Task) -> None:
    full = load_text_backbone(config(architecture), task, seed=0)
    compact = load_text_backbone(config(architecture), task, seed=0)
    assert compact.compact(USED)
    n_rows = len(set(USED) | set(compact.special_ids))
    assert compact.network.get_input_embeddings().weight.shape[0] == n_rows
    assert compact.blocks()[0][0] == "embeddings"
    for backbone in (full, compact):
        train(backbone, torch.optim.AdamW(backbone.parameters(), lr=0.01, weight_decay=0.0, fused=True))
    compact.expand()
    assert type(compact.network.get_input_embeddings()) is nn.Embedding
    mine, theirs = full.state_dict(), compact.state_dict()
    assert set(mine) == set(theirs)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_tokens_outside_have_their_value_of_before_training() -> None:
    full = nn.Embedding(10, 3, padding_idx=0)
    before = full.weight.detach().clone()
    compact = CompactEmbedding(full, np.array([0, 4, 7]))
    with torch.no_grad():
        compact.weight += 1.0
    inside, outside = compact(torch.tensor([[4, 7]])), compact(torch.tensor([[4, 8]]))
    assert torch.equal(inside[0, 0], before[4] + 1)
    assert torch.equal(outside[0], torch.stack([before[4] + 1, before[8]]))
    outside.sum().backward()
    assert compact.weight.grad is not None
    assert compact.weight.grad.sum(1).tolist() == [0.0, 3.0, 0.0]
    assert list(compact.state_dict()) == ["weight"]
    assert torch.equal(compact.expand().weight[[4, 8]], torch.stack([before[4] + 1, before[8]]))


def test_padding_has_no_gradient() -> None:
    compact = CompactEmbedding(nn.Embedding(10, 3, padding_idx=2), np.array([2, 4]))
    compact(torch.tensor([[2, 4]])).sum().backward()
    assert compact.weight.grad is not None
    assert compact.weight.grad.sum(1).tolist() == [0.0, 3.0]


def test_shared_and_special_tables_are_left_alone() -> None:
    tied = nn.ModuleDict({"in": nn.Embedding(10, 3), "out": nn.Linear(3, 10, bias=False)})
    tied["out"].weight = tied["in"].weight
    assert not can_compact(tied, tied["in"])
    assert not can_compact(nn.Module(), nn.Embedding(10, 3, max_norm=1.0))


def test_a_second_call_changes_nothing(config: Make, task: Task) -> None:
    backbone = load_text_backbone(config("bert"), task, seed=0)
    assert backbone.compact(USED)
    assert not backbone.compact(USED)
