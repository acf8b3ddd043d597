"""The decision: from logits to calibrated probabilities, to labels, and to silence where that is better."""

from etude.decision.checks import check_decision, check_rows
from etude.decision.postprocessor import Decision, cross_fit

__all__ = ["Decision", "check_decision", "check_rows", "cross_fit"]
