"""The diagnosis of a run: questions, each with a verdict, its evidence and what to try next.

The first five questions are the five steps of a diagnosis by hand: has the training loss converged,
does the model over- or underfit, is it better than simple baselines, where does it fail, and which
labels does it confuse. Everything here is a pure function of what a run leaves behind.
"""

from etude.diagnosis.advice import what_next
from etude.diagnosis.evidence import Evidence, RowLosses
from etude.diagnosis.questions import diagnose
from etude.diagnosis.verdict import Advice, Verdict

__all__ = ["Advice", "Evidence", "RowLosses", "Verdict", "diagnose", "what_next"]
