"""Gradient checkpointing: the same bits with dropout on, and less kept on the way."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from etude.backbones.text import load_text_backbone
from etude.config.run import BackboneConfig
from etude.core.backbone import Backbone
from etude.core.phases import MODEL
from etude.core.plan import build_plan
from etude.core.task import make_task
from etude.core.technique import Context
from etude.techniques import technique_class
from etude.techniques.efficient.gradient_checkpointing import (
    GradientCheckpointing,
    GradientCheckpointingConfig,
    layers_of,
)
from etude.testing.harness import Recipe, Setup, make, train
from etude.testing.technique_suite import difference
from etude.testing.tiny import TinyTransformer


@pytest.mark.parametrize("others", ["sam", "r_drop", "stochastic_depth", "lora"])
def test_together_with_others_the_bits_are_the_same(others: str) -> None:
    recipe: Recipe = {technique_class(others): dict(technique_class(others).facts.example)}
    setup = replace(Setup(dropout=0.3), micro_batch_size=4)
    with_it = train({**recipe, GradientCheckpointing: {}}, setup)
    assert difference(with_it, train(recipe, setup)) == 0


def bytes_kept(backbone: Backbone, inputs: dict[str, torch.Tensor]) -> int:
    """The bytes that autograd holds after a forward pass, parameters left out."""
    kept: dict[int, int] = {}
    own = {p.data_ptr() for p in backbone.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        backbone.key_randomness(3)
        output = backbone(inputs)
    total = sum(kept.values())
    output.logits.sum().backward()
    return total


def wrap(backbone: Backbone) -> Backbone:
    task = make_task("multiclass", ["a", "b"])
    context = Context(task, backbone, np.ones(2), 8, 8, 1, 4, 0, lambda _path: backbone)
    techniques = [
        GradientCheckpointing(GradientCheckpointingConfig()),
        make(technique_class("cross_entropy"), {}),
    ]
    (edit,) = build_plan(techniques, context).many(MODEL)
    return edit(backbone)


def test_layers_are_those_between_the_embedding_and_the_head() -> None:
    backbone = TinyTransformer(3)
    assert layers_of(backbone) == list(backbone.layers)


@pytest.mark.minilm
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_real_model_keeps_less_and_has_the_same_gradients(precision: str) -> None:
    task = make_task("multiclass", ["a", "b"])
    found = []
    for checkpointing in (False, True):
        backbone = load_text_backbone(BackboneConfig(), task, seed=0).train()
        if checkpointing:
            wrap(backbone)
        texts = ["A dog runs over the meadow and barks."] * 8
        inputs = dict(backbone.tokenizer(texts, padding=True, return_tensors="pt"))
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            kept = bytes_kept(backbone, inputs)
        gradient = torch.cat([p.grad.flatten() for p in backbone.parameters() if p.grad is not None])
        found.append((kept, gradient))
    (whole, plain), (less, again) = found
    assert less < whole / 2
    if precision == "fp32":
        assert torch.equal(plain, again)
    else:  # the fast path of bf16 rounds elsewhere than transformers' own layers
        assert torch.nn.functional.cosine_similarity(plain, again, dim=0) > 0.999
