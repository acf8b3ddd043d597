"""Ramp: move a number of the model or of the optimizer along a straight line while training goes on.

Idea: many numbers are better small at first and large later, or the other way round: dropout, weight
decay, the strength of a module's noise. A ramp moves any of them.

Formula, with the step t, the steps t0 and t1 of the times ``begin`` and ``finish``, and the values v0
and v1: v(t) = v0 + min(max((t - t0) / (t1 - t0), 0), 1) · (v1 - v0), set before every step.

* target = "optimizer": a number of the optimizer's groups, as weight_decay, eps or momentum
* any other target: an attribute of modules, chosen by their class (of which the module may be a
  subclass), as "Dropout", or by their exact name, as "head.0"; a part of a name is no name
* a weight decay leaves the groups alone that have none at the start (norms and biases, with no_decay);
  where no group has any, it moves them all

Paper: Morerio et al. 2017 (1703.06229) for dropout; Loshchilov & Hutter 2019 (1711.05101), section 4,
for scheduled weight decay.

When it helps: studies of one number; curricula that have no technique of their own.
When not: the learning rate, which schedules move; the dropout of all modules, which
progressive_dropout moves and explains.

Suggested values: from a tenth of the usual value to the whole of it, over the first half of the run.

Cost: 1 pass; no memory.

Clashes: none; a technique that sets the same number is overruled or overrules, so choose one of them.

NOTE[DIFF]: a line is the simplest of the papers' curves. The value after the end of training is
not put back: a saved model does not hold it, and numbers that act in training only have done their work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn

from etude.config.fields import Time, setting
from etude.core.backbone import Backbone
from etude.core.phases import ADJUST, MODEL, TUNE
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConfigError, closest

OPTIMIZER = "optimizer"
SET_BY_SCHEDULES = ("lr", "base_lr", "initial_lr")


class RampConfig(TechniqueConfig):
    """Settings of a ramp."""

    name: Literal["ramp"] = "ramp"
    target: str = setting(help="'optimizer', a module's class as 'Dropout', or its exact name as 'head.0'")
    attribute: str = setting(help="the number's name, as 'weight_decay' or 'p'")
    start: float = setting(help="the value until begin", ge=-1e9, le=1e9)
    end: float = setting(help="the value from finish on", ge=-1e9, le=1e9)
    begin: Time = setting(Time(0, "ep"), help="when the ramp begins, as '1ep', '500st' or '0.1dur'")
    finish: Time = setting(Time(1, "dur"), help="when the ramp has arrived")


def ramp(step: int, begin: int, finish: int, start: float, end: float) -> float:
    """Return the value at a step: ``start`` before ``begin``, ``end`` from ``finish``, a line between.

    Args:
        step: steps done.
        begin: where the line leaves ``start``.
        finish: where it arrives at ``end``; equal to ``begin``, it is a jump.
        start: the value before.
        end: the value after.

    >>> [ramp(step, 2, 6, 0.0, 0.5) for step in (0, 2, 4, 6, 9)]
    [0.0, 0.0, 0.25, 0.5, 0.5]
    """
    if step >= finish:
        return end
    if step <= begin:
        return start
    return start + (step - begin) / (finish - begin) * (end - start)


def find_modules(model: nn.Module, target: str) -> list[nn.Module]:
    """Return the modules of a class, or the one of an exact name.

    Raises:
        ConfigError: there is none; names the closest class or name.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))
    >>> find_modules(model, "Dropout") == find_modules(model, "1") == [model[1]]
    True
    """
    named = dict(model.named_modules())
    classes = {
        base.__name__ for m in named.values() for base in type(m).__mro__ if issubclass(base, nn.Module)
    }
    if target in named:
        return [named[target]]
    if target in classes:
        return [m for m in named.values() if any(base.__name__ == target for base in type(m).__mro__)]
    raise ConfigError(
        f"ramp.target = '{target}' is no module's class and no module's exact name"
        f"{closest(target, [*classes, *named])}; or give 'optimizer'"
    )


def numbers_of(values: Mapping[str, Any]) -> list[str]:
    """The names of those values that are numbers.

    >>> numbers_of({"p": 0.1, "inplace": False, "_hooks": {}, "eps": 1e-5})
    ['p', 'eps']
    """
    return [
        name
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and not name.startswith("_")
    ]


class Ramp(Technique[RampConfig]):
    """Sets one number before each step."""

    Config = RampConfig
    facts = Facts(
        family="curriculum",
        phase=ADJUST,
        paper="Morerio et al. 2017, arXiv 1703.06229; Loshchilov & Hutter 2019, arXiv 1711.05101",
        example={"target": OPTIMIZER, "attribute": "weight_decay", "start": 0.0, "end": 0.1},
    )

    def __init__(self, config: RampConfig) -> None:
        super().__init__(config)
        self._moved: list[nn.Module] = []
        self._left_alone: set[int] | None = None

    def attach(self, plan: Plan) -> None:
        config = self.config
        begin, finish = plan.context.steps(config.begin), plan.context.steps(config.finish)
        if finish < begin:
            raise ConfigError(
                f"ramp begins at step {begin} (begin = '{config.begin}') and finishes at step {finish} "
                f"(finish = '{config.finish}'); let it finish later"
            )
        if config.target == OPTIMIZER and config.attribute in SET_BY_SCHEDULES:
            raise ConfigError(
                f"ramp.attribute = '{config.attribute}' is set by the schedule before every step; choose a "
                "[schedule] for the learning rate"
            )

        def value_at(moment: Moment) -> float:
            return ramp(moment.step, begin, finish, config.start, config.end)

        def tune(groups: Sequence[dict[str, Any]], moment: Moment) -> None:
            self._tune(groups, value_at(moment))

        def adjust(model: nn.Module, moment: Moment) -> None:
            for module in self._moved:
                setattr(module, config.attribute, value_at(moment))

        if config.target == OPTIMIZER:
            plan.add(TUNE, tune)
        else:
            # After all other edits of the model, whose modules may be meant.
            plan.add(MODEL, self._find, rank=1000)
            plan.add(ADJUST, adjust)

    def _find(self, backbone: Backbone) -> Backbone:
        """Remember the modules, and refuse those without the number."""
        self._moved = find_modules(backbone, self.config.target)
        for module in self._moved:
            self._require(numbers_of(vars(module)), f"the {type(module).__name__} modules have")
        return backbone

    def _tune(self, groups: Sequence[dict[str, Any]], value: float) -> None:
        attribute = self.config.attribute
        if self._left_alone is None:
            for group in groups:
                own = {k: v for k, v in group.items() if k not in SET_BY_SCHEDULES}
                self._require(numbers_of(own), "the optimizer's groups have")
            zero = {
                i for i, group in enumerate(groups) if attribute == "weight_decay" and not group[attribute]
            }
            self._left_alone = zero if len(zero) < len(groups) else set()
        for i, group in enumerate(groups):
            if i not in self._left_alone:
                group[attribute] = value

    def _require(self, known: list[str], who_has: str) -> None:
        if self.config.attribute not in known:
            raise ConfigError(
                f"ramp.attribute = '{self.config.attribute}' is no number that {who_has}"
                f"{closest(self.config.attribute, known)}; the numbers are {', '.join(known) or 'none'}"
            )
