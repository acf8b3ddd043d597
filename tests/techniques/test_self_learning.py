"""Self-learning: which rows join when, under which labels, and that a restart is a new training."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from etude.core.feed import Feed
from etude.core.phases import AVERAGE, OPTIMIZER, SCHEDULE, View
from etude.core.predict import Subset
from etude.core.timetable import moment_of_epoch
from etude.errors import ConflictError
from etude.techniques import catalogue, technique_class
from etude.techniques.curriculum.self_learning import (
    SelfLearning,
    confidences,
    most_confident,
    share_of_round,
)
from etude.testing.harness import Setup, make_engine
from etude.testing.technique_suite import difference, finite, resume_difference, split_difference
from etude.testing.tiny import tiny_examples, tiny_task

OWN = technique_class("self_learning")
LONG = Setup(epochs=7, n_rows=20, n_unlabelled=40, batch_size=10)


class Spy(SelfLearning):
    """Keeps each epoch's view, and the labels that the model gave at the end of the one before it."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.views: dict[int, View] = {}
        self.said: dict[int, Tensor] = {}

    def on_epoch(self, run: Any) -> None:
        if run.epoch >= run.settings.epochs:
            return super().on_epoch(run)
        backbone, n = run.backbone.eval(), run.plan.context.n_rows
        with torch.no_grad():
            logits = backbone(run.train.inputs(np.arange(n, len(run.train)))).logits
        backbone.train()
        self.said[run.epoch] = run.plan.context.task.probabilities(logits)
        super().on_epoch(run)
        self.views[run.epoch] = Feed(run.plan, run.train, 10).epoch(
            moment_of_epoch(run.plan.context, run.epoch)
        )[0]
        return None


def spied(setup: Setup, **settings: Any) -> tuple[Spy, Any]:
    engine = make_engine({Spy: settings}, setup)
    engine.fit()
    spy = engine.plan.techniques[OWN.key()]
    assert isinstance(spy, Spy)
    return spy, engine


