"""Group rules: source 002's printed groups, exact names, and what a wrong name is told."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from etude.config.explain import validated
from etude.core.backbone import Backbone
from etude.core.groups import Group, make_groups
from etude.core.phases import GROUPS, MODEL, OptimizerSpec
from etude.core.plan import Plan
from etude.core.technique import Context
from etude.errors import ConfigError, ConflictError
from etude.techniques.groups.group_rules import GroupRules, GroupRulesConfig
from etude.testing.harness import Setup, make_engine

SPEC = OptimizerSpec(lr=0.01, weight_decay=0.01, make=torch.optim.AdamW)


class ResBlock(nn.Module):
    """Two linear layers with their norms, and a linear way around them: 9 tensors, 8 without the bypass."""

    def __init__(self, *, skip: bool) -> None:
        super().__init__()
        self.first, self.norm_1 = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.second, self.norm_2 = nn.Linear(4, 4), nn.BatchNorm1d(4)
        if skip:
            self.skip = nn.Linear(4, 4, bias=False)


class ResNet(Backbone):
    """Eleven blocks, so that ``layers.1`` and ``layers.10`` both exist."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ResBlock(skip=i > 0) for i in range(11))
        self.project_into_classification = nn.Linear(4, 10)
        self.head = self.project_into_classification

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return inputs["numbers"]

    def layers_from(self, embedding: Tensor, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        return (embedding,)

    def pool(self, layers: tuple[Tensor, ...], inputs: Mapping[str, Tensor]) -> Tensor:
        return layers[-1]

    def blocks(self) -> list[tuple[str, nn.Module]]:
        return [*((f"layer.{i}", layer) for i, layer in enumerate(self.layers)), ("head", self.head)]


def grouped(context: Context, *rules: Mapping[str, Any]) -> list[Group]:
    plan = Plan(context)
    plan.attach(GroupRules(GroupRulesConfig(rules=list(rules))))
    return make_groups(context.backbone, plan.many(GROUPS), SPEC, context)


def test_the_four_groups_that_source_002_prints(tiny_context: Callable[..., Context]) -> None:
    network = ResNet()
    groups = grouped(
        tiny_context(backbone=network),
        {"match": ["project_into_classification", "layers.0"], "no_decay": True},
        {"match": ["project_into_classification", "layers.2.skip.weight"], "lr_factor": 2.0},
    )
    found = {(round(g.lr, 9), g.weight_decay): len(g.params) for g in groups}
    n_all = len(list(network.parameters()))
    assert found == {(0.02, 0.01): 1, (0.02, 0.0): 2, (0.01, 0.0): 8, (0.01, 0.01): n_all - 11}
    # Every tensor is in exactly one group, and the optimizer takes the partition as it is.
    owners = [id(value) for group in groups for value in group.params]
    assert sorted(owners) == sorted(map(id, network.parameters()))
    optimizer = SPEC.make([group.for_optimizer() for group in groups])
    assert {(round(g["lr"], 9), g["weight_decay"]): len(g["params"]) for g in optimizer.param_groups} == found


def test_names_are_compared_part_by_part(tiny_context: Callable[..., Context]) -> None:
    """The substring "layers.1" would take the tensors of layers.10 along."""
    network = ResNet()
    first, *_ = [
        g
        for g in grouped(tiny_context(backbone=network), {"match": ["layers.1"], "lr_factor": 3.0})
        if g.lr == pytest.approx(0.03)
    ]
    assert {id(value) for value in first.params} == {id(value) for value in network.layers[1].parameters()}
    norms = grouped(tiny_context(backbone=network), {"match": ["layers.*.norm_1"], "no_decay": True})
    assert sorted(len(g.params) for g in norms) == [22, len(list(network.parameters())) - 22]


def test_arguments_are_not_changed(tiny_context: Callable[..., Context]) -> None:
    rules = {"match": ["layers.0", "layers.2.skip.weight"], "lr_factor": 2.0}
    before = {"match": list(rules["match"]), "lr_factor": 2.0}  # type: ignore[call-overload]
    grouped(tiny_context(backbone=ResNet()), rules)
    assert rules == before


def test_a_frozen_part_rests_until_its_time() -> None:
    rules = [{"match": ["layers"], "frozen_until": "1ep"}, {"match": ["layers.1"], "frozen_until": "0st"}]
    engine = make_engine({GroupRules: {"rules": rules}}, Setup())
    rests = {name: group.frozen_until for group in engine.groups for name in _names(engine, group)}
    assert rests["layers.0.out.weight"] == 3
    assert rests["layers.1.out.weight"] == rests["embedding.weight"] == rests["head.1.weight"] == 0
    before = engine.backbone.state_dict()["layers.0.out.weight"].clone()
    engine.fit()
    assert not torch.equal(engine.backbone.state_dict()["layers.0.out.weight"], before)


def _names(engine: Any, group: Group) -> list[str]:
    own = {id(value) for value in group.params}
    return [name for name, value in engine.backbone.named_parameters() if id(value) in own]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("layers.11", "; did you mean 'layers.1'?"),
        ("project_into_clasification", "; did you mean 'project_into_classification'?"),
        ("layer", "; did you mean 'layers'?"),
    ],
)
def test_a_name_that_nothing_has_is_one_clear_error(
    name: str, hint: str, tiny_context: Callable[..., Context]
) -> None:
    with pytest.raises(ConflictError) as raised:
        grouped(tiny_context(backbone=ResNet()), {"match": ["layers.0", name], "lr_factor": 2.0})
    words = f"rule 1 names '{name}' and nothing that trains in the model is called so{hint}"
    assert words in str(raised.value)


def test_names_that_an_edit_brings_are_looked_for_afterwards(tiny_context: Callable[..., Context]) -> None:
    def with_pooler(backbone: Backbone) -> Backbone:
        backbone.put_pooler(nn.Linear(8, 8))
        return backbone

    context = tiny_context()
    plan = Plan(context)
    plan.add(MODEL, with_pooler)
    plan.attach(GroupRules(GroupRulesConfig(rules=[{"match": ["pooler"], "lr_factor": 2.0}])))
    first, check = plan.many(MODEL)
    with pytest.raises(ConflictError, match="rule 1 names 'pooler'"):
        check(context.backbone)
    check(first(context.backbone))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (
            {"match": ["head"], "lr_factr": 2.0},
            "rules: rule 1: unknown key 'lr_factr'; did you mean 'lr_factor'?",
        ),
        ({"match": []}, "rule 1: match is [] and must be a list of texts with at least 1 items"),
        ({"match": ["head"], "lr_factor": 0.0}, "rule 1: lr_factor is 0.0 and must be a number above 0"),
    ],
)
def test_bad_rules_are_refused(rule: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        validated(GroupRulesConfig, {"rules": [rule]}, "techniques.group_rules")
    assert words in str(raised.value)


def test_rules_must_be_given() -> None:
    with pytest.raises(ValidationError, match="rules"):
        GroupRulesConfig()  # type: ignore[call-arg]
