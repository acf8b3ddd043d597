"""The label embedding against cosines by hand, and beside the techniques of linear heads."""

import pytest
import torch
from torch.nn.functional import cosine_similarity

from etude.config.load import parse_config
from etude.core.task import Multiclass
from etude.errors import ConflictError
from etude.parts.label_embedding import scaled_cosine
from etude.runs.resolve import resolve_techniques
from etude.techniques import technique_class
from etude.techniques.heads.label_embedding import label_embedding_head
from etude.testing.harness import Setup, make_engine, train
from etude.testing.technique_suite import finite

LABEL_EMBEDDING = technique_class("label_embedding")


def test_scores_are_scaled_cosines() -> None:
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    labels = torch.randn(3, 7, generator=generator, dtype=torch.float64)
    expected = 12.5 * cosine_similarity(texts[:, None], labels[None], dim=2)
    found = scaled_cosine(texts, labels, torch.tensor(12.5, dtype=torch.float64))
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_only_directions_count() -> None:
    head = label_embedding_head(4, 3, dim=5, scale=20.0).eval()
    head.project.bias.data.zero_()
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    before = head(features)
    assert torch.allclose(head(100 * features), before, atol=1e-4)
    head.labels.data *= torch.tensor([[1.0], [10.0], [0.1]])
    assert torch.allclose(head(features), before, atol=1e-4)
    assert before.abs().max() <= 20.0


def test_the_nearest_label_is_the_prediction() -> None:
    head = label_embedding_head(3, 3, dim=3).eval()
    head.project.weight.data.copy_(torch.eye(3))
    head.labels.data.copy_(torch.eye(3))
    assert head(torch.tensor([[0.1, 0.9, 0.2], [0.0, 0.1, 5.0]])).argmax(dim=1).tolist() == [1, 2]


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_it_trains_with_every_loss_and_every_weight_moves(kind: str) -> None:
    recipe = {LABEL_EMBEDDING: {"dim": 6, "dropout": 0.0}, technique_class("class_weights"): {}}
    before = make_engine(recipe, Setup(kind=kind)).backbone.state_dict()
    after = train(recipe, Setup(kind=kind))
    assert finite(after)
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert {name for name in before if name.startswith("head.")} <= moved


@pytest.mark.parametrize("other", ["linear_probe", "zero_head", "multi_sample_dropout"])
def test_techniques_of_linear_heads_are_refused(other: str) -> None:
    with pytest.raises(ConflictError, match=f"label_embedding clashes with {other}: it is made for a linear"):
        make_engine({LABEL_EMBEDDING: {}, technique_class(other): {}}, Setup())


def test_the_recommended_probe_steps_aside() -> None:
    config = parse_config({"data": {"train": "a.csv"}, "techniques": {"label_embedding": {}}})
    names = {technique.key() for technique in resolve_techniques(config, Multiclass(["a", "b"]))}
    assert "label_embedding" in names
    assert "linear_probe" not in names
