"""Self-distillation: whose predictions, when, how much, and where they are kept."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from etude.core.batch import Batch
from etude.core.phases import AUGMENT
from etude.core.rng import Moment
from etude.errors import ConflictError
from etude.techniques import technique_class
from etude.techniques.distill.self_distillation import SelfDistillation, believe, share_of
from etude.testing.harness import Onlooker, Recipe, Setup, make_engine, train
from etude.testing.technique_suite import difference, resume_difference, split_difference

OWN = technique_class("self_distillation")


def test_share_grows_as_in_the_paper_and_begins_in_the_second_epoch() -> None:
    """Equation 6 with α_T = 0.8 and T = 300, as the paper has them."""
    shares = [share_of(epoch, 300, 0.8) for epoch in range(300)]
    assert shares[0] == 0.0
    assert shares[1] == pytest.approx(0.8 * 2 / 300)
    assert shares[299] == pytest.approx(0.8)
    assert np.diff(shares[1:]) == pytest.approx(0.8 / 300)
    with pytest.raises(ValueError, match="epoch is 3 and must lie in 0 to 2"):
        share_of(3, 3, 0.5)


def test_targets_keep_their_mass() -> None:
    told = torch.softmax(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    found = believe(torch.eye(4, 3), told, 0.3)
    assert found.sum(dim=1) == pytest.approx([1.0, 1.0, 1.0, 0.3], abs=1e-6)


class Spy(SelfDistillation):
    """Notes what targets come out, and what the model says at each epoch's end."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.softened: list[tuple[int, Batch]] = []
        self.said: list[Tensor] = []

    def attach(self, plan: Any) -> None:
        super().attach(plan)

        def look(batch: Batch, moment: Moment) -> Batch:
            self.softened.append((moment.epoch, batch))
            return batch

        plan.add(AUGMENT, look, rank=100)

    def on_epoch(self, run: Any) -> None:
        super().on_epoch(run)
        backbone = run.backbone.eval()
        with torch.no_grad():
            logits = backbone(run.train.inputs(np.arange(len(run.train)))).logits
        self.said.append(run.plan.context.task.probabilities(logits))
        backbone.train()


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_targets_are_mixed_with_what_the_last_epochs_end_said_of_the_same_row(kind: Any) -> None:
    engine = make_engine({Spy: {"alpha": 0.6}}, Setup(kind=kind, epochs=3))
    engine.fit()
    spy = engine.plan.techniques[OWN.key()]
    assert isinstance(spy, Spy)
    assert {epoch for epoch, _ in spy.softened} == {0, 1, 2}
    for epoch, batch in spy.softened:
        hard = engine.train.targets[batch.index]
        share = 0.0 if epoch == 0 else 0.6 * (epoch + 1) / 3
        told = spy.said[epoch - 1][batch.index] if epoch else hard
        assert torch.allclose(batch.targets, (1 - share) * hard + share * told, atol=1e-6)


def test_the_last_epochs_end_asks_nothing_and_each_checkpoint_holds_the_predictions() -> None:
    engine = make_engine({OWN: {}}, Setup(epochs=2))
    states: list[Mapping[str, Any]] = []
    technique = engine.plan.techniques[OWN.key()]
    engine.attach_folder(log=lambda _record: states.append(technique.state_dict()), checkpoints=None)
    engine.fit()
    assert technique.state_dict()["told"].shape == (24, 3)  # type: ignore[union-attr]
    assert states[0] == {}
    assert torch.equal(states[-1]["told"], technique.state_dict()["told"])  # type: ignore[arg-type]


@pytest.mark.parametrize("step", [2, 3, 4, 5])
def test_a_stop_anywhere_means_nothing(step: int) -> None:
    """Also at the end of an epoch, where the checkpoint is older than the predictions."""
    assert resume_difference({OWN: {}}, Setup(dropout=0.2, epochs=3), step) == 0


def test_one_epoch_is_as_without() -> None:
    assert difference(train({OWN: {}}, Setup(epochs=1)), train({}, Setup(epochs=1))) == 0
    assert difference(train({OWN: {}}, Setup(epochs=2)), train({}, Setup(epochs=2))) > 0


@pytest.mark.parametrize("other", ["hidden_mixup", "label_smoothing", "class_weights", "sam", "undersample"])
def test_what_acts_on_targets_and_rows_goes_with_it(other: str) -> None:
    recipe: Recipe = {OWN: {}, technique_class(other): {}, Onlooker: {}}
    assert split_difference(recipe, Setup()) <= 1e-9


def test_hard_targets_cannot_be_had() -> None:
    with pytest.raises(ConflictError, match="self_distillation makes targets soft and label_crf needs hard"):
        make_engine({OWN: {}, technique_class("label_crf"): {}}, Setup(kind="multilabel"))
