"""Every pair of techniques trains together or is refused because one of them declares it."""

import itertools
import re
from dataclasses import replace
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
import pytest

from etude.core.task import Kind
from etude.core.technique import Technique
from etude.errors import ConflictError
from etude.techniques import catalogue
from etude.testing.harness import Recipe, Setup, make_engine, train
from etude.testing.technique_suite import (
    SPLIT_TOLERANCE,
    difference,
    finite,
    resume_difference,
    split_difference,
)

Modality = Literal["text", "table", "image"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)
KINDS: tuple[Kind, ...] = ("multiclass", "multilabel", "binary")
EVERY = catalogue()
PAIRS = list(itertools.combinations(EVERY, 2))


def declared_conflict(*names: str) -> bool:
    """Whether the facts of some two of the techniques exclude each other, read off independently."""
    return any(_excludes(EVERY[a], EVERY[b]) for a, b in itertools.permutations(names, 2))


def _excludes(one: type[Technique[Any]], other: type[Technique[Any]]) -> bool:
    mine, theirs = one.facts, other.facts
    same_place = mine.phase is theirs.phase and mine.phase.takes == "one"
    named = other.key() in mine.clashes
    by_fact = any(what.startswith("fact:") and theirs.holds(what[5:]) for what in mine.clashes)
    soft = mine.produces_soft_targets and not theirs.accepts_soft_targets
    return same_place or named or by_fact or soft


def recipe_of(*names: str) -> Recipe:
    return {EVERY[name]: {} for name in names}


def setup_for(*names: str) -> Setup:
    """A tiny backbone that all of the techniques can use, on a task that all of them work on.

    The transformer comes first, since it carries most of them; where none can, the plan must refuse.
    """
    setups = [Setup(modality=modality, kind=kind) for kind in KINDS for modality in MODALITIES]
    return next((s for s in setups if all(carries(s, name) for name in names)), setups[0])


@cache
def carries(setup: Setup, name: str) -> bool:
    """Whether a technique can be placed on a tiny backbone, alone."""
    try:
        make_engine({EVERY[name]: {}}, setup)
    except ConflictError:
        return False
    return True


def nowhere(*names: str) -> bool:
    """Whether no tiny backbone and task can carry all of the techniques."""
    return not all(carries(setup_for(*names), name) for name in names)


def sample(size: int) -> list[tuple[str, ...]]:
    """For every technique one combination that may run, drawn once and for all."""
    rng = np.random.default_rng(20260101 + size)
    found: list[tuple[str, ...]] = []
    for first in EVERY:
        others = [name for name in EVERY if name != first]
        drawn = (tuple(map(str, (first, *rng.choice(others, size - 1, replace=False)))) for _ in range(1000))
        found.append(next(names for names in drawn if not (declared_conflict(*names) or nowhere(*names))))
    return found


SAMPLE = [*sample(2), *sample(3)]
RESUMED = SAMPLE[::2]


def ids(value: object) -> str:
    return "+".join(value) if isinstance(value, tuple) else str(value)


def refusal_of(pair: tuple[str, str]) -> str | None:
    """A pattern that the refusal of a pair must match; None where the pair must train."""
    one, other = pair
    if nowhere(*pair):
        return rf"^({one}|{other}) (needs|works on) .*; (remove|use) "
    return rf"(?s){one}.*{other}|{other}.*{one}" if declared_conflict(*pair) else None


def what_is_wrong(pair: tuple[str, str]) -> str | None:
    expected = refusal_of(pair)
    try:
        weights = train(recipe_of(*pair), setup_for(*pair))
    except ConflictError as error:
        return None if expected and re.search(expected, str(error)) else f"is refused: {error}"
    except Exception as error:
        error.add_note("with " + " and ".join(pair))
        raise
    if expected:
        return "trains and should be refused"
    return None if finite(weights) else "ends with weights that are not finite"


# A test for each first technique, not for each pair: seven thousand tests took as long to hand out as to run.
@pytest.mark.parametrize("first", list(EVERY)[:-1])
def test_every_pair_trains_or_is_refused(first: str) -> None:
    pairs = [pair for pair in PAIRS if pair[0] == first]
    wrong = {"+".join(pair): said for pair in pairs if (said := what_is_wrong(pair)) is not None}
    assert not wrong


@pytest.mark.parametrize("names", SAMPLE, ids=ids)
def test_micro_batches_and_order_mean_nothing(names: tuple[str, ...]) -> None:
    setup = setup_for(*names)
    forwards, backwards = recipe_of(*names), recipe_of(*reversed(names))
    assert difference(train(forwards, setup), train(backwards, setup)) == 0
    if all(EVERY[name].facts.split_invariant for name in names):
        assert split_difference(forwards, setup) <= SPLIT_TOLERANCE


@pytest.mark.parametrize("names", RESUMED, ids=ids)
def test_a_stop_means_nothing(names: tuple[str, ...]) -> None:
    setup = replace(setup_for(*names), dropout=0.2)
    assert resume_difference(recipe_of(*names), setup, step=4) == 0


def test_how_much_was_covered() -> None:
    refused = [pair for pair in PAIRS if declared_conflict(*pair)]
    n = len(EVERY)
    assert n >= 114
    assert len(PAIRS) == n * (n - 1) // 2 >= 6216
    assert 388 <= len(refused) <= len(PAIRS) // 5
    assert len(SAMPLE) == 2 * n
    assert len([names for names in SAMPLE if all(EVERY[name].facts.split_invariant for name in names)]) >= 170
    assert len(RESUMED) == n
    assert sum(len(names) == 2 for names in RESUMED) >= 50
    assert {name for names in SAMPLE for name in names} == set(EVERY)
