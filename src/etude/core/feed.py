"""Feeding: which rows make the macro-batches of an epoch, and what their inputs are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from etude.core import phases
from etude.core.backbone import Backbone
from etude.core.batch import Batch
from etude.core.examples import Examples
from etude.core.groups import Freezer
from etude.core.observe import Reporter
from etude.core.phases import Rows, View
from etude.core.plan import Plan
from etude.core.predict import CachedFeatures, Subset, predict
from etude.core.rng import Moment

SHOWN_TOGETHER = 64
"""Rows of one pass that only takes statistics."""


class Feed:
    """The macro-batches of each epoch, a function of the plan, the epoch and nothing else.

    An epoch shows the labelled rows, which come first; techniques add rows without labels.
    """

    def __init__(self, plan: Plan, train: Examples, batch_size: int) -> None:
        self._train, self._batch_size, self._n_rows = train, batch_size, plan.context.n_rows
        self._change_view = plan.many(phases.DATA)
        self._sample = plan.one(phases.SAMPLE)
        self._choose_size = plan.one(phases.BATCH_SIZE)
        self._order = plan.one(phases.ORDER)

    def epoch(self, moment: Moment) -> tuple[View, list[Rows]]:
        """Return the epoch's view, and its macro-batches as positions in that view."""
        view, drawn = self._draw(moment)
        size = self.batch_size(moment)
        if self._order is not None:
            drawn = drawn[self._order(view.select(drawn), size, moment)]
        else:
            drawn = moment.numpy("shuffle").permutation(drawn)
        return view, [drawn[at : at + size] for at in range(0, len(drawn), size)]

    def batch_size(self, moment: Moment) -> int:
        """The rows of a step in the epoch."""
        return self._batch_size if self._choose_size is None else self._choose_size(moment)

    def n_steps(self, moment: Moment) -> int:
        """The number of the epoch's macro-batches."""
        return -(-len(self._draw(moment)[1]) // self.batch_size(moment))

    def _draw(self, moment: Moment) -> tuple[View, Rows]:
        """The epoch's view, and the positions in it that are shown."""
        train, n = self._train, self._n_rows
        view = View(np.arange(n), train.targets[:n], train.weights[:n], train.lengths[:n])
        for change in self._change_view:
            view = change(view, moment)
        return view, np.arange(len(view.rows)) if self._sample is None else self._sample(view, moment)


def make_batch(examples: Examples, view: View, rows: Rows) -> Batch:
    """Return the macro-batch of some rows of a view."""
    taken, ids = torch.from_numpy(rows), view.rows[rows]
    return Batch(examples.inputs(ids), view.targets[taken], view.weights[taken], torch.from_numpy(ids))


class FeatureCache:
    """Features of the frozen backbone, computed once: head-only epochs then cost milliseconds."""

    def __init__(
        self, plan: Plan, freezer: Freezer, model: Any, accelerator: Any, reporter: Reporter, *, on: bool
    ) -> None:
        self._usable = on and not plan.changes_inputs()
        self._freezer, self._model = freezer, model
        self._accelerator, self._reporter = accelerator, reporter
        self._known: dict[int, CachedFeatures] = {}
        self._frozen = False

    def refresh(self) -> None:
        """Forget everything, since some block begins to train or to rest."""
        self._known.clear()
        self._frozen = self._freezer.only_head_trains()

    def of(self, examples: Examples) -> Examples:
        """The examples with their features where these are the same at every step, else as they are."""
        if not (self._usable and self._frozen):
            return examples
        if id(examples) not in self._known:
            self._known[id(examples)] = CachedFeatures(examples, self.compute(examples))
        return self._known[id(examples)]

    def compute(self, examples: Examples, rows: Rows | None = None) -> Tensor:
        """The features (n, D) of all examples or of some rows, in evaluation mode."""
        if rows is not None:
            known = self.of(examples)
            if isinstance(known, CachedFeatures):
                return known.inputs(rows)["features"]
            examples = Subset(examples, rows)
        return predict(self._model, examples, self._accelerator, reporter=self._reporter,
                       title="features", features=True)  # fmt: skip


def start_model(plan: Plan, backbone: Backbone, train: Examples, cache: FeatureCache) -> None:
    """Let the technique of the start phase give the fresh head its first weights."""
    start = plan.one(phases.START)
    if start is not None:
        n = plan.context.n_rows
        start(backbone, lambda rows: cache.compute(train, rows), train.targets[:n], train.weights[:n])


def show(plan: Plan, model: Any, examples: Examples, accelerator: Any, reporter: Reporter) -> None:
    """Run the labelled rows through the model in its present mode, without gradients, in their own order."""
    n = plan.context.n_rows
    with torch.no_grad(), reporter.bar("statistics", n, "rows") as bar:
        for start in range(0, n, SHOWN_TOGETHER):
            rows = np.arange(start, min(start + SHOWN_TOGETHER, n))
            model({name: value.to(accelerator.device) for name, value in examples.inputs(rows).items()})
            bar.advance(len(rows))
