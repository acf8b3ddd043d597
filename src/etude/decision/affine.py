"""Calibrations that are affine in the logits, and can therefore live in a network's last layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from etude.decision.postprocessor import Decision

Vector = NDArray[np.float64]


def affine(decision: Decision) -> tuple[Vector, Vector] | None:
    """Return scale (C,) and offset (C,) with which the logits become calibrated, where that is possible.

    The probabilities of ``scale * logits + offset`` are the decision's. None where nothing is calibrated,
    where the map is no affine one (isotonic, and Platt's of several classes against the rest), and where
    abstaining looks at the logits as they were.

    >>> from etude.core.task import Multiclass
    >>> from etude.decision.calibration import Calibration
    >>> task = Multiclass(["a", "b", "c"])
    >>> halved = Calibration("temperature", np.array([0.5]), np.array([0.0]))
    >>> decision = Decision(task, halved, Decision.plain(task).rule)
    >>> affine(decision)
    (array([0.5, 0.5, 0.5]), array([0., 0., 0.]))
    """
    task, calibration = decision.task, decision.calibration
    by_logits = decision.abstention is not None and decision.abstention.score == "energy"
    against_rest = task.kind == "multiclass" and calibration.kind == "platt"
    if calibration.kind in ("none", "isotonic") or by_logits or against_rest:
        return None
    scale = np.broadcast_to(calibration.scale, (task.n_classes,)).copy()
    if task.kind == "binary":  # calibrated on the difference of the two logits
        return scale, np.array([0.0, float(calibration.bias.reshape(-1)[0])])
    return scale, np.broadcast_to(calibration.bias, (task.n_classes,)).copy()
