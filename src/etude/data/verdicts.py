"""What a check of the data finds, in words: remarks, gathered into sections, gathered into a checkup.

A remark is *safe*, asks for a *look*, or is *unsafe*: training on such data would give a model, or a
score, that is not what it seems. A section is as bad as its worst remark, and a checkup as its worst
section.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["safe", "look", "unsafe"]

VERDICTS: tuple[Verdict, ...] = ("safe", "look", "unsafe")
"""From the best to the worst."""


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of some verdicts, and ``"safe"`` of none.

    >>> worst(["safe", "unsafe", "look"])
    'unsafe'
    """
    return max(verdicts, key=VERDICTS.index, default="safe")


@dataclass(frozen=True)
class Remark:
    """One thing that was found, and what can be done about it."""

    verdict: Verdict
    sentence: str
    advice: str = ""


@dataclass(frozen=True)
class Section:
    """One question that was put to the data.

    Attributes:
        name: a short name, by which programs find it.
        question: what was asked.
        remarks: the answer; the worst comes first wherever it is shown.
        evidence: the figures behind it, of types that JSON has.
        notes: what the reader should know of how it was answered.
    """

    name: str
    question: str
    remarks: Sequence[Remark]
    evidence: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst of the remarks."""
        return worst(remark.verdict for remark in self.remarks)

    @property
    def worst_first(self) -> list[Remark]:
        """The remarks, the worst first."""
        return sorted(self.remarks, key=lambda remark: -VERDICTS.index(remark.verdict))

    def to_json(self) -> dict[str, Any]:
        """The section as plain data."""
        return {
            "name": self.name,
            "question": self.question,
            "verdict": self.verdict,
            "remarks": [asdict(remark) for remark in self.worst_first],
            "notes": list(self.notes),
            "evidence": dict(self.evidence),
        }


@dataclass(frozen=True)
class Checkup:
    """All that was asked of one data set.

    Attributes:
        source: the config or the file that was checked.
        task: the kind of task, or nothing where the labels make none.
        labels: the labels in the task's order.
        rows: the usable rows of each part.
        sections: the questions, in the order in which they were put.
    """

    source: str
    task: str | None
    labels: Sequence[str]
    rows: Mapping[str, int]
    sections: Sequence[Section]

    @property
    def verdict(self) -> Verdict:
        """The worst of the sections."""
        return worst(section.verdict for section in self.sections)

    @property
    def sentence(self) -> str:
        """The verdict in words, with the sections that decided it."""
        found = {v: [s.name for s in self.sections if s.verdict == v] for v in VERDICTS}
        if self.verdict == "safe":
            return f"Safe to train on: all {len(self.sections)} checks passed."
        looks = f"{'have a look at' if self.verdict == 'look' else 'look also at'} {_listed(found['look'])}"
        if self.verdict == "look":
            return f"Fit to train on, but {looks}."
        also = f"; {looks}" if found["look"] else ""
        return f"Not safe to train on: mend {_listed(found['unsafe'])} first{also}."

    @property
    def exit_code(self) -> int:
        """0, or 1 where something is unsafe."""
        return int(self.verdict == "unsafe")

    def to_json(self) -> dict[str, Any]:
        """The checkup as plain data."""
        return {
            "source": self.source,
            "verdict": self.verdict,
            "sentence": self.sentence,
            "task": self.task,
            "labels": list(self.labels),
            "rows": dict(self.rows),
            "sections": [section.to_json() for section in self.sections],
        }


def _listed(names: Sequence[str]) -> str:
    """Join names as people do: ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
