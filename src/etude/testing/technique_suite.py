"""What every technique must keep to; third-party techniques inherit these checks.

A check takes a technique's class, trains the tiny backbones, and raises ``AssertionError`` with a
sentence where something does not hold. With pytest::

    @pytest.mark.parametrize("check", all_checks(), ids=lambda check: check.__name__)
    def test_my_technique(check):
        check(MyTechnique)

A technique runs with the defaults of its config and the values of its fact ``example``.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import annotated_types
import torch
from pydantic import ValidationError
from torch import Tensor

from etude.core.technique import Technique
from etude.errors import ConfigError
from etude.testing.harness import (
    Onlooker,
    Recipe,
    Setup,
    make,
    make_engine,
    train,
    train_and_return_state,
    train_with_a_stop,
)
from etude.testing.tiny import tiny_backbone, tiny_task

AnyTechnique = type[Technique[Any]]
Check = Callable[[AnyTechnique], None]

CARD_SECTIONS = ("Idea:", "Formula", "Paper:", "When it helps:", "When not:", "Suggested values:",
                 "Cost:", "Clashes:")  # fmt: skip
SPLIT_TOLERANCE = 1e-9
"""In float64, where only real differences are left; losses themselves are always float32."""


def all_checks() -> list[Check]:
    """Return every check, in the order of this file."""
    return [
        check_neutral_is_absent,
        check_split_changes_nothing,
        check_seed_decides,
        check_order_of_config_means_nothing,
        check_batch_is_not_changed,
        check_resume_is_exact,
        check_draws_are_its_own,
        check_every_task_and_backbone,
        check_config_round_trip,
        check_bounds,
        check_unknown_keys,
        check_card,
        check_bf16,
    ]


def suited(technique: AnyTechnique) -> Setup:
    """Return a setup that the technique can carry.

    Raises:
        AssertionError: there is none among the tiny backbones.
    """
    for setup in every_setup(technique):
        task = tiny_task(setup.kind)
        able = tiny_backbone(setup.modality, task).capabilities
        if setup.kind in technique.facts.tasks and technique.facts.needs <= able:
            return setup
    raise AssertionError(f"{technique.key()} suits neither of the tiny backbones on any task")


def every_setup(technique: AnyTechnique | None = None) -> Iterator[Setup]:
    """Yield every kind of task with every tiny backbone, multiclass text first.

    Images come only for a technique that needs pixels, and for it alone they do: no other tiny backbone has
    any, and the sweeps over all techniques stay small.
    """
    for kind in ("multiclass", "binary", "multilabel"):
        if technique is not None and "pixels" in technique.facts.needs:
            yield Setup(modality="image", kind=kind)
            continue
        yield Setup(modality="text", kind=kind)
        yield Setup(modality="table", kind=kind)


def check_neutral_is_absent(technique: AnyTechnique) -> None:
    """With its neutral settings, if it has any, training gives the same bits as without it."""
    neutral = technique.facts.neutral
    if neutral is None:
        return
    setup = replace(suited(technique), dropout=0.2)
    apart = difference(train({technique: neutral}, setup), train({}, setup))
    _require(apart == 0, f"{technique.key()} with {dict(neutral)} moves weights by {apart}")


def check_split_changes_nothing(technique: AnyTechnique) -> None:
    """One micro-batch of 8 equals four of 2, unless the facts say otherwise."""
    if technique.facts.split_invariant:
        apart = split_difference({technique: {}}, suited(technique))
        _require(
            apart <= SPLIT_TOLERANCE,
            f"{technique.key()} says that it is split-invariant and micro-batches move weights by {apart}",
        )


def check_seed_decides(technique: AnyTechnique) -> None:
    """The same seed gives the same bits, another seed other weights."""
    setup = replace(suited(technique), dropout=0.2)
    first = train({technique: {}}, setup)
    again, other = train({technique: {}}, setup), train({technique: {}}, replace(setup, seed=1))
    _require(difference(first, again) == 0, f"{technique.key()} gives two results for one seed")
    _require(difference(first, other) > 0, f"{technique.key()} gives one result for two seeds")


def check_order_of_config_means_nothing(technique: AnyTechnique) -> None:
    """Named first or last in the config, the result has the same bits."""
    setup = suited(technique)
    others: Recipe = {Onlooker: {}}
    apart = difference(train({technique: {}, **others}, setup), train({**others, technique: {}}, setup))
    _require(apart == 0, f"{technique.key()} depends on its place in the config by {apart}")


def check_batch_is_not_changed(technique: AnyTechnique) -> None:
    """No tensor of a batch is written to, so that a step can be replayed."""
    engine = make_engine({technique: {}, Onlooker: {}}, replace(suited(technique), cache_features=False))
    engine.fit()
    onlooker = engine.plan.techniques[Onlooker.key()]
    seen = onlooker.seen if isinstance(onlooker, Onlooker) else []
    _require(len(seen) == engine.step, f"{len(seen)} batches were seen in {engine.step} steps")
    for batch, before in seen:
        apart = difference(
            {**batch.inputs, "targets": batch.targets, "weights": batch.weights, "index": batch.index},
            {**before.inputs, "targets": before.targets, "weights": before.weights, "index": before.index},
        )
        _require(apart == 0, f"{technique.key()} writes into the batch")


def check_resume_is_exact(technique: AnyTechnique) -> None:
    """Stopped in the middle of an epoch and resumed from disk, the whole state has the same bits."""
    setup = replace(suited(technique), dropout=0.2)
    apart = resume_difference({technique: {}}, setup, step=4)
    _require(apart == 0, f"{technique.key()} differs by {apart} after a stop and a resume")


def check_draws_are_its_own(technique: AnyTechnique) -> None:
    """Another technique that draws random numbers does not shift its draws, nor the dropout's."""
    setup = replace(suited(technique), dropout=0.2)
    apart = difference(train({technique: {}}, setup), train({technique: {}, Onlooker: {}}, setup))
    _require(apart == 0, f"{technique.key()} depends on what others draw, by {apart}")


