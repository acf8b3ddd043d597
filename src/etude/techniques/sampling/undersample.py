"""Undersampling: show only some rows of the frequent classes, others in each epoch.

Idea: where one class has far more rows than another, most steps teach what is known already. Keeping
a limited number of rows of each class balances the epoch and shortens it; because the rows are drawn
anew in each epoch, none is lost for good.

Formula, with targets y (N, C), n_c = Σ_i y_ic rows of class c, and ratio r:

* the cap is K = max(1, ⌊r · min {n_c : n_c > 0}⌋)
* the rows are shuffled, and row i is kept if it is among the first K rows of one of its classes
* one label for each row: a class keeps min(n_c, K) rows
* any subset of labels: a class keeps at least min(n_c, K) rows, and more where its rows are kept for
  the sake of a rarer label; rows without a label are treated as a class of their own, which does not
  take part in the minimum

Paper: Buda et al. 2018 (1710.05381), random majority undersampling.

When it helps: large data with far more rows than the frequent classes need; a shorter epoch at the
same quality. Remove rows of a class only if it does not get worse and others get better.
When not: little data, where the paper finds oversampling better in almost all cases; where probabilities
must be calibrated, since the model learns the epoch's class frequencies and not the true ones.

Suggested values: r from 1 (all classes equally frequent) to 20 (only extremes are cut); 3 as a start.

Cost: one pass over the targets for each epoch, and one more in front of the run to count its steps.

Clashes: none; class_weights (which follow from the rows before some are left out), weighted_sampling
and oversample correct the same imbalance a second time, which a warning says.

NOTE[DIFF]: the paper removes rows once and for all; here each epoch draws its own.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from etude.config.fields import SearchRange, setting
from etude.core.phases import DATA, Rows, View
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig


class UndersampleConfig(TechniqueConfig):
    """Settings of undersampling."""

    name: Literal["undersample"] = "undersample"
    ratio: float = setting(
        3.0,
        help="most rows of a class in an epoch, as a multiple of the rarest class's rows",
        ge=1.0,
        search=SearchRange(1.0, 20.0, "log"),
    )


def cap_of(counts: NDArray[Any], ratio: float) -> int:
    """Return the most rows that a class may keep.

    Args:
        counts: (C,) rows of each class; classes without rows are passed over.
        ratio: 1 or more.

    Raises:
        ValueError: ``ratio`` is below 1.

    >>> cap_of(np.array([4, 0, 100]), 2.5)
    10
    """
    if ratio < 1.0:
        raise ValueError(f"ratio is {ratio} and must be at least 1")
    present = counts[counts > 0]
    return max(1, int(ratio * present.min())) if len(present) else 1


def keep_rows(held: NDArray[np.bool_], cap: int, rng: np.random.Generator) -> Rows:
    """Return the rows, in ascending order, that are among the first ``cap`` of one of their classes.

    Args:
        held: (N, C), whether a row has a label.
        cap: most rows of a class, and of the rows without a label.
        rng: shuffles the rows; "first" is in the shuffled order.

    >>> held = np.array([[1, 0], [1, 0], [1, 0], [1, 0], [0, 1]], dtype=bool)
    >>> keep_rows(held, 2, np.random.default_rng(0)).tolist()
    [2, 3, 4]
    """
    order = rng.permutation(len(held))
    kept = np.zeros(len(held), dtype=np.bool_)
    for members in (*held.T, ~held.any(axis=1)):
        kept[order[np.flatnonzero(members[order])[:cap]]] = True
    return np.flatnonzero(kept)


class Undersample(Technique[UndersampleConfig]):
    """Leaves rows of frequent classes out of an epoch."""

    Config = UndersampleConfig
    facts = Facts(
        family="sampling",
        phase=DATA,
        paper="Buda et al. 2018, arXiv 1710.05381",
        rebalances=True,
        cautions={
            "fact:rebalances": "both answer the imbalance of the classes, so that rare ones may count twice "
            "over and probabilities are off; remove one of them unless that is meant"
        },
        neutral={"ratio": 1e9},
    )

    def attach(self, plan: Plan) -> None:
        ratio, context = self.config.ratio, plan.context
        if cap_of(context.class_counts, ratio) >= context.n_rows:
            return
        single = context.task.kind != "multilabel"

        def change(view: View, moment: Moment) -> View:
            targets = view.targets.numpy()
            if single:
                held = np.zeros(targets.shape, dtype=np.bool_)
                held[np.arange(len(held)), targets.argmax(axis=1)] = True
            else:
                held = targets >= 0.5
            cap = cap_of(held.sum(axis=0), ratio)
            return view.select(keep_rows(held, cap, moment.numpy("undersample")))

        plan.add(DATA, change)
