"""What optimizers share: their settings, their place in the plan, and one optimizer made of others."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer

from etude.config.fields import SearchRange, setting
from etude.core.phases import OPTIMIZER, GroupRule, OptimizerSpec, Parameter
from etude.core.plan import Plan
from etude.core.technique import Technique, TechniqueConfig
from etude.extras import require

Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
Groups = list[dict[str, Any]]
MEMORY = -1
"""The key, in an optimizer's state, of numbers that belong to no single parameter."""


def learning_rate(default: float, low: float, high: float) -> Any:
    """Declare the learning rate: its default and where a tuner may look."""
    return setting(default, help="peak learning rate", gt=0.0, search=SearchRange(low, high, "log"))


def decoupled_decay(default: float, low: float = 1e-3, high: float = 0.3) -> Any:
    """Declare a weight decay that acts on the weights alone."""
    said = "share of a weight that a step at rate 1 would take away"
    return setting(default, help=said, ge=0.0, search=SearchRange(low, high, "log"))


def l2_penalty(default: float, low: float = 1e-6, high: float = 1e-2) -> Any:
    """Declare a weight decay that is added to the gradient."""
    said = "L2 penalty, added to the gradient"
    return setting(default, help=said, ge=0.0, search=SearchRange(low, high, "log"))


def two_betas(beta1: float, beta2: float) -> Any:
    """Declare the two memories of Adam and its family."""
    return setting((beta1, beta2), help="memory of the gradient and of its square")


def epsilon(default: float, low: float = 1e-9, high: float = 1e-5) -> Any:
    """Declare the number that keeps a division by a small root in bounds."""
    said = "added to the root of the squares"
    return setting(default, help=said, gt=0.0, search=SearchRange(low, high, "log"))


class OptimizerConfig(TechniqueConfig):
    """Settings of every optimizer; each gives them defaults of its own."""

    lr: float = learning_rate(1e-4, 1e-5, 1e-3)
    weight_decay: float = decoupled_decay(0.01)


class AdamLikeConfig(OptimizerConfig):
    """Settings of every optimizer that remembers the gradient and its square."""

    betas: tuple[Beta, Beta] = two_betas(0.9, 0.999)
    eps: float = epsilon(1e-8)


O = TypeVar("O", bound=OptimizerConfig)  # noqa: E741 - O as in optimizer


class OptimizerTechnique(Technique[O]):
    """Base of the techniques that bring an optimizer: a subclass says how it is made."""

    def attach(self, plan: Plan) -> None:
        plan.add(OPTIMIZER, OptimizerSpec(self.config.lr, self.config.weight_decay, self.make))

    @abstractmethod
    def make(self, groups: Groups) -> Optimizer:
        """Return the optimizer over groups that carry ``params``, ``lr`` and ``weight_decay``."""


class LibraryOptimizerTechnique(OptimizerTechnique[O]):
    """Base of the techniques whose optimizer is in the optional package ``pytorch_optimizer``."""

    def attach(self, plan: Plan) -> None:
        library(self.key())
        super().attach(plan)


def library(technique: str) -> Any:
    """Return the package ``pytorch_optimizer``; raises :class:`ConfigError` where it is missing."""
    return require("pytorch_optimizer", extra="optimizers", technique=technique)


def can_fuse(groups: Sequence[Mapping[str, Any]]) -> bool:
    """Whether torch's fused kernel can update every parameter: floating point, on a CPU or CUDA device.

    >>> can_fuse([{"params": [torch.nn.Parameter(torch.zeros(2))]}])
    True
    >>> can_fuse([{"params": [torch.nn.Parameter(torch.zeros(2, device="meta"))]}])
    False
    """
    return all(
        value.is_floating_point() and value.device.type in ("cpu", "cuda")
        for group in groups
        for value in group["params"]
    )


class Noted:
    """Holds the parameters for which a condition is true, by a group rule that changes nothing.

    Optimizers see tensors only; the rules of the groups see what each of them is for, just before.
    """

    def __init__(self, condition: Callable[[Parameter], bool]) -> None:
        self._condition = condition
        self._noted: dict[int, Tensor] = {}

    def rule(self, parameter: Parameter) -> GroupRule:
        """Say nothing of the parameter, and note it where the condition holds."""
        if self._condition(parameter):
            self._noted[id(parameter.value)] = parameter.value
        return GroupRule()

    def __contains__(self, value: object) -> bool:
        return id(value) in self._noted