def check_every_task_and_backbone(technique: AnyTechnique) -> None:
    """Everywhere it trains two steps to finite weights, or is refused with a sentence that names it."""
    n_trained = 0
    for setup in every_setup(technique):
        try:
            found = train({technique: {}}, replace(setup, max_steps=2))
        except ConfigError as error:
            said = str(error)
            _require(technique.key() in said and "\n" not in said, f"refused without a sentence: {said!r}")
            continue
        n_trained += 1
        _require(finite(found), f"{technique.key()} gives weights that are not finite on {setup}")
    _require(n_trained > 0, f"{technique.key()} is refused everywhere")


def check_config_round_trip(technique: AnyTechnique) -> None:
    """The config survives being written and read; it keeps its name and cannot be changed."""
    config = make(technique, {}).config
    for mode in ("python", "json"):
        again = technique.Config.model_validate(config.model_dump(mode=mode))
        _require(again == config, f"{technique.key()}'s config is {again} after a round trip")
    try:
        config.name = "another"
    except ValidationError:
        return
    raise AssertionError(f"{technique.key()}'s config is not frozen")


def check_bounds(technique: AnyTechnique) -> None:
    """Each number just outside its declared bounds is refused, and so is what is no number."""
    config = make(technique, {}).config.model_dump()
    for name, outside in outside_of_bounds(technique):
        try:
            technique.Config.model_validate({**config, name: outside})
        except ValidationError as error:
            places = [problem["loc"][0] for problem in error.errors() if problem["loc"]]
            _require(name in places, f"{technique.key()}.{name} = {outside} is refused at {places}")
            continue
        raise AssertionError(f"{technique.key()}.{name} = {outside} is out of bounds and accepted")


def check_unknown_keys(technique: AnyTechnique) -> None:
    """A setting that does not exist is an error."""
    config = make(technique, {}).config.model_dump()
    try:
        technique.Config.model_validate({**config, "no_such_setting": 1})
    except ValidationError:
        return
    raise AssertionError(f"{technique.key()} accepts a setting that does not exist")


