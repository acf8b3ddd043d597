"""The questions in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Callable

from etude.diagnosis.baselines import baselines
from etude.diagnosis.confusion import confusion
from etude.diagnosis.convergence import best_epoch, convergence
from etude.diagnosis.decisions import calibration, labels, thresholds
from etude.diagnosis.dynamics import dynamics
from etude.diagnosis.evidence import Evidence
from etude.diagnosis.failures import failures
from etude.diagnosis.fit import fit
from etude.diagnosis.rows import rows
from etude.diagnosis.verdict import Verdict

QUESTIONS: tuple[Callable[[Evidence], Verdict], ...] = (
    convergence, fit, baselines, failures, confusion,
    best_epoch, dynamics, calibration, thresholds, labels, rows,
)  # fmt: skip
"""The five steps first, then what else a run's evidence tells."""


def diagnose(evidence: Evidence) -> list[Verdict]:
    """Answer every question, with the verdict "unknown" where the evidence lacks.

    >>> from etude.core.task import Multiclass
    >>> {verdict.verdict for verdict in diagnose(Evidence(Multiclass(["a", "b"])))}
    {'unknown'}
    """
    return [question(evidence) for question in QUESTIONS]
