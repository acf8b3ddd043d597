"""Loss history: by hand, against the losses of a run, draws and limits, stops, and that nothing changes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from etude.core.batch import Batch
from etude.core.checkpoint import checkpoints, read_checkpoint
from etude.core.engine import Engine
from etude.core.phases import WEIGH_EXAMPLE
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConflictError, Interrupted
from etude.techniques import technique_class
from etude.techniques.diagnosis.loss_history import LossHistory, add_losses
from etude.testing.harness import Recipe, Setup, StopAt, make_engine, train
from etude.testing.technique_suite import difference


class LedgerConfig(TechniqueConfig):
    """Settings of the ledger."""

    name: Any = "ledger"


class Ledger(Technique[LedgerConfig]):
    """Writes down the losses that training had, by epoch and row."""

    Config = LedgerConfig
    facts = Facts(family="tests", phase=WEIGH_EXAMPLE, paper="none")

    def attach(self, plan: Plan) -> None:
        self.losses: dict[tuple[int, int], list[float]] = {}

        def write(losses: Tensor, batch: Batch, moment: Moment) -> Tensor:
            for row, loss in zip(batch.index.tolist(), losses.tolist(), strict=True):
                self.losses.setdefault((row, moment.epoch), []).append(loss)
            return torch.ones_like(losses)

        plan.add(WEIGH_EXAMPLE, write)


def recipe(**others: dict[str, Any]) -> Recipe:
    return {technique_class(name): said for name, said in {"loss_history": {}, **others}.items()}


def history(engine: Engine) -> Tensor:
    found = engine.plan.techniques["loss_history"]
    assert isinstance(found, LossHistory)
    return found.history


def trained(acting: Recipe, setup: Setup) -> Engine:
    engine = make_engine(acting, setup)
    engine.fit()
    return engine


def test_losses_that_are_not_finite_do_not_count() -> None:
    sums, counts = torch.zeros(2), torch.zeros(2)
    add_losses(sums, counts, torch.tensor([0, 0, 1]), torch.tensor([torch.nan, 2.0, torch.inf]))
    assert sums.tolist() == [2, 0]
    assert counts.tolist() == [1, 0]


@pytest.mark.parametrize("others", [{"label_smoothing": {}, "clip": {}}, {"oversample": {}}])
def test_equals_the_mean_of_the_losses_of_training(others: dict[str, Any]) -> None:
    engine = trained({**recipe(**others), Ledger: {}}, Setup(dropout=0.2, epochs=3))
    ledger, found = engine.plan.techniques["ledger"], history(engine)
    assert isinstance(ledger, Ledger)
    assert found.shape == (24, 3)
    assert len(ledger.losses) == int(torch.isfinite(found).sum()) > 60
    for (row, epoch), losses in ledger.losses.items():
        assert found[row, epoch].item() == pytest.approx(np.mean(losses), rel=1e-3)


def test_class_weights_and_example_weights_are_left_out() -> None:
    setup = Setup(epochs=1, max_steps=1)
    plain, weighted = (trained(recipe(**more), setup) for more in ({}, {"class_weights": {}}))
    assert torch.equal(history(plain).nan_to_num(-1), history(weighted).nan_to_num(-1))


def test_micro_batches_need_no_pass_of_their_own_and_give_the_same() -> None:
    whole, split = (trained(recipe(), Setup(micro_batch_size=size)) for size in (None, 2))
    torch.testing.assert_close(history(whole).float(), history(split).float(), rtol=2e-3, atol=2e-3)
    assert not split.plan.many(WEIGH_EXAMPLE)


def test_rows_that_were_not_drawn_have_no_loss() -> None:
    found = history(trained(recipe(), Setup(epochs=3, max_steps=4)))
    assert torch.isfinite(found[:, 0]).all()
    assert int(torch.isfinite(found[:, 1]).sum()) == 8
    assert torch.isnan(found[:, 2]).all()


def test_skipped_steps_leave_no_loss() -> None:
    engine = make_engine(recipe(), Setup(epochs=1))
    engine.backbone.head[1].weight.data.fill_(torch.nan)
    engine.fit()
    assert torch.isnan(history(engine)).all()


@pytest.mark.parametrize("stop", [3, 5])
def test_a_stop_changes_nothing(stop: int, tmp_path: Path) -> None:
    setup = Setup(dropout=0.2)
    whole, first = trained(recipe(), setup), make_engine({**recipe(), StopAt: {"step": stop}}, setup)
    first.attach_folder(log=None, checkpoints=tmp_path)
    with pytest.raises(Interrupted):
        first.fit()
    second = make_engine(recipe(), setup)
    second.load_state(read_checkpoint(checkpoints(tmp_path)[-1]))
    second.fit()
    assert torch.equal(history(whole), history(second))


def test_a_finished_run_may_be_resumed(tmp_path: Path) -> None:
    first = make_engine(recipe(), Setup(epochs=2, max_steps=4))
    first.attach_folder(log=None, checkpoints=tmp_path)
    first.fit()
    second = make_engine(recipe(), Setup(epochs=2, max_steps=4))
    second.load_state(read_checkpoint(checkpoints(tmp_path)[-1]))
    second.fit()
    assert torch.equal(history(first).nan_to_num(-1), history(second).nan_to_num(-1))


def test_a_checkpoint_from_before_it_was_on_is_taken() -> None:
    engine = make_engine(recipe(), Setup())
    engine.plan.techniques["loss_history"].load_state_dict({})
    assert history(engine).shape == (24, 2)


def test_the_state_is_small() -> None:
    engine = trained(recipe(), Setup())
    state = engine.plan.techniques["loss_history"].state_dict()
    assert json.dumps(sorted(state)) == '["counts", "history", "sums"]'
    assert history(engine).dtype == torch.float16


@pytest.mark.parametrize("others", [{"r_drop": {}}, {"sam": {}, "float64_loss": {}}])
def test_nothing_changes(others: dict[str, Any]) -> None:
    setup = Setup(dropout=0.2)
    without = {technique_class(name): said for name, said in others.items()}
    assert difference(train(recipe(**others), setup), train(without, setup)) == 0


@pytest.mark.parametrize("name", ["mixup", "cutmix", "hidden_mixup"])
def test_mixed_examples_are_refused(name: str) -> None:
    modality = "image" if name == "cutmix" else "table" if name == "mixup" else "text"
    with pytest.raises(ConflictError, match=rf"^loss_history clashes with {name}: the loss of a mixed"):
        make_engine(recipe(**{name: {}}), Setup(modality=modality))  # type: ignore[arg-type]  # one of the three