def _everything(value: Tensor) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Part:
    """One optimizer inside an :class:`Assembly`.

    Attributes:
        make: returns it, from groups that carry ``params``, ``lr`` and ``weight_decay``.
        settings: keys of its groups that can be changed from outside between steps.
        takes: whether it updates a parameter that no earlier part takes.
    """

    make: Callable[[Groups], Optimizer]
    settings: tuple[str, ...] = ("lr", "weight_decay", "betas", "eps")
    takes: Callable[[Tensor], bool] = _everything


class Assembly(Optimizer):
    """One optimizer to the outside, made of others that each update some of the parameters.

    The parts share its state, and take the numbers of its groups before each step. Some libraries keep
    memory in their groups, which a checkpoint does not hold; it is moved to the state. Those counters
    stand still in groups without gradients, so that one that thaws late starts from the beginning.

    Args:
        groups: parameter groups; each parameter goes to the first part that takes it.
        parts: the optimizers inside.
        counters: keys of the parts' groups that are memory, not settings.
    """

    def __init__(self, groups: Groups, parts: Sequence[Part], counters: tuple[str, ...] = ()) -> None:
        super().__init__([dict(group) for group in groups], {})
        self._counters = counters
        self._initial: dict[str, Any] = {}
        # Groups are known by their number, since loading a state puts others in their places.
        self._inner: list[tuple[Part, Optimizer, dict[int, dict[str, Any]]]] = []
        left = [list(group["params"]) for group in groups]
        for part in parts:
            taken = [[value for value in values if part.takes(value)] for values in left]
            left = [[value for value in values if not part.takes(value)] for values in left]
            numbers = [i for i, values in enumerate(taken) if values]
            if not numbers:
                continue
            made = part.make([{**groups[i], "params": taken[i]} for i in numbers])
            for i, group in zip(numbers, made.param_groups, strict=True):
                for key in part.settings:
                    self.param_groups[i].setdefault(key, group[key])
                places = self._places(len(self._inner), i)
                self._initial |= {name: group[key] for key, name in places.items() if key in group}
            self._inner.append((part, made, dict(zip(numbers, made.param_groups, strict=True))))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # the closure is given back by nobody
        """Let every part update its parameters."""
        state: dict[Any, Any] = self.state
        for n, (part, optimizer, groups) in enumerate(self._inner):
            active = {i: group for i, group in groups.items() if _has_gradients(group)}
            for i, group in active.items():
                group.update({key: self.param_groups[i][key] for key in part.settings})
                self._put_counters(n, i, group)
            optimizer.state, optimizer.param_groups = self.state, list(active.values())
            optimizer.step()
            for i, group in active.items():
                counted = {name: group[key] for key, name in self._places(n, i).items()}
                if counted:
                    state[MEMORY] = {**state.get(MEMORY, {}), **counted}

    def _put_counters(self, n: int, i: int, group: dict[str, Any]) -> None:
        state: dict[Any, Any] = self.state
        known = {**self._initial, **state.get(MEMORY, {})}
        for key, name in self._places(n, i).items():
            group.pop(key, None)
            if name in known:
                group[key] = known[name]

    def _places(self, part: int, group: int) -> dict[str, str]:
        """Where in the memory each counter of a part's group stands."""
        return {key: f"{part}.{group}.{key}" for key in self._counters}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take the state back, each tensor in its own type: torch would give all the weights' type."""
        super().load_state_dict(dict(state_dict))
        values = [value for group in self.param_groups for value in group["params"]]
        for i, saved in state_dict["state"].items():
            mine = self.state[values[i]] if i != MEMORY else {}
            for key, item in saved.items():
                if isinstance(item, Tensor) and mine[key].dtype != item.dtype:
                    mine[key] = item.to(mine[key].device, copy=True)


def _has_gradients(group: Mapping[str, Any]) -> bool:
    return any(value.grad is not None for value in group["params"])
