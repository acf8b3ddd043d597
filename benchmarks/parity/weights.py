"""Weights of classes and rows against scikit-learn, torch and NumPy, in float64."""

from collections.abc import Iterator

import numpy as np
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy

from etude.techniques.weights.class_weights import class_weights
from etude.techniques.weights.recency_weights import recency_weights

COUNTS = np.array([10, 40, 50, 3, 900])


def rows() -> Iterator[tuple[str, str, float]]:
    """Yield technique, reference, and the largest absolute difference in float64."""
    classes = np.repeat(np.arange(len(COUNTS)), COUNTS)
    n = len(classes)
    balanced = class_weights(COUNTS, n, "balanced")
    theirs = compute_class_weight("balanced", classes=np.arange(len(COUNTS)), y=classes)
    yield "class_weights", "scikit-learn's balanced class weights", float(abs(balanced - theirs).max())

    logits = torch.randn(n, len(COUNTS), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, weights = torch.from_numpy(classes), torch.from_numpy(balanced)
    terms = -torch.nn.functional.one_hot(labels, len(COUNTS)) * logits.log_softmax(-1)
    ours = (terms * weights).sum(dim=1)
    torchs = cross_entropy(logits, labels, weight=weights, reduction="none")
    yield "class_weights", "torch's weighted cross-entropy of each row", float((ours - torchs).abs().max())

    beta = 0.999
    series = np.array([sum(beta**i for i in range(count)) for count in COUNTS])
    found = class_weights(COUNTS, n, "effective_number", beta=beta)
    yield "class_weights", "effective number as the sum of its series", float(abs(found - 1 / series).max())

    apart = abs(recency_weights(1000, 0.001) - np.geomspace(0.001, 1, 1000)).max()
    yield "recency_weights", "numpy.geomspace(0.001, 1, N)", float(apart)
