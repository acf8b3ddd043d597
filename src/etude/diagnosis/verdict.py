"""What a diagnosis says: verdicts, and advice that rests on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Status = Literal["good", "look", "bad", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """The answer to one question about a run.

    Attributes:
        step: a short name of the question, as ``"convergence"``.
        question: the question.
        verdict: ``"good"``, ``"look"`` (worth a look), ``"bad"``, or ``"unknown"`` where evidence lacks.
        sentence: the answer, with the numbers that decide it.
        evidence: the numbers and rows behind the answer.
        advice: what to do, a sentence each; :func:`~etude.diagnosis.what_next` has it with settings.
    """

    step: str
    question: str
    verdict: Status
    sentence: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    advice: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain values; a number that is not finite becomes null.

        >>> Verdict("fit", "Does it overfit?", "good", "No.", {"gap": math.nan}).to_json()["evidence"]
        {'gap': None}
        """
        return {
            "step": self.step,
            "question": self.question,
            "verdict": self.verdict,
            "sentence": self.sentence,
            "evidence": plain(self.evidence),
            "advice": list(self.advice),
        }


@dataclass(frozen=True)
class Question:
    """A question about a run, with its short name."""

    step: str
    text: str

    def answer(
        self, verdict: Status, sentence: str, evidence: Mapping[str, Any] | None = None, *advice: str
    ) -> Verdict:
        """Return the verdict on this question."""
        return Verdict(self.step, self.text, verdict, sentence, evidence or {}, list(advice))


@dataclass(frozen=True)
class Advice:
    """Something to try next, and the evidence that suggests it.

    Attributes:
        step: the question whose verdict it follows from.
        title: what to try.
        why: the evidence, in a sentence.
        config: the settings that do it, in TOML; empty where it is no setting.
        command: a command that does it; empty where there is none.
    """

    step: str
    title: str
    why: str
    config: str = ""
    command: str = ""

    def to_json(self) -> dict[str, str]:
        """The advice as plain values."""
        return {
            "step": self.step,
            "title": self.title,
            "why": self.why,
            "config": self.config,
            "command": self.command,
        }


def plain(value: Any) -> Any:
    """Return a value that JSON can hold: NumPy's become Python's, and what is not finite None.

    >>> plain({"a": np.float32(0.5), "b": [np.int64(2), math.inf]})
    {'a': 0.5, 'b': [2, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
