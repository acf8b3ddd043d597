"""Oversampling: repeat rows of rare classes until all classes are equally frequent.

Idea: show a rare class's rows several times in an epoch, so that no class is seen less often than the
largest. Unlike drawing at random, every row is shown at least once.

Formula, with targets y (N, C), n_c rows of class c, m = max n_c and ratio r; the goal of a class is
K_c = max(n_c, round(r · m)):

* one label for each row: class c gets exactly K_c places; each of its rows gets ⌊K_c / n_c⌋ of them,
  and K_c mod n_c of its rows, others in each epoch, one more
* any subset of labels: row i gets R_i = max K_c / n_c over its labels c, in whole numbers whose mean
  over epochs is R_i; each label then has at least K_c places on average, and a frequent label that
  stands beside rare ones has more, because a row cannot be repeated for one of its labels alone
* a row without a label is shown once

Paper: Buda et al. 2018 (1710.05381), random minority oversampling; for several labels Gupta et al.
2019 (1908.03195), section 5.1, repeat factors.

When it helps: imbalanced data of any degree; the first paper finds it the best or among the best of
all answers to imbalance in every data set that it tests.
When not: classes of a handful of rows, which are learnt by heart; where probabilities must be
calibrated, since the model learns the repeated class frequencies and not the true ones.

Suggested values: r = 1; less where the rarest class would be repeated hundreds of times.

Cost: the epoch grows to at most C · m rows; 1 pass.

Clashes: weighted_sampling, which wants the same phase. class_weights and undersample correct the same
imbalance a second time, which a warning says.

NOTE[DIFF]: Gupta et al. take the repeat factor √(t / f_c) with a threshold t of the frequency f_c; here it
is m / n_c, so that one label for each row and several labels follow one rule.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from etude.config.fields import SearchRange, setting
from etude.core.phases import SAMPLE, Rows, View
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig

Floats = NDArray[np.float64]


class OversampleConfig(TechniqueConfig):
    """Settings of oversampling."""

    name: Literal["oversample"] = "oversample"
    ratio: float = setting(
        1.0,
        help="rows that each class gets at least, as a share of the largest class's",
        ge=0.0,
        le=1.0,
        search=SearchRange(0.1, 1.0),
    )


def goals(counts: Floats, ratio: float) -> Floats:
    """Return how many places each class gets; a class without rows gets none.

    Args:
        counts: (C,) rows of each class.
        ratio: r in [0, 1].

    Raises:
        ValueError: ``ratio`` is out of [0, 1].

    >>> goals(np.array([40.0, 10.0, 0.0]), 0.5)
    array([40., 20.,  0.])
    """
    if not 0.0 <= ratio <= 1.0:
        raise ValueError(f"ratio is {ratio} and must lie in [0, 1]")
    return np.where(counts > 0, np.maximum(counts, np.round(ratio * counts.max())), 0.0)


def repeat_classes(classes: Rows, ratio: float, rng: np.random.Generator) -> Rows:
    """Return positions of rows with one label each, repeated until every class has its goal.

    Args:
        classes: (N,) class of each row.
        ratio: r in [0, 1].
        rng: draws the rows that are shown once more than others of their class.

    >>> classes = np.array([0, 0, 0, 0, 1, 2, 2])
    >>> drawn = repeat_classes(classes, 1.0, np.random.default_rng(0))
    >>> np.bincount(classes[drawn])
    array([4, 4, 4])
    """
    counts = np.bincount(classes)
    shown: list[Rows] = []
    for c, goal in enumerate(goals(counts.astype(np.float64), ratio).astype(np.int64)):
        if counts[c]:
            rows = rng.permutation(np.flatnonzero(classes == c))
            shown.append(np.resize(rows, goal))
    return np.sort(np.concatenate(shown))


def repeat_labels(held: NDArray[np.bool_], ratio: float, rng: np.random.Generator) -> Rows:
    """Return positions of rows with any labels, each repeated by the need of its rarest label.

    Args:
        held: (N, C), whether a row has a label.
        ratio: r in [0, 1].
        rng: rounds the repeats, up as often as their fraction says.

    >>> held = np.array([[1, 0], [1, 0], [1, 0], [1, 1], [0, 0]], dtype=bool)
    >>> repeat_labels(held, 1.0, np.random.default_rng(0)).tolist()
    [0, 1, 2, 3, 3, 3, 3, 4]
    """
    counts = held.sum(axis=0).astype(np.float64)
    factors = goals(counts, ratio) / np.maximum(counts, 1.0)
    repeats = np.where(held, factors, 1.0).max(axis=1)
    return np.repeat(np.arange(len(held)), np.floor(repeats + rng.random(len(held))).astype(np.int64))


class Oversample(Technique[OversampleConfig]):
    """Repeats rows of rare classes in an epoch."""

    Config = OversampleConfig
    facts = Facts(
        family="sampling",
        phase=SAMPLE,
        paper="Buda et al. 2018, arXiv 1710.05381; Gupta et al. 2019, arXiv 1908.03195",
        rebalances=True,
        cautions={
            "fact:rebalances": "both answer the imbalance of the classes, so that rare ones may count twice "
            "over and probabilities are off; remove one of them unless that is meant"
        },
        neutral={"ratio": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        ratio = self.config.ratio
        if ratio == 0.0:
            return
        single = plan.context.task.kind != "multilabel"

        def sample(view: View, moment: Moment) -> Rows:
            targets, rng = view.targets.numpy(), moment.numpy("oversample")
            if single:
                return repeat_classes(targets.argmax(axis=1), ratio, rng)
            return repeat_labels(targets >= 0.5, ratio, rng)

        plan.add(SAMPLE, sample)
