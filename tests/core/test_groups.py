"""Parameter groups: every parameter once, and the rules of several techniques merged."""

from itertools import chain

import pytest
import torch
from torch import nn

from etude.config.fields import Time
from etude.core.backbone import Backbone
from etude.core.groups import Freezer, Group, describe_parameters, make_groups
from etude.core.phases import GroupRule, OptimizerSpec, Parameter
from etude.core.technique import Context
from etude.errors import EtudeError
from etude.techniques import technique_class
from etude.testing.harness import Setup, make_engine
from etude.testing.tiny import TinyMLP, TinyTransformer, tiny_task

SPEC = OptimizerSpec(lr=0.1, weight_decay=0.5, make=lambda groups: torch.optim.SGD(groups))
TASK = tiny_task("multiclass")


def context(backbone: Backbone) -> Context:
    return Context(TASK, backbone, torch.ones(3).numpy(), 24, 8, 3, 6, 0, lambda _path: backbone)


def grouped(backbone: Backbone, *rules) -> list[Group]:
    return make_groups(backbone, rules, SPEC, context(backbone))


def test_parameters_are_described_from_the_input_to_the_head() -> None:
    found = describe_parameters(TinyTransformer(3))
    assert [(p.name, p.block) for p in found] == [
        ("embedding.weight", 0),
        ("layers.0.norm.weight", 1), ("layers.0.norm.bias", 1),
        ("layers.0.query_key.weight", 1), ("layers.0.query_key.bias", 1),
        ("layers.0.out.weight", 1), ("layers.0.out.bias", 1),
        ("layers.1.norm.weight", 2), ("layers.1.norm.bias", 2),
        ("layers.1.query_key.weight", 2), ("layers.1.query_key.bias", 2),
        ("layers.1.out.weight", 2), ("layers.1.out.bias", 2),
        ("head.1.weight", 3), ("head.1.bias", 3),
    ]  # fmt: skip
    assert {p.n_blocks for p in found} == {4}
    assert [p.name for p in found if p.in_embedding] == ["embedding.weight"]
    assert [p.name for p in found if p.in_head] == ["head.1.weight", "head.1.bias"]
    assert {p.name.split(".")[-2] for p in found if p.in_norm} == {"norm"}


def test_without_rules_there_is_one_group() -> None:
    backbone = TinyMLP(3)
    (group,) = grouped(backbone)
    assert {id(p) for p in group.params} == {id(p) for p in backbone.parameters()}
    assert (group.lr, group.weight_decay, group.frozen_until, group.blocks) == (0.1, 0.5, 0, {0, 1})


def test_groups_are_named_by_their_blocks() -> None:
    groups = grouped(
        TinyTransformer(3), lambda p: GroupRule(lr_scale=2.0 if p.in_head else 1.0, no_decay=p.block == 0)
    )
    assert [group.name for group in groups] == ["0: embedding, no decay", "1: layer.0 to layer.1", "2: head"]


def test_rules_are_merged() -> None:
    """Scales multiply, one word against decay is enough, and the latest thaw counts."""

    def first(p: Parameter) -> GroupRule:
        return GroupRule(
            lr_scale=2.0, no_decay=p.in_head, frozen_until=Time(2, "st") if not p.in_head else None
        )

    def second(p: Parameter) -> GroupRule:
        return GroupRule(
            lr_scale=0.5 if p.in_head else 3.0, frozen_until=Time(1, "ep") if p.block == 0 else None
        )

    groups = grouped(TinyTransformer(3), first, second)
    told = [(round(g.lr, 9), g.weight_decay, g.frozen_until, g.blocks) for g in groups]
    assert told == [(0.6, 0.5, 3, {0}), (0.6, 0.5, 2, {1, 2}), (0.1, 0.0, 0, {3})]


@pytest.mark.parametrize("backbone", [TinyTransformer(3), TinyMLP(3)], ids=lambda b: type(b).__name__)
def test_every_parameter_is_in_exactly_one_group(backbone: Backbone) -> None:
    names = ("no_decay", "head_lr", "layerwise_lr", "freeze")
    modality = "text" if isinstance(backbone, TinyTransformer) else "table"
    engine = make_engine({technique_class(name): {} for name in names}, Setup(modality=modality))
    held = [id(p) for p in chain.from_iterable(group.params for group in engine.groups)]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in engine.backbone.parameters()}
    assert len(engine.groups) == (7 if modality == "text" else 4)
    assert [g["name"] for g in engine.optimizer.param_groups] == [g.name for g in engine.groups]


class _Careless(TinyMLP):
    """Its blocks are whatever a test says."""

    parts: list[tuple[str, nn.Module]]

    def blocks(self) -> list[tuple[str, nn.Module]]:
        return self.parts


def test_a_forgotten_parameter_is_named() -> None:
    backbone = _Careless(3)
    backbone.parts = [("head", backbone.head)]
    with pytest.raises(EtudeError, match=r"blocks leave out 2 parameters, first hidden\.0\.weight"):
        describe_parameters(backbone)


def test_a_parameter_in_two_blocks_is_named() -> None:
    backbone = _Careless(3)
    backbone.parts = [("hidden", backbone.hidden), ("again", backbone.hidden), ("head", backbone.head)]
    with pytest.raises(EtudeError, match=r"parameter hidden\.0\.weight is in two blocks, one is 'again'"):
        describe_parameters(backbone)


def test_frozen_blocks_rest_until_their_step() -> None:
    backbone = TinyTransformer(3, dropout=0.1)
    groups = grouped(backbone, lambda p: GroupRule(frozen_until=None if p.in_head else Time(4, "st")))
    freezer = Freezer(backbone, groups)
    freezer.apply(3)
    assert freezer.only_head_trains()
    assert not any(module.training for name, module in backbone.blocks() if name != "head")
    assert backbone.head.training
    assert [step for step in range(6) if freezer.changes_at(step)] == [4]
    freezer.apply(4)
    assert not freezer.only_head_trains()
    assert all(module.training for module in backbone.modules())
    assert all(value.requires_grad for value in backbone.parameters())


def test_a_partly_frozen_block_stays_in_training_mode() -> None:
    backbone = TinyTransformer(3)
    groups = grouped(backbone, lambda p: GroupRule(frozen_until=Time(1, "dur") if p.in_norm else None))
    freezer = Freezer(backbone, groups)
    freezer.apply(0)
    assert all(module.training for module in backbone.modules())
    assert {n for n, p in backbone.named_parameters() if not p.requires_grad} == {
        f"layers.{i}.norm.{part}" for i in range(2) for part in ("weight", "bias")
    }
