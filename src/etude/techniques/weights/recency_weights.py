"""Recency weights: let new rows count more than old ones.

Idea: where the world drifts, old rows describe another world. Weights that rise with time let a model
learn from all rows and still fit the present best.

Formula, for the N training rows in order of time, row 0 the oldest, and the oldest row's weight s:
w_i = s^(1 - i / (N - 1)), NumPy's geomspace(s, 1, N); it multiplies the row's own weight.

Paper: Koychev 2000, Gradual forgetting for adaptation to concept drift, ECAI workshop on current issues
in spatio-temporal reasoning, sections 2 and 3.

When it helps: data collected over time, scored on what came last (split by time as well, with the
newest rows as the test file).
When not: rows in no order of time; data that do not drift, where it throws old rows away for nothing.

Suggested values: s = 0.001 where only the recent third is to count much; 0.1 for a slow drift.

Cost: 1 pass; no memory.

Clashes: none.

NOTE[DIFF]: the paper forgets linearly; a geometric series halves the weight over equal stretches of
rows. Time is the order of the rows in the training file: sort the file before.
NOTE[DIFF]: every step divides by its batch's total weight, so that a weight counts against the other
rows of its batch. With batches of one row recency weights would do nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from etude.config.fields import SearchRange, setting
from etude.core.phases import DATA, View
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig


class RecencyWeightsConfig(TechniqueConfig):
    """Settings of recency weights."""

    name: Literal["recency_weights"] = "recency_weights"
    oldest: float = setting(
        0.001,
        help="weight of the first row of the training file; the last row's is 1",
        gt=0.0,
        le=1.0,
        search=SearchRange(0.001, 1.0, "log"),
    )


def recency_weights(n_rows: int, oldest: float) -> NDArray[np.float64]:
    """Return the weights (N,) of rows in order of time.

    Args:
        n_rows: N.
        oldest: weight of row 0, in (0, 1].

    Raises:
        ValueError: ``oldest`` is out of (0, 1].

    >>> recency_weights(4, 0.001)
    array([0.001, 0.01 , 0.1  , 1.   ])
    """
    if not 0.0 < oldest <= 1.0:
        raise ValueError(f"oldest is {oldest} and must lie in (0, 1]")
    # The newest row counts fully, also where it is the only one.
    return np.geomspace(1.0, oldest, n_rows)[::-1]


class RecencyWeights(Technique[RecencyWeightsConfig]):
    """Multiplies the weight of each row by that of its age."""

    Config = RecencyWeightsConfig
    facts = Facts(
        family="weights",
        phase=DATA,
        paper="Koychev 2000, ECAI workshop on current issues in spatio-temporal reasoning",
        neutral={"oldest": 1.0},
    )

    def attach(self, plan: Plan) -> None:
        if self.config.oldest == 1.0:
            return
        by_row = torch.from_numpy(recency_weights(plan.context.n_rows, self.config.oldest).copy())

        def change(view: View, moment: Moment) -> View:
            # By row id, so that rows that others left out or put elsewhere keep their age.
            ages = by_row[torch.from_numpy(view.rows)].to(view.weights)
            return replace(view, weights=view.weights * ages)

        plan.add(DATA, change)
