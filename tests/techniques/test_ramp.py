"""Ramp: the line, what it finds by class and by exact name, and what it refuses."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_contexts import make_context
from torch import nn

from etude.core.engine import Engine
from etude.core.phases import ADJUST, TUNE
from etude.core.plan import Plan
from etude.errors import ConfigError
from etude.techniques import technique_class
from etude.techniques.curriculum.ramp import Ramp, RampConfig, find_modules, ramp
from etude.testing.harness import Setup, make_engine
from etude.testing.technique_suite import resume_difference

LINE = {"start": 0.0, "end": 0.6}


class OwnDropout(nn.Dropout):
    """A dropout of somebody's own."""


def values(engine: Engine, read: Any) -> list[Any]:
    """What ``read`` gives at the end of each step."""
    found = []
    one_step = engine._after_step

    def after(*arguments: Any, **more: Any) -> None:
        found.append(read())
        one_step(*arguments, **more)

    engine._after_step = after  # type: ignore[method-assign]
    engine.fit()
    return found


def ramped(techniques: dict[str, Any] | None = None, **settings: Any) -> Engine:
    others = {technique_class(name): said for name, said in (techniques or {}).items()}
    return make_engine({Ramp: {**LINE, **settings}, **others}, Setup(dropout=0.1))


def test_is_a_line_between_two_plateaus() -> None:
    assert [ramp(step, 10, 20, 1.0, 3.0) for step in (0, 10, 15, 20, 30)] == [1.0, 1.0, 2.0, 3.0, 3.0]
    assert [ramp(step, 5, 5, 1.0, 3.0) for step in (4, 5)] == [1.0, 3.0]


def test_references_agree() -> None:
    found = list(runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/parity/curriculum.py"))["rows"]())
    assert {name for name, _, _ in found} == {"ramp", "progressive_dropout", "growing_batch"}
    assert max(apart for _, _, apart in found) <= 1e-10


def test_dropout_of_every_module_of_the_class() -> None:
    engine = ramped(target="Dropout", attribute="p")
    modules = [m for m in engine.backbone.modules() if isinstance(m, nn.Dropout)]
    assert len(modules) == 3
    found = values(engine, lambda: [m.p for m in modules])
    assert found == [[pytest.approx(0.1 * step)] * 3 for step in range(6)]


def test_one_module_by_its_exact_name_and_times() -> None:
    engine = ramped(target="head.0", attribute="p", begin="2st", finish="4st")
    modules = [m for m in engine.backbone.modules() if isinstance(m, nn.Dropout)]
    found = values(engine, lambda: [m.p for m in modules])
    assert found == [[0.1, 0.1, pytest.approx(p)] for p in (0.0, 0.0, 0.0, 0.3, 0.6, 0.6)]


def test_a_name_is_no_part_of_a_name() -> None:
    model = nn.Sequential(*(nn.Dropout(0.1) for _ in range(11)))
    assert find_modules(model, "1") == [model[1]]
    assert find_modules(nn.Sequential(OwnDropout(0.1), nn.Linear(1, 1)), "Dropout")[0].p == 0.1
    with pytest.raises(ConfigError, match=r"ramp.target = 'Drop' is no module's class and no module's exact"):
        find_modules(model, "Drop")


def test_weight_decay_leaves_groups_without_decay_alone() -> None:
    optimizer = {"adamw": {"lr": 0.01, "weight_decay": 0.01}, "no_decay": {}}
    engine = ramped(optimizer, target="optimizer", attribute="weight_decay")
    without = [i for i, group in enumerate(engine.optimizer.param_groups) if not group["weight_decay"]]
    found = values(engine, lambda: [group["weight_decay"] for group in engine.optimizer.param_groups])
    assert 0 < len(without) < len(found[0])
    for i in range(len(found[0])):
        expected = [0.0 if i in without else 0.1 * step for step in range(6)]
        assert [row[i] for row in found] == pytest.approx(expected)


def test_weight_decay_of_an_optimizer_without_any() -> None:
    optimizer = {"adamw": {"lr": 0.01, "weight_decay": 0.0}}
    engine = ramped(optimizer, target="optimizer", attribute="weight_decay")
    found = values(engine, lambda: engine.optimizer.param_groups[0]["weight_decay"])
    assert found == pytest.approx([0.1 * step for step in range(6)])


def test_any_number_of_the_optimizer() -> None:
    engine = ramped(target="optimizer", attribute="eps", start=1e-8, end=1e-6, finish="0.5dur")
    found = values(engine, lambda: engine.optimizer.param_groups[0]["eps"])
    middle = [1e-8 + share * (1e-6 - 1e-8) for share in (0, 1 / 3, 2 / 3)]
    assert found == pytest.approx([*middle, 1e-6, 1e-6, 1e-6])


@pytest.mark.parametrize(
    ("target", "attribute"), [("optimizer", "weight_decay"), ("Dropout", "p"), ("head.0", "p")]
)
def test_resumes_exactly(target: str, attribute: str) -> None:
    recipe = {Ramp: {**LINE, "target": target, "attribute": attribute}, technique_class("no_decay"): {}}
    assert resume_difference(recipe, Setup(dropout=0.2), step=4) == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target": "Dropuot", "attribute": "p"}, "ramp.target = 'Dropuot' .*; did you mean 'Dropout'"),
        (
            {"target": "Dropout", "attribute": "rate"},
            "ramp.attribute = 'rate' is no number that the Dropout modules have; the numbers are p$",
        ),
        ({"target": "LayerNorm", "attribute": "epz"}, "did you mean 'eps'"),
        ({"target": "optimizer", "attribute": "lr"}, "is set by the schedule before every step"),
        (
            {"target": "Dropout", "attribute": "p", "begin": "5st", "finish": "2st"},
            r"ramp begins at step 5 \(begin = '5st'\) and finishes at step 2",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_moved_is_refused_before_training(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ramped(**settings)


def test_a_number_that_the_optimizer_lacks_is_refused_before_the_first_step() -> None:
    engine = ramped(target="optimizer", attribute="weight_decai")
    before = {name: value.clone() for name, value in engine.backbone.state_dict().items()}
    with pytest.raises(
        ConfigError, match="no number that the optimizer's groups have; did you mean 'weight_decay'"
    ):
        engine.fit()
    assert all(torch.equal(value, before[name]) for name, value in engine.backbone.state_dict().items())


def test_the_phase_follows_from_the_target() -> None:
    for target, phase, other in (("optimizer", TUNE, ADJUST), ("Dropout", ADJUST, TUNE)):
        plan = Plan(make_context())
        plan.attach(Ramp(RampConfig(target=target, attribute="weight_decay", **LINE)))
        assert len(plan.many(phase)) == 1
        assert plan.many(other) == []
