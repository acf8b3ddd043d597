"""The suite is no rubber stamp: each check fails on a technique that breaks what it looks at."""

from collections.abc import Mapping
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from etude.config.fields import setting
from etude.core.batch import Batch
from etude.core.phases import AUGMENT, GRADIENT, SOFTEN, WEIGH_EXAMPLE, Phase
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConflictError
from etude.testing import technique_suite as suite


class PlainConfig(TechniqueConfig):
    """Settings of the broken techniques."""

    name: Literal["broken"] = "broken"
    size: float = setting(0.5, help="how much", ge=0.0, le=1.0)


class Broken(Technique[PlainConfig]):
    """Does nothing; its children do something wrong."""

    Config = PlainConfig
    facts = Facts(family="tests", phase=AUGMENT, paper="none", neutral={"size": 0.0})

    def attach(self, plan: Plan) -> None:
        """Place nothing."""


def facts(phase: Phase[Any], **more: Any) -> Facts:
    return Facts(family="tests", phase=phase, paper="none", **more)


class NeverNeutral(Broken):
    """Acts whatever its settings are."""

    def attach(self, plan: Plan) -> None:
        plan.add(SOFTEN, lambda targets, _moment: targets * 0.9 + 0.03)


class SplitDependent(Broken):
    """Drops the easier half of whatever it is given: only here it counts micro-batches as batches."""

    facts = facts(GRADIENT)

    def attach(self, plan: Plan) -> None:
        calls: list[int] = []
        plan.context.backbone.register_forward_hook(lambda *_: calls.append(1))

        def shrink(params: Any, moment: Moment) -> None:
            for value in params:
                value.grad /= len(calls)
            calls.clear()

        plan.add(GRADIENT, shrink)


class Unseeded(Broken):
    """Draws from the operating system."""

    def attach(self, plan: Plan) -> None:
        source = torch.Generator()
        source.seed()
        plan.add(SOFTEN, lambda targets, _moment: targets * torch.rand(1, generator=source))


class FirstComesFirst(Broken):
    """Looks at who was placed before it."""

    made = 0

    def __init__(self, config: PlainConfig) -> None:
        super().__init__(config)
        type(self).made += 1
        self.odd = type(self).made % 2 == 1

    def attach(self, plan: Plan) -> None:
        if self.odd:
            plan.add(SOFTEN, lambda targets, _moment: targets * 0.5)


class WritesIntoTheBatch(Broken):
    """Changes the targets in place."""

    def attach(self, plan: Plan) -> None:
        def mutate(batch: Batch, moment: Moment) -> Batch:
            batch.targets.mul_(0.9)
            return batch

        plan.add(AUGMENT, mutate)


class Forgetful(Broken):
    """Counts its steps, and forgets them at a stop."""

    facts = facts(SOFTEN)

    def __init__(self, config: PlainConfig) -> None:
        super().__init__(config)
        self.n_steps = 0

    def attach(self, plan: Plan) -> None:
        def fade(targets: Tensor, moment: Moment) -> Tensor:
            self.n_steps += 1
            return targets / self.n_steps

        plan.add(SOFTEN, fade)


class SharedDraws(Broken):
    """Draws from torch's global generator."""

    def attach(self, plan: Plan) -> None:
        plan.add(SOFTEN, lambda targets, _moment: targets * torch.rand(1))


class NotFinite(Broken):
    """Ruins the weights behind the core's back, which skips steps with gradients that are not finite."""

    def attach(self, plan: Plan) -> None:
        def ruin(losses: Tensor, batch: Batch, moment: Moment) -> Tensor:
            with torch.no_grad():
                next(plan.context.backbone.parameters()).fill_(torch.nan)
            return torch.ones_like(losses)

        plan.add(WEIGH_EXAMPLE, ruin)


class RefusesWithoutAName(Broken):
    """Says no, and not who says it."""

    def attach(self, plan: Plan) -> None:
        raise ConflictError("no")


class LooseConfig(PlainConfig):
    """Takes what it does not know, and can be changed."""

    model_config = {"frozen": False, "extra": "allow"}  # noqa: RUF012 - pydantic's own attribute
    name: Literal["loose"] = "loose"


class Loose(Broken):
    """Has a config that holds anything."""

    Config = LooseConfig


class ForgetsABoundConfig(PlainConfig):
    """Says one bound and lets numbers through."""

    name: Literal["bound"] = "bound"

    @classmethod
    def model_validate(cls, obj: Mapping[str, Any], **_: Any) -> Any:  # type: ignore[override]
        return cls.model_construct(**obj)


class ForgetsABound(Broken):
    """Has a config that checks nothing."""

    Config = ForgetsABoundConfig


BROKEN = [
    (suite.check_neutral_is_absent, NeverNeutral, "moves weights by"),
    (suite.check_split_changes_nothing, SplitDependent, "says that it is split-invariant"),
    (suite.check_seed_decides, Unseeded, "gives two results for one seed"),
    (suite.check_order_of_config_means_nothing, FirstComesFirst, "depends on its place in the config"),
    (suite.check_batch_is_not_changed, WritesIntoTheBatch, "writes into the batch"),
    (suite.check_resume_is_exact, Forgetful, "after a stop and a resume"),
    (suite.check_draws_are_its_own, SharedDraws, "depends on what others draw"),
    (suite.check_every_task_and_backbone, NotFinite, "weights that are not finite"),
    (suite.check_every_task_and_backbone, RefusesWithoutAName, "refused without a sentence: 'no'"),
    (suite.check_config_round_trip, Loose, "is not frozen"),
    (suite.check_unknown_keys, Loose, "accepts a setting that does not exist"),
    (suite.check_bounds, ForgetsABound, "is out of bounds and accepted"),
    (suite.check_card, Broken, "card has 0 sections 'Idea:'"),
    (suite.check_bf16, NotFinite, "not finite in bf16"),
]


@pytest.mark.parametrize(("check", "technique", "words"), BROKEN, ids=lambda v: getattr(v, "__name__", ""))
def test_a_broken_technique_fails(check: suite.Check, technique: suite.AnyTechnique, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check(technique)


def test_every_check_was_broken() -> None:
    assert {check for check, _, _ in BROKEN} == set(suite.all_checks())


@pytest.mark.parametrize(
    "check", [c for c in suite.all_checks() if c is not suite.check_card], ids=lambda c: c.__name__
)
def test_a_third_partys_technique_passes(check: suite.Check) -> None:
    check(Broken)


def test_what_no_backbone_carries_is_named() -> None:
    class Needy(Broken):
        facts = Facts(family="tests", phase=AUGMENT, paper="none", needs=frozenset({"wings"}))

    with pytest.raises(AssertionError, match="broken suits neither of the tiny backbones on any task"):
        suite.suited(Needy)


def test_difference_sees_names_shapes_types_and_numbers() -> None:
    one = {"w": torch.ones(2), "n": 1}
    assert suite.difference(one, {"w": torch.ones(2), "n": 1}) == 0
    for other in (
        {"w": torch.ones(3), "n": 1},
        {"w": torch.ones(2).double(), "n": 1},
        {"w": torch.ones(2), "n": 2},
    ):
        assert suite.difference(one, other) == float("inf")
    assert suite.difference({"w": torch.tensor([torch.nan])}, {"w": torch.tensor([torch.nan])}) == 0
    assert suite.difference({"w": torch.tensor([torch.nan])}, {"w": torch.tensor([1.0])}) != 0
