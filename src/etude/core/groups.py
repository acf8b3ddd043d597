"""Parameter groups: every rule's word on every parameter, merged; each parameter exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from etude.core.backbone import Backbone
from etude.core.phases import OptimizerSpec, Parameter, Rule
from etude.core.technique import Context
from etude.errors import EtudeError


def describe_parameters(backbone: Backbone) -> list[Parameter]:
    """Return every parameter with its block, in the order of the blocks.

    Raises:
        EtudeError: the backbone's blocks leave a parameter out or hold one twice.
    """
    names = {id(value): name for name, value in backbone.named_parameters()}
    owners: dict[int, nn.Module] = {}
    for module in backbone.modules():
        for value in module.parameters(recurse=False):
            owners[id(value)] = module
    blocks = backbone.blocks()
    found: dict[int, Parameter] = {}
    for block, (block_name, module) in enumerate(blocks):
        for value in module.parameters():
            if id(value) in found:
                raise EtudeError(f"parameter {names[id(value)]} is in two blocks, one is '{block_name}'")
            owner = type(owners[id(value)]).__name__
            found[id(value)] = Parameter(
                name=names[id(value)],
                value=value,
                block=block,
                n_blocks=len(blocks),
                in_norm="Norm" in owner,
                in_embedding=owner.endswith("Embedding"),
                in_pooler=block_name == "pooler",
            )
    missing = [name for key, name in names.items() if key not in found]
    if missing:
        raise EtudeError(f"the backbone's blocks leave out {len(missing)} parameters, first {missing[0]}")
    return list(found.values())


@dataclass(slots=True)
class Group:
    """Parameters that share a learning rate, a decay and the step at which they begin to train."""

    name: str
    params: list[nn.Parameter]
    lr: float
    weight_decay: float
    frozen_until: int
    blocks: set[int]

    def for_optimizer(self) -> dict[str, Any]:
        """The group as torch's optimizers take it."""
        return {
            "params": self.params,
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "base_lr": self.lr,
            "name": self.name,
        }


def make_groups(
    backbone: Backbone, rules: Sequence[Rule], spec: OptimizerSpec, context: Context
) -> list[Group]:
    """Merge the rules of all techniques into groups.

    Learning-rate scales are multiplied, weight decay is off if any rule says so, and a parameter is
    frozen until the latest of the rules' times. A group is named by its first and its last block, as
    ``"0: embeddings to layer.5, no decay"``.
    """
    groups: dict[tuple[float, bool, int], Group] = {}
    for parameter in describe_parameters(backbone):
        lr_scale, no_decay, frozen_until = 1.0, False, 0
        for rule in rules:
            said = rule(parameter)
            lr_scale *= said.lr_scale
            no_decay |= said.no_decay
            if said.frozen_until is not None:
                frozen_until = max(frozen_until, context.steps(said.frozen_until))
        key = (lr_scale, no_decay, frozen_until)
        if key not in groups:
            decay = 0.0 if no_decay else spec.weight_decay
            groups[key] = Group("", [], spec.lr * lr_scale, decay, frozen_until, set())
        groups[key].params.append(parameter.value)
        groups[key].blocks.add(parameter.block)
    blocks = [name for name, _ in backbone.blocks()]
    for i, ((_, no_decay, _), group) in enumerate(groups.items()):
        span = dict.fromkeys((blocks[min(group.blocks)], blocks[max(group.blocks)]))
        group.name = f"{i}: {' to '.join(span)}{', no decay' if no_decay else ''}"
    return list(groups.values())


class Freezer:
    """Keeps the groups that do not train yet out of the gradients and in evaluation mode.

    NOTE[DIFF]: a frozen block also has no dropout, which most scripts leave on; its features are then
    the same in every epoch, so that they can be computed once.
    """

    def __init__(self, backbone: Backbone, groups: Sequence[Group]) -> None:
        self._backbone = backbone
        self._groups = groups
        self._changes = {group.frozen_until for group in groups} - {0}

    def apply(self, step: int) -> None:
        """Set ``requires_grad`` and the mode of every block for this step."""
        for group in self._groups:
            for value in group.params:
                value.requires_grad_(step >= group.frozen_until)
        self._backbone.train()
        for _, module in self._backbone.blocks():
            if not any(value.requires_grad for value in module.parameters()):
                module.eval()

    def changes_at(self, step: int) -> bool:
        """Whether some group begins to train at this step."""
        return step in self._changes

    def only_head_trains(self) -> bool:
        """Whether everything under the head is frozen at present."""
        return not any(
            value.requires_grad for _, module in self._backbone.blocks()[:-1] for value in module.parameters()
        )
