"""Every technique in the catalogue has its card, its paper, a described config and an example."""

import doctest
import sys
from typing import Any, get_args

import annotated_types
import pytest
from pydantic.fields import FieldInfo

from etude.core.phases import PHASES
from etude.core.technique import Technique
from etude.techniques import catalogue
from etude.testing.harness import make_engine
from etude.testing.technique_suite import check_card, suited

EVERY = list(catalogue().items())
each = pytest.mark.parametrize("technique", [t for _, t in EVERY], ids=[name for name, _ in EVERY])


def _fields(technique: type[Technique[Any]]) -> dict[str, FieldInfo]:
    return {name: field for name, field in technique.Config.model_fields.items() if name != "name"}


def test_the_catalogue_is_not_empty() -> None:
    assert len(EVERY) >= 114
    assert sum(len(_fields(technique)) for _, technique in EVERY) >= 20


@each
def test_card_has_all_sections_in_order(technique: type[Technique[Any]]) -> None:
    check_card(technique)


@each
def test_facts_name_a_paper_and_the_family_is_the_folder(technique: type[Technique[Any]]) -> None:
    assert technique.facts.paper
    assert technique.__module__.split(".")[-2] == technique.facts.family
    assert technique.__module__.split(".")[-1] == technique.key()


@each
def test_every_setting_is_described_and_every_float_is_bounded(technique: type[Technique[Any]]) -> None:
    bounds = (annotated_types.Ge, annotated_types.Gt, annotated_types.Le, annotated_types.Lt)
    for name, field in _fields(technique).items():
        assert field.description, f"{technique.key()}.{name} has no description"
        if field.annotation is float or float in get_args(field.annotation):
            said = [item for item in field.metadata if isinstance(item, bounds)]
            assert said, f"{technique.key()}.{name} has no bounds"


@each
def test_the_module_holds_an_example(technique: type[Technique[Any]]) -> None:
    found = doctest.DocTestFinder().find(sys.modules[technique.__module__])
    assert any(test.examples for test in found), f"{technique.key()} has no doctest"


def test_every_phase_has_a_technique() -> None:
    plans = [make_engine({technique: {}}, suited(technique)).plan for _, technique in EVERY]
    used = {entry.phase.name for plan in plans for entry in plan.entries()}
    assert used == {phase.name for phase in PHASES}
