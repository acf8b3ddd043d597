"""The plan: every technique's contributions in the order of the phases, checked before training.

Two techniques in a phase that takes one, a technique that the task or the backbone cannot carry, and
clashes that techniques declare are refused here, each with the reason and the way out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any, TypeVar

from etude.core.phases import LOSS, RANK, Phase
from etude.core.technique import Context, Technique
from etude.errors import ConflictError

F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class Entry:
    """One contribution: who made it, to which phase, at which rank."""

    phase: Phase[Any]
    rank: int
    technique: str
    contribution: Any


class Plan:
    """Contributions by phase.

    Attributes:
        context: what techniques may look at.
        techniques: the techniques that contributed, by name.
        notes: what techniques say of the numbers that they found, for the start of a run.
        warnings: doubtful combinations, a sentence each.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.techniques: dict[str, Technique[Any]] = {}
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self._entries: list[Entry] = []
        self._attaching = ""

    def attach(self, technique: Technique[Any]) -> None:
        """Let a technique place its contributions."""
        self._attaching = technique.key()
        technique.attach(self)
        self.techniques[technique.key()] = technique

    def add(self, phase: Phase[F], contribution: F, *, rank: int = 0) -> None:
        """Contribute to a phase; raises :class:`ConflictError` where a phase takes one and is taken."""
        if phase.takes == "one":
            for entry in self._entries:
                if entry.phase is phase:
                    raise _both_want(phase, entry.technique, self._attaching)
        self._entries.append(Entry(phase, rank, self._attaching, contribution))

    def many(self, phase: Phase[F]) -> list[F]:
        """The contributions to a phase in their order."""
        return [entry.contribution for entry in self.entries() if entry.phase is phase]

    def one(self, phase: Phase[F]) -> F | None:
        """The contribution to a phase that takes one."""
        found = self.many(phase)
        return found[0] if found else None

    def entries(self) -> list[Entry]:
        """All contributions in the order in which they act."""
        return sorted(self._entries, key=lambda e: (RANK[e.phase.name], e.rank, e.technique))

    def changes_inputs(self) -> bool:
        """Whether inputs differ from step to step, so that features cannot be cached."""
        return any(self.techniques[e.technique].facts.changes_inputs for e in self._entries)

    def passes(self) -> float:
        """Forward-and-backward passes of one step, as a multiple of a plain one."""
        return math.prod(self.techniques[n].facts.passes for n in {e.technique for e in self._entries})

    def describe(self) -> str:
        """One line: ``mix:mixup -> perturb:sam -> loss:focal``."""
        return " -> ".join(f"{entry.phase.name}:{entry.technique}" for entry in self.entries())


def _refuse_unsuited(technique: Technique[Any], context: Context) -> None:
    facts, name = technique.facts, technique.key()
    if context.task.kind not in facts.tasks:
        raise ConflictError(
            f"{name} works on {' and '.join(sorted(facts.tasks))} tasks and this one is "
            f"{context.task.kind}; remove {name}"
        )
    for need in sorted(facts.needs - context.backbone.capabilities):
        raise ConflictError(
            f"{name} needs a backbone with '{need}' and {type(context.backbone).__name__} has none; "
            f"remove {name}"
        )
    if facts.needs_validation and not context.has_validation:
        raise ConflictError(f"{name} needs a validation part and there is none; set data.validation")
    if facts.needs_unlabelled and not context.n_unlabelled:
        raise ConflictError(f"{name} needs rows without labels and there are none; set data.unlabelled")
    if context.soft_targets and not facts.accepts_soft_targets:
        raise ConflictError(f"{name} needs hard targets and the labels are distributions; remove {name}")
    if facts.two_pass and context.precision == "fp16":
        raise ConflictError(
            f'{name} takes two passes and fp16 rescales gradients between them; use precision = "bf16"'
        )


def refuse_early(techniques: Iterable[Technique[Any]]) -> None:
    """Refuse what cannot work together whatever the data and the backbone are.

    Raises:
        ConflictError: two techniques clash, or want a phase that takes one.
    """
    acting = sorted((t for t in techniques if not t.is_neutral()), key=lambda t: t.key())
    _refuse_clashes(acting)
    for one, other in combinations(acting, 2):
        if one.facts.phase is other.facts.phase and one.facts.phase.takes == "one":
            raise _both_want(one.facts.phase, one.key(), other.key())


def _both_want(phase: Phase[Any], one: str, other: str) -> ConflictError:
    return ConflictError(
        f"{one} and {other} both want the phase '{phase.name}', which takes one; remove one of them"
    )


def _refuse_clashes(techniques: list[Technique[Any]]) -> None:
    for one in techniques:
        for missing in sorted(one.facts.requires - {other.key() for other in techniques}):
            way_out = f"add [techniques.{missing}] or remove {one.key()}"
            raise ConflictError(f"{one.key()} works only together with {missing}; {way_out}")
    for one in techniques:
        for other in techniques:
            if one is other:
                continue
            for what, reason in one.facts.clashes.items():
                if _means(what, other):
                    raise ConflictError(f"{one.key()} clashes with {other.key()}: {reason}")
            if one.facts.produces_soft_targets and not other.facts.accepts_soft_targets:
                raise ConflictError(
                    f"{one.key()} makes targets soft and {other.key()} needs hard ones; remove one of them"
                )


def _means(what: str, technique: Technique[Any]) -> bool:
    """Whether a technique is the one of that name, or has the fact that is meant by ``"fact:NAME"``."""
    return technique.facts.holds(what[5:]) if what.startswith("fact:") else technique.key() == what


def _doubts(techniques: list[Technique[Any]]) -> list[str]:
    """One sentence for each two techniques of which one cautions against the other."""
    found: dict[frozenset[str], str] = {}
    for one, other in permutations(techniques, 2):
        for what, reason in one.facts.cautions.items():
            if _means(what, other):
                found.setdefault(
                    frozenset({one.key(), other.key()}), f"{one.key()} together with {other.key()}: {reason}"
                )
    return list(found.values())


def build_plan(techniques: Iterable[Technique[Any]], context: Context) -> Plan:
    """Place the techniques, in an order that does not depend on the config's.

    Raises:
        ConflictError: two techniques cannot work together, or the task or the backbone cannot
            carry one of them.
    """
    listed = sorted(techniques, key=lambda t: (RANK[t.facts.phase.name], t.key()))
    for technique in listed:
        _refuse_unsuited(technique, context)
    plan = Plan(context)
    for technique in listed:
        plan.attach(technique)
    acting = {entry.technique for entry in plan.entries()}
    _refuse_clashes([t for t in listed if t.key() in acting])
    plan.warnings += _doubts([t for t in listed if t.key() in acting])
    if plan.one(LOSS) is None:
        raise ConflictError('no loss is chosen; add [loss] with name = "cross_entropy" or "bce"')
    return plan