def test_the_shares_are_those_that_the_source_prints() -> None:
    """Start 1 and end 5: nothing, a quarter, half, three quarters, all, and all from then on."""
    assert [share_of_round(e, 1, 5) for e in (1, 2, 3, 4, 5, 9)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert [share_of_round(e, 1, 6) for e in range(1, 7)] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    with pytest.raises(ValueError, match="expected 1 or more, start < end"):
        share_of_round(0, 1, 5)
    with pytest.raises(ValueError, match="n is 3 and there are 2 rows"):
        most_confident(torch.ones(2), 3)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_the_surest_rows_join_under_the_labels_of_the_model_at_the_end_of_the_epoch_before(kind: Any) -> None:
    spy, engine = spied(replace(LONG, kind=kind))
    task = engine.plan.context.task
    assert sorted(spy.views) == [1, 2, 3, 4, 5, 6]
    for epoch, n in ((1, 10), (2, 20), (3, 30), (4, 40), (5, 40), (6, 40)):
        view, told = spy.views[epoch], spy.said[epoch]
        # Labelled rows are 0 to 19 and all are there; the others are numbered from 20, none left out.
        assert view.rows[:20].tolist() == list(range(20))
        joined = view.rows[20:]
        assert len(joined) == len(set(joined.tolist())) == n
        assert joined.min() >= 20
        assert joined.max() <= 59
        sure = confidences(told, several=kind == "multilabel")
        left_out = np.setdiff1d(np.arange(40), joined - 20)
        if n < 40:
            assert sure[joined - 20].min() >= sure[left_out].max() - 1e-6
        assert torch.equal(view.targets[:20], engine.train.targets[:20])
        wanted = task.decide(told[joined - 20].numpy())
        assert np.array_equal(view.targets[20:].numpy(), wanted)
        assert np.array_equal(view.lengths, engine.train.lengths[view.rows])
    assert spy.views[6].rows[20:].tolist() == list(range(20, 60))


def test_the_run_is_as_long_as_the_rows_that_join_make_it() -> None:
    """Steps of each epoch: 20, 30, 40, 50, 60, 60, 60 rows in batches of 10."""
    engine = make_engine({OWN: {}}, LONG)
    assert engine.plan.context.epoch_steps == (2, 3, 4, 5, 6, 6, 6)
    engine.fit()
    assert engine.step == engine.settings.total_steps == 32
    assert any("rows without labels in each epoch: 0, 10, 20, 30, 40, 40, 40" in n for n in engine.plan.notes)


def test_soft_labels_and_weights_arrive_as_they_are() -> None:
    spy, _ = spied(LONG, labels="soft", weight=0.25)
    view, told = spy.views[3], spy.said[3]
    assert torch.allclose(view.targets[20:], told[view.rows[20:] - 20], atol=1e-6)
    assert view.weights.tolist() == [1.0] * 20 + [0.25] * 30


def test_a_round_of_several_epochs_keeps_its_labels() -> None:
    spy, engine = spied(LONG, every=2, end=3)
    assert engine.plan.context.epoch_steps == (2, 2, 4, 4, 6, 6, 6)
    assert torch.equal(spy.views[2].targets, spy.views[3].targets)
    assert not torch.equal(spy.said[2], spy.said[3])


def test_a_restarted_round_is_a_training_of_its_own() -> None:
    """Whole batches, so that order means nothing: the second round equals a run on the rows it used.

    Learning rate, moments and weights are those of a new run, the warm-up and the schedule included.
    """
    setup = Setup(epochs=6, n_rows=20, n_unlabelled=20, batch_size=64, double=True)
    others = {technique_class("warmup"): {"duration": "0.4dur"}, technique_class("cosine"): {}}
    engine = make_engine({Spy: {"every": 3, "end": 3, "restart": True}, **others}, setup)
    engine.fit()
    spy = engine.plan.techniques[OWN.key()]
    assert isinstance(spy, Spy)
    view = spy.views[3]
    assert len(view.rows) == 30
    rows = Subset(engine.train, view.rows)
    rows.targets = view.targets
    alone = make_engine(others, replace(setup, epochs=3), train=rows)
    alone.fit()
    apart = difference(dict(engine.backbone.state_dict()), dict(alone.backbone.state_dict()))
    assert apart < 1e-9
    plain = make_engine({Spy: {"every": 3, "end": 3}, **others}, setup)
    plain.fit()
    assert difference(dict(plain.backbone.state_dict()), dict(alone.backbone.state_dict())) > 1e-3


@pytest.mark.parametrize(
    "other",
    sorted(n for n, t in catalogue().items() if t.facts.phase in (OPTIMIZER, AVERAGE, SCHEDULE)),
)
def test_a_restart_stops_and_resumes_beside_every_optimizer_schedule_and_average(other: str) -> None:
    setup = Setup(epochs=4, dropout=0.2)
    recipe = {OWN: {"every": 2, "end": 3, "restart": True}, technique_class(other): {}}
    engine = make_engine(recipe, setup)
    engine.fit()
    assert finite(engine.backbone.state_dict())
    assert resume_difference(recipe, setup, step=9) == 0


@pytest.mark.parametrize("more", [{}, {"labels": "soft"}, {"restart": True}])
def test_stops_and_splits_change_nothing(more: dict[str, Any]) -> None:
    setup = Setup(epochs=4)
    assert resume_difference({OWN: more}, setup, step=5) == 0
    assert split_difference({OWN: more}, setup) < 1e-9


def test_techniques_that_keep_something_of_each_row_make_room_for_them() -> None:
    names = ("loss_history", "easy_to_hard", "self_distillation", "recency_weights", "undersample")
    recipe = {technique_class(name): {} for name in names}
    engine = make_engine({OWN: {}, **recipe}, replace(LONG, epochs=5))
    engine.fit()
    history = engine.plan.techniques["loss_history"].history  # type: ignore[attr-defined]
    assert history.shape == (20, 5)
    assert torch.isfinite(history[:, 0].float()).any()


def test_what_it_cannot_do_is_refused_in_a_sentence() -> None:
    with pytest.raises(ConflictError, match=r"needs rows without labels and there are none; set data\.unl"):
        make_engine({OWN: {}}, Setup(n_unlabelled=0))
    with pytest.raises(ConflictError, match="self_learning clashes with oversample: it repeats rows"):
        make_engine({OWN: {}, technique_class("oversample"): {}}, Setup())
    engine = make_engine({OWN: {"labels": "soft"}, technique_class("classifier_chain"): {}},
                         Setup(kind="multilabel"))  # fmt: skip
    with pytest.raises(ConflictError, match='set labels = "hard"'):
        engine.fit()
    with pytest.raises(ValueError, match="end is 3 and must lie behind start, which is 3"):
        OWN.Config.model_validate({"name": "self_learning", "start": 3, "end": 3})
    engine = make_engine({OWN: {"start": 8, "end": 9}}, Setup(epochs=2))
    assert any("uses no row without a label in 2 epochs" in said for said in engine.plan.warnings)


def test_the_tiny_rows_without_labels_leave_the_labelled_ones_as_they_are() -> None:
    task = tiny_task("binary")
    rows = tiny_examples("table", task, 4, n_unlabelled=60)
    assert len(rows) == 64
    assert not rows.targets[4:].any()
    assert torch.equal(tiny_examples("table", task, 4).targets, rows.targets[:4])
