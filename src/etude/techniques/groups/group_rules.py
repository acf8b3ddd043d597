"""Group rules: learning rate, weight decay and freezing of named parts of the model.

Idea: some parts of a model want other numbers than the rest, and which they are only its maker knows.
Rules name them, and every parameter ends up in exactly one group.

Formula, with the rules r_1, r_2, ... that name a parameter, in their order:

* lr' = lr · f, with the factor f of the last of them that gives one, else 1
* λ' = 0 if the last of them that speaks of decay says so, else λ
* it rests until the time that the last of them that gives one says, else never

Paper: none; fairseq, Big Vision and others build their parameter groups so (Beyer et al. 2022,
github.com/google-research/big_vision).

When it helps: models of your own; one stubborn layer; recipes that name their exceptions.
When not: where a technique says the same without names: ``no_decay``, ``layerwise_lr``, ``head_lr``,
``freeze``.

Suggested values: factors of 0.1 to 10.

Cost: 1 pass; no memory.

Clashes: none; it merges with every other rule on groups: factors are multiplied, one word against decay
is enough, and the latest time counts.

A name is that of a parameter or of a module, which stands for all that it holds. Names are compared part
by part: ``layers.1`` is not ``layers.10``, and ``*`` is any one part: ``layers.*.norm``. A name that nothing
in the model has is an error. In a config file::

    [[techniques.group_rules.rules]]
    match = ["head", "layers.0"]
    no_decay = true

    [[techniques.group_rules.rules]]
    match = ["head"]
    lr_factor = 2.0
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from etude.config.fields import Strict, Time, setting
from etude.core.backbone import Backbone
from etude.core.phases import GROUPS, MODEL, GroupRule, Parameter
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConflictError, closest
from etude.techniques.groups import read_tables


class PartRule(Strict):
    """What one rule says of the parts that it names."""

    match: Annotated[list[str], Field(min_length=1)] = setting(help="names of modules or parameters")
    lr_factor: float | None = setting(None, help="factor of the learning rate", gt=0.0)
    no_decay: bool | None = setting(None, help="whether they get no weight decay")
    frozen_until: Time | None = setting(None, help="when they begin to train; '1dur' is never")


class GroupRulesConfig(TechniqueConfig):
    """Settings of the group rules."""

    name: Literal["group_rules"] = "group_rules"
    rules: list[PartRule] = setting(help="tables with match, and lr_factor, no_decay or frozen_until")

    @field_validator("rules", mode="before")
    @classmethod
    def _name_the_fault(cls, rules: Any) -> Any:
        return read_tables(PartRule, rules, "rule")


def names_it(pattern: str, name: str) -> bool:
    """Whether a pattern names a parameter or a module that holds it.

    Args:
        pattern: parts between dots; ``*`` is any one part.
        name: a parameter's name.

    >>> [names_it("layers.1", name) for name in ("layers.1.bias", "layers.10.bias", "more.layers.1.bias")]
    [True, False, False]
    >>> names_it("layers.*.norm", "layers.3.norm.bias"), names_it("head", "head.weight")
    (True, True)
    """
    wanted, parts = pattern.split("."), name.split(".")
    return len(wanted) <= len(parts) and all(
        part in ("*", found) for part, found in zip(wanted, parts, strict=False)
    )


def merged(name: str, rules: Sequence[PartRule]) -> GroupRule:
    """Return what the rules say of a parameter; of two that speak of the same, the later counts.

    >>> rules = [PartRule(match=["head"], no_decay=True, lr_factor=3.0)]
    >>> rules += [PartRule(match=["head.bias"], lr_factor=2.0)]
    >>> merged("head.bias", rules)
    GroupRule(lr_scale=2.0, no_decay=True, frozen_until=None)
    >>> merged("body.bias", rules)
    GroupRule(lr_scale=1.0, no_decay=False, frozen_until=None)
    """
    lr_scale, no_decay, frozen_until = 1.0, False, None
    for rule in rules:
        if any(names_it(pattern, name) for pattern in rule.match):
            lr_scale = lr_scale if rule.lr_factor is None else rule.lr_factor
            no_decay = no_decay if rule.no_decay is None else rule.no_decay
            frozen_until = frozen_until if rule.frozen_until is None else rule.frozen_until
    return GroupRule(lr_scale, no_decay, frozen_until)


def refuse_unknown(rules: Sequence[PartRule], backbone: Backbone) -> None:
    """Check that every name is one of the model's.

    Raises:
        ConflictError: nothing in the model has a name; it tells the closest.
    """
    names = [name for name, _ in backbone.named_parameters()]
    modules = [name for name, _ in backbone.named_modules() if name]
    for number, rule in enumerate(rules, start=1):
        for pattern in rule.match:
            if not any(names_it(pattern, name) for name in names):
                raise ConflictError(
                    f"group_rules: rule {number} names '{pattern}' and nothing that trains in the model is "
                    f"called so{closest(pattern, [*modules, *names])} (its parts are "
                    f"{', '.join(dict(backbone.named_children()))})"
                )


class GroupRules(Technique[GroupRulesConfig]):
    """Gives named parts their numbers."""

    Config = GroupRulesConfig
    facts = Facts(
        family="groups",
        phase=GROUPS,
        paper="Beyer et al. 2022, github.com/google-research/big_vision",
        neutral={"rules": []},
        example={"rules": [{"match": ["head"], "lr_factor": 2.0, "no_decay": True}]},
    )

    def attach(self, plan: Plan) -> None:
        rules = self.config.rules
        if not rules:
            return

        def check(backbone: Backbone) -> Backbone:
            refuse_unknown(rules, backbone)
            return backbone

        if plan.many(MODEL):
            # Names may come and go while techniques edit the model; so look when all of them have.
            plan.add(MODEL, check, rank=1000)
        else:
            check(plan.context.backbone)

        def rule(parameter: Parameter) -> GroupRule:
            return merged(parameter.name, rules)

        plan.add(GROUPS, rule)
