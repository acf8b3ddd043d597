"""Short to long: show the short texts of an epoch first.

Idea: short inputs are mostly simple ones. Beginning with them lets a model find its feet on simple
examples, and an epoch's first steps are cheap because nothing is padded to the length of a long text.

Formula, with lengths L (N,): until the time T every epoch shows its rows by rising L, rows of one
length in random order; later epochs are shuffled.

Paper: Bengio et al. 2009, Curriculum learning, ICML; Spitkovsky et al. 2010, From baby steps to
leapfrog, NAACL, with the length as the measure of difficulty.

When it helps: training from scratch, or far from the checkpoint's own data; very unequal lengths.
When not: length gives the label away, so that batches hold few classes; fine-tuning with a learning
rate that falls to nothing, where the long texts of the last epoch would hardly count (end T earlier).

Suggested values: T = "1ep", only the first epoch.

Cost: one sort of N integers for each epoch; batches hold hardly any padding.

Clashes: length_buckets and easy_to_hard, which want the same phase.

NOTE[DIFF]: the papers add long examples to the short ones step by step; here each epoch shows all rows
once, so that its length stays what it was.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from etude.config.fields import Time, setting
from etude.core.phases import ORDER, Rows, View
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig


class ShortToLongConfig(TechniqueConfig):
    """Settings of the order by length."""

    name: Literal["short_to_long"] = "short_to_long"
    until: Time = setting(
        Time(1, "ep"), help="epochs that begin before this time are ordered, as '1ep' or '0.5dur'"
    )


def by_length(lengths: NDArray[np.int64], rng: np.random.Generator) -> Rows:
    """Return the positions by rising length, equal lengths in random order.

    Args:
        lengths: (N,) tokens of each row.
        rng: shuffles rows of one length.

    >>> lengths = np.array([3, 9, 4, 3])
    >>> lengths[by_length(lengths, np.random.default_rng(0))]
    array([3, 3, 4, 9])
    """
    shuffled = rng.permutation(len(lengths))
    return shuffled[np.argsort(lengths[shuffled], kind="stable")]


class ShortToLong(Technique[ShortToLongConfig]):
    """Orders the rows of the first epochs."""

    Config = ShortToLongConfig
    facts = Facts(
        family="curriculum",
        phase=ORDER,
        paper="Bengio et al. 2009, ICML; Spitkovsky et al. 2010, NAACL",
        neutral={"until": "0ep"},
    )

    def attach(self, plan: Plan) -> None:
        context = plan.context
        end = context.steps(self.config.until)
        if end == 0:
            return

        def order(view: View, batch_size: int, moment: Moment) -> Rows:
            rng = moment.numpy("short_to_long")
            if context.steps(Time(moment.epoch, "ep")) < end:
                return by_length(view.lengths, rng)
            return rng.permutation(len(view.rows))

        plan.add(ORDER, order)
