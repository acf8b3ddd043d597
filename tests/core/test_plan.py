"""The plan: order by phase, rank and name; what cannot work together is refused with a sentence."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest

from etude.core.phases import AUGMENT, GRADIENT, LOSS, PHASES, RANK, SOFTEN, Phase
from etude.core.plan import Plan, build_plan, refuse_early
from etude.core.task import Kind
from etude.core.technique import Context, Facts, Technique, TechniqueConfig
from etude.errors import ConflictError
from etude.techniques import catalogue
from etude.testing.harness import make
from etude.testing.tiny import tiny_backbone, tiny_task


def context(kind: Kind = "multiclass", modality: str = "text", **changes: Any) -> Context:
    task = tiny_task(kind)
    made = Context(task, tiny_backbone(modality, task), np.ones(task.n_classes), 24, 8, 3, 6, 0, _no_model)
    return replace(made, **changes)


def _no_model(path: str) -> Any:
    raise LookupError(path)


def technique(
    name: str, phase: Phase[Any] = AUGMENT, *, rank: int = 0, acts: bool = True, **facts: Any
) -> Any:
    """A technique that contributes its own name to a phase."""
    config = type(f"{name}Config", (TechniqueConfig,), {
        "__annotations__": {"name": Literal[name]}, "name": name, "__module__": __name__,
    })  # fmt: skip

    def attach(self: Technique[Any], plan: Plan) -> None:
        if acts:
            plan.add(phase, name, rank=rank)

    body: Mapping[str, Any] = {
        "Config": config,
        "facts": Facts(family="tests", phase=phase, paper="", **facts),
        "attach": attach,
    }
    made: Callable[..., Any] = type(name, (Technique,), dict(body))
    return made(config())


LOSS_OF_ALL = technique("loss_of_all", LOSS)


def test_the_table_of_phases_is_the_order() -> None:
    assert len(PHASES) == len(RANK) == 25
    assert [RANK[phase.name] for phase in PHASES] == list(range(25))
    listed = [technique("zebra", AUGMENT), technique("ant", GRADIENT), LOSS_OF_ALL, technique("soft", SOFTEN)]
    plan = build_plan(listed, context())
    assert plan.describe() == "augment:zebra -> soften:soft -> loss:loss_of_all -> gradient:ant"


def test_clashes_are_refused_before_there_is_any_data() -> None:
    clash = {"other": "both do the same"}
    one, other = technique("one", AUGMENT, clashes=clash), technique("other", GRADIENT)
    with pytest.raises(ConflictError, match="one clashes with other: both do the same"):
        refuse_early([other, one])
    with pytest.raises(ConflictError, match="first and second both want the phase 'soften', which takes one"):
        refuse_early([technique("second", SOFTEN), technique("first", SOFTEN)])
    refuse_early([technique("one", AUGMENT, clashes=clash, neutral={"name": "one"}), other])


def test_neutral_settings_are_told_apart_whatever_else_is_set() -> None:
    for name, found in catalogue().items():
        neutral = found.facts.neutral
        if neutral is not None:
            assert make(found, neutral).is_neutral(), name
    assert not make(catalogue()["class_weights"], {"weights": [1.0, 2.0]}).is_neutral()
    assert not make(catalogue()["cross_entropy"], {}).is_neutral()


def test_rank_comes_before_name_and_the_config_order_means_nothing() -> None:
    listed = [
        technique("b"),
        technique("a"),
        technique("last", rank=5),
        technique("first", rank=-5),
        LOSS_OF_ALL,
    ]
    expected = ["first", "a", "b", "last"]
    assert build_plan(listed, context()).many(AUGMENT) == expected
    assert build_plan(reversed(listed), context()).many(AUGMENT) == expected


def test_a_phase_that_takes_one_is_taken_once() -> None:
    words = r"^a and b both want the phase 'soften', which takes one; remove one of them$"
    with pytest.raises(ConflictError, match=words):
        build_plan([technique("b", SOFTEN), technique("a", SOFTEN), LOSS_OF_ALL], context())


def test_one_is_none_where_nothing_is() -> None:
    plan = build_plan([LOSS_OF_ALL], context())
    assert plan.one(SOFTEN) is None
    assert plan.many(GRADIENT) == []
    assert plan.one(LOSS) == "loss_of_all"


def test_a_clash_by_name_gives_its_reason() -> None:
    one = technique("one", clashes={"other": "both would dance; remove one of them"})
    with pytest.raises(
        ConflictError, match=r"^one clashes with other: both would dance; remove one of them$"
    ):
        build_plan([technique("other"), one, LOSS_OF_ALL], context())


def test_a_clash_by_fact_gives_its_reason() -> None:
    one = technique("one", clashes={"fact:two_pass": "it counts passes"})
    with pytest.raises(ConflictError, match=r"^one clashes with other: it counts passes$"):
        build_plan([technique("other", two_pass=True), one, LOSS_OF_ALL], context())
    assert build_plan([technique("other"), one, LOSS_OF_ALL], context()).many(AUGMENT) == ["one", "other"]


def test_soft_targets_meet_only_who_accepts_them() -> None:
    soft, hard = technique("soft", produces_soft_targets=True), technique("hard", accepts_soft_targets=False)
    with pytest.raises(ConflictError, match=r"^soft makes targets soft and hard needs hard ones; remove one"):
        build_plan([hard, soft, LOSS_OF_ALL], context())


def test_what_does_not_act_does_not_clash() -> None:
    absent = technique("absent", acts=False, produces_soft_targets=True, clashes={"hard": "no"})
    hard = technique("hard", accepts_soft_targets=False)
    assert build_plan([absent, hard, LOSS_OF_ALL], context()).many(AUGMENT) == ["hard"]


def test_an_unsuited_task_is_named() -> None:
    only = technique("only", tasks=frozenset({"binary", "multiclass"}))
    words = r"^only works on binary and multiclass tasks and this one is multilabel; remove only$"
    with pytest.raises(ConflictError, match=words):
        build_plan([only, LOSS_OF_ALL], context("multilabel"))


def test_an_unsuited_backbone_is_named() -> None:
    needy = technique("needy", needs=frozenset({"tokens"}))
    words = r"^needy needs a backbone with 'tokens' and TinyMLP has none; remove needy$"
    with pytest.raises(ConflictError, match=words):
        build_plan([needy, LOSS_OF_ALL], context(modality="table"))
    assert build_plan([needy, LOSS_OF_ALL], context()).many(AUGMENT) == ["needy"]


def test_two_passes_and_fp16_are_refused() -> None:
    twice = technique("twice", two_pass=True)
    with pytest.raises(ConflictError, match=r'^twice takes two passes and fp16 .*; use precision = "bf16"$'):
        build_plan([twice, LOSS_OF_ALL], context(precision="fp16"))
    assert build_plan([twice, LOSS_OF_ALL], context(precision="bf16")).many(AUGMENT) == ["twice"]


def test_a_plan_without_a_loss_is_refused() -> None:
    with pytest.raises(ConflictError, match=r"^no loss is chosen; add \[loss\]"):
        build_plan([technique("a")], context())


def test_passes_multiply_and_only_acting_techniques_count() -> None:
    listed = [technique("a", passes=2.0), technique("b", passes=1.5), technique("c", acts=False, passes=9.0)]
    plan = build_plan([*listed, LOSS_OF_ALL], context())
    assert plan.passes() == 3.0


def test_inputs_change_only_if_an_acting_technique_says_so() -> None:
    absent = technique("absent", acts=False, changes_inputs=True)
    assert not build_plan([absent, LOSS_OF_ALL], context()).changes_inputs()
    assert build_plan([technique("b", changes_inputs=True), LOSS_OF_ALL], context()).changes_inputs()
