"""Do gradients and updates have healthy sizes, in every parameter group?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from etude.diagnosis.evidence import Evidence, at
from etude.diagnosis.verdict import Question, Status, Verdict

QUESTION = Question("dynamics", "Are gradients and updates of a healthy size?")
LARGE_UPDATE, SMALL_UPDATE = 3e-2, 1e-5
"""Around 1e-3 of the weights' norm is a healthy update; this far from it, the learning rate is doubtful."""
SPIKE, EXPLODED = 20.0, 10.0
"""A gradient norm so many times its median is a spike; one that stays there to the end has exploded."""
VANISHED = 1e-4
"""A gradient norm below this share of the largest group's has vanished."""
FEWEST = 5


class GroupDynamics(NamedTuple):
    """What a parameter group went through, as medians over the run."""

    name: str
    grad_norm: float
    update_ratio: float
    lr: float


def by_group(history: Sequence[Mapping[str, Any]]) -> list[GroupDynamics]:
    """Return the medians of each group's numbers, nan where it has none."""
    found: dict[str, dict[str, list[float]]] = {}
    for record in history:
        for name, numbers in (at(record, "dynamics") or {}).items():
            for key in ("grad_norm", "update_ratio", "lr"):
                value = at(numbers, key)
                if isinstance(value, int | float) and math.isfinite(value):
                    found.setdefault(name, {}).setdefault(key, []).append(float(value))
    return [
        GroupDynamics(name, *(_median(numbers.get(key, [])) for key in ("grad_norm", "update_ratio", "lr")))
        for name, numbers in found.items()
    ]


def dynamics(evidence: Evidence) -> Verdict:
    """Judge the gradient norm over the run, and the updates of each group."""
    norms = evidence.gradient_norms()
    groups = by_group(evidence.history)
    if len(norms) + norms.n_broken < FEWEST and not groups:
        return QUESTION.answer(
            "unknown", "No gradient norms were logged; training_dynamics and clip log them.", {}
        )
    facts: dict[str, Any] = {"groups": [group._asdict() for group in groups]}
    said: list[tuple[Status, str, str]] = []
    if len(norms) + norms.n_broken >= FEWEST:
        facts |= _norms(norms.values, norms.n_broken)
        said += _judged_norms(facts)
    for group in groups:
        said += _judged_group(group, groups)
    facts["findings"] = [sentence for _, sentence, _ in said]
    if said:
        worst: Status = "bad" if any(status == "bad" for status, _, _ in said) else "look"
        more = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
        first = next(sentence for status, sentence, _ in said if status == worst)
        return QUESTION.answer(worst, f"{first}{more}.", facts, *dict.fromkeys(way for _, _, way in said))
    return QUESTION.answer("good", f"Yes: {_in_words(facts, groups)}.", facts)


def _norms(values: Any, n_broken: int) -> dict[str, Any]:
    tail = values[-max(len(values) // 5, FEWEST) :]
    return {
        "norm_broken": n_broken,
        "norm_median": _median(values),
        "norm_largest": float(np.max(values)) if len(values) else math.nan,
        "norm_end": _median(tail),
    }


def _judged_norms(facts: Mapping[str, Any]) -> list[tuple[Status, str, str]]:
    lower = "Lower the learning rate, lengthen the warm-up, or clip gradients more tightly."
    median, largest, end = facts["norm_median"], facts["norm_largest"], facts["norm_end"]
    if facts["norm_broken"]:
        return [("bad", f"The gradient norm was not finite in {facts['norm_broken']} records", lower)]
    if end > EXPLODED * median > 0:
        return [
            ("bad", f"Gradients exploded: their norm ended at {end:.3g}, its median is {median:.3g}", lower)
        ]
    if largest > SPIKE * median > 0:
        return [("look", f"The gradient norm jumped to {largest:.3g}, its median is {median:.3g}", lower)]
    return []


def _judged_group(group: GroupDynamics, groups: list[GroupDynamics]) -> list[tuple[Status, str, str]]:
    found: list[tuple[Status, str, str]] = []
    largest = max((other.grad_norm for other in groups if not math.isnan(other.grad_norm)), default=math.nan)
    if group.grad_norm < VANISHED * largest:
        found.append((
            "look",
            f"Gradients of '{group.name}' have almost vanished: {group.grad_norm:.2g} against {largest:.2g}",
            "Freeze the group, or give it a learning rate of its own.",
        ))  # fmt: skip
    updates = f"updates of '{group.name}' are {group.update_ratio:.1e} of its weights, 1e-3 being usual"
    if group.update_ratio > LARGE_UPDATE:
        found.append(("look", f"Large {updates}", "Lower the learning rate of that group."))
    elif group.update_ratio < SMALL_UPDATE:
        found.append(("look", f"Small {updates}", "Raise the learning rate of that group."))
    return found


def _in_words(facts: Mapping[str, Any], groups: list[GroupDynamics]) -> str:
    words = []
    if "norm_median" in facts:
        words.append(f"the gradient norm stayed around {facts['norm_median']:.3g}")
    ratios = [group.update_ratio for group in groups if not math.isnan(group.update_ratio)]
    if ratios:
        span = f"{min(ratios):.1e}" if len(ratios) == 1 else f"{min(ratios):.1e} to {max(ratios):.1e}"
        words.append(f"a step changed the weights by {span} of their norm")
    return " and ".join(words) or "nothing stands out"


def _median(values: Any) -> float:
    return float(np.median(values)) if len(values) else math.nan
