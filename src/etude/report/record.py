"""What a report is made of: everything that a run has left behind, any piece of which may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from etude.diagnosis.evidence import RowLosses
from etude.evaluation.scored import Scored


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder tells of it.

    Attributes:
        name: the name of the folder.
        finished: whether the run came to its end.
        missing: a sentence on each piece that is not there or cannot be read.
        config: the TOML text.
        plan: the order in which the techniques act.
        environment: versions, hardware, git commit and seed.
        history: the records of ``metrics.jsonl``.
        summary: what ``summary.json`` holds.
        verdicts: the diagnosis, each verdict as JSON.
        advice: what to try next, each piece as JSON.
        parts: ``"train"`` (a sample), ``"validation"`` and ``"test"``, as far as there are any.
        losses: the loss of each training row over epochs.
        decided_by: the metric that thresholds were fitted to.
    """

    name: str
    finished: bool
    missing: Sequence[str] = ()
    config: str = ""
    plan: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    verdicts: Sequence[Mapping[str, Any]] = ()
    advice: Sequence[Mapping[str, Any]] = ()
    parts: Mapping[str, Scored] = field(default_factory=dict)
    losses: RowLosses | None = None
    decided_by: str = "f1"

    def held_out(self) -> tuple[str, Scored] | None:
        """The rows to learn from by reading them.

        The validation part comes first: who changes a run after reading rows of the test part has tuned
        it on them.
        """
        return self.first("validation", "test", "train")

    def unseen(self) -> tuple[str, Scored] | None:
        """The rows to judge by: the test part, or else the validation part."""
        return self.first("test", "validation")

    def first(self, *names: str) -> tuple[str, Scored] | None:
        """The first of the parts that holds a row."""
        for name in names:
            if name in self.parts and len(self.parts[name]):
                return name, self.parts[name]
        return None

    @property
    def main_metric(self) -> str:
        """The metric that people look at first."""
        return "f1_macro" if self.kind == "multilabel" else "accuracy"

    @property
    def kind(self) -> str | None:
        """The kind of task, where anything tells it."""
        if self.summary.get("task"):
            return str(self.summary["task"])
        for scored in self.parts.values():
            return scored.task.kind
        # Only multilabel tasks are scored by the share of wrong entries.
        told = [
            record["validation"] for record in self.history if isinstance(record.get("validation"), Mapping)
        ]
        if told:
            return "multilabel" if "hamming_loss" in told[-1] else None
        return None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a run goes onto its page, so that the page stays small.

    Attributes:
        rows: of a table of labels.
        examples: of each list of rows with their texts.
        characters: of a text.
        labels: of a matrix, and of a list to pick a threshold's curve from.
        source: characters of the config and of the plan.
    """

    rows: int = 300
    examples: int = 20
    characters: int = 300
    labels: int = 30
    source: int = 60_000

    def tighter(self) -> Limits:
        """A third of everything."""
        return Limits(
            *(
                max(3, getattr(self, name) // 3)
                for name in ("rows", "examples", "characters", "labels", "source")
            )
        )
