"""Embeddings at N(0, 0.02²), the row of the padding at zero, and tables that train some of their rows."""

import numpy as np
import pytest
import torch
from tiny_contexts import make_context
from torch import nn

from etude.backbones.vocabulary import CompactEmbedding
from etude.core.phases import MODEL
from etude.core.plan import Plan
from etude.core.rng import torch_generator
from etude.errors import ConflictError
from etude.techniques.initialisation.init_embeddings import (
    InitEmbeddings,
    InitEmbeddingsConfig,
    draw_table,
    normal_rows,
)
from etude.testing.tiny import TinyTransformer, tiny_backbone


def test_tables_alone_are_drawn() -> None:
    backbone = TinyTransformer(3, d_model=256)
    others = {n: v.clone() for n, v in backbone.named_parameters() if not n.startswith("embedding")}
    plan = Plan(make_context(backbone=backbone))
    plan.attach(InitEmbeddings(InitEmbeddingsConfig()))
    (edit,) = plan.many(MODEL)
    edit(backbone)
    assert float(backbone.embedding.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert all(torch.equal(v, others[n]) for n, v in backbone.named_parameters() if n in others)


def test_the_padding_is_zero() -> None:
    table = nn.Embedding(20, 4, padding_idx=2)
    draw_table(table, 0.02, torch_generator(0, "test"))
    assert not table.weight[2].any()
    assert bool(table.weight[3].any())


def test_a_compact_table_is_drawn_as_the_whole_one() -> None:
    whole = nn.Embedding(20, 4, padding_idx=0)
    compact = CompactEmbedding(whole, np.array([0, 3, 7]))
    draw_table(whole, 0.02, torch_generator(0, "test"))
    draw_table(compact, 0.02, torch_generator(0, "test"))
    assert torch.equal(compact.expand().weight, whole.weight)
    assert torch.equal(compact(torch.tensor([[3, 5]])), whole(torch.tensor([[3, 5]])))


def test_a_backbone_without_embeddings_is_refused() -> None:
    context = make_context()
    context = make_context(backbone=tiny_backbone("table", context.task))
    with pytest.raises(ConflictError, match="init_embeddings needs embeddings and TinyMLP has none; remove"):
        Plan(context).attach(InitEmbeddings(InitEmbeddingsConfig()))
    with pytest.raises(ValueError, match=r"std is 0.0 and must be above 0"):
        normal_rows(2, 2, 0.0, torch_generator(0), None)