def check_card(technique: AnyTechnique) -> None:
    """The card has every section once, in order, and a first line ``Name: what it does.``"""
    lines = technique.card().splitlines()
    starts: list[int] = []
    for section in CARD_SECTIONS:
        found = [i for i, line in enumerate(lines) if line.startswith(section)]
        _require(len(found) == 1, f"{technique.key()}'s card has {len(found)} sections '{section}'")
        starts += found
    _require(starts == sorted(starts), f"the sections of {technique.key()}'s card are out of order")
    _require(": " in technique.summary(), f"{technique.key()}'s card begins with {technique.summary()!r}")


def check_bf16(technique: AnyTechnique) -> None:
    """Under bf16 autocast the weights stay finite, and float32."""
    found = train({technique: {}}, replace(suited(technique), precision="bf16"))
    _require(finite(found), f"{technique.key()} gives weights that are not finite in bf16")
    kinds = {value.dtype for value in found.values() if value.is_floating_point()}
    _require(kinds == {torch.float32}, f"{technique.key()} leaves weights of type {kinds}")


def split_difference(recipe: Recipe, setup: Setup) -> float:
    """The largest difference of any weight between one micro-batch of 8 and four of 2, in float64.

    BatchNorm, which never gives the same, is left out.
    """
    setup = replace(setup, double=True, batch_size=8, batch_norm=False)
    return difference(train(recipe, setup), train(recipe, replace(setup, micro_batch_size=2)))


def resume_difference(recipe: Recipe, setup: Setup, step: int) -> float:
    """The largest difference of any tensor or number of the state after a stop at a step."""
    with tempfile.TemporaryDirectory() as folder:
        stopped = train_with_a_stop(recipe, setup, Path(folder), step)
    return difference(stopped, train_and_return_state(recipe, setup))


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Return the largest absolute difference; infinite where names, shapes or types differ.

    >>> difference({"w": torch.ones(2)}, {"w": torch.tensor([1.0, 1.5])})
    0.5
    >>> difference({"w": torch.ones(2)}, {})
    inf
    """
    if one.keys() != other.keys():
        return math.inf
    return max((_apart(one[name], other[name]) for name in one), default=0.0)


def _apart(a: Any, b: Any) -> float:
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return 0.0 if a == b else math.inf
    if a.shape != b.shape or a.dtype != b.dtype:
        return math.inf
    # Equal bits are equal, also where they are infinite or nan.
    if torch.equal(a.nan_to_num(7e7), b.nan_to_num(7e7)) or a.numel() == 0:
        return 0.0
    return float((a.double() - b.double()).abs().max())


def finite(weights: Mapping[str, Tensor]) -> bool:
    """Whether every number of every tensor is finite."""
    return all(bool(torch.isfinite(value).all()) for value in weights.values())


def outside_of_bounds(technique: AnyTechnique) -> Iterator[tuple[str, float]]:
    """Yield each numeric setting with numbers just outside its bounds, and nan."""
    for name, field in technique.Config.model_fields.items():
        kinds = {field.annotation, *get_args(field.annotation)}
        if not kinds & {int, float}:
            continue
        yield name, math.nan
        whole = float not in kinds
        for bound in field.metadata:
            if isinstance(bound, annotated_types.Ge):
                yield name, _beyond(bound.ge, -1, whole=whole)
            elif isinstance(bound, annotated_types.Gt):
                yield name, _number(bound.gt)
            elif isinstance(bound, annotated_types.Le):
                yield name, _beyond(bound.le, 1, whole=whole)
            elif isinstance(bound, annotated_types.Lt):
                yield name, _number(bound.lt)


def _number(bound: Any) -> float:
    return float(bound)


def _beyond(bound: Any, direction: int, *, whole: bool) -> float:
    return int(bound) + direction if whole else math.nextafter(float(bound), direction * math.inf)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
