"""Which parameters keep their weight decay, on a real backbone and through the real groups."""

from collections.abc import Callable

import torch

from etude.core.groups import make_groups
from etude.core.phases import GROUPS, OptimizerSpec
from etude.core.plan import Plan
from etude.core.technique import Context
from etude.techniques.groups.no_decay import NoDecay, NoDecayConfig


def decays(context: Context, **settings: bool) -> dict[str, float]:
    """The weight decay of every parameter."""
    plan = Plan(context)
    plan.attach(NoDecay(NoDecayConfig(**settings)))
    spec = OptimizerSpec(1.0, 0.01, torch.optim.SGD)
    groups = make_groups(context.backbone, plan.many(GROUPS), spec, context)
    names = {id(value): name for name, value in context.backbone.named_parameters()}
    return {names[id(value)]: group.weight_decay for group in groups for value in group.params}


def test_only_matrices_decay(tiny_context: Callable[..., Context]) -> None:
    kept = {name for name, decay in decays(tiny_context()).items() if decay > 0}
    assert kept == {"dense.weight", "head.weight"}


def test_embeddings_may_decay(tiny_context: Callable[..., Context]) -> None:
    kept = {name for name, decay in decays(tiny_context(), embeddings=False).items() if decay > 0}
    assert kept == {"embeddings.weight", "dense.weight", "head.weight"}


def test_both_off_is_absent(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(NoDecay(NoDecayConfig(vectors=False, embeddings=False)))
    assert plan.entries() == []
