"""Easy to hard: the order of each epoch against losses that are looked at from outside."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from etude.core.batch import Batch
from etude.core.phases import ORDER, WEIGH_EXAMPLE
from etude.core.plan import Plan
from etude.techniques import technique_class
from etude.techniques.curriculum.easy_to_hard import EasyToHard, EasyToHardConfig, by_difficulty
from etude.testing.harness import Onlooker, Setup, make_engine
from etude.testing.technique_suite import resume_difference

SETUP = Setup(epochs=4)


def trained(setup: Setup = SETUP, **recipe: Any) -> tuple[EasyToHard, list[list[int]], dict[int, np.ndarray]]:
    """The technique, the rows of each step, and the memory after each step."""
    acting = {EasyToHard: recipe.pop("settings", {}), Onlooker: {}}
    engine = make_engine({**acting, **{technique_class(k): v for k, v in recipe.items()}}, setup)
    technique, onlooker = (engine.plan.techniques[key] for key in ("easy_to_hard", "onlooker"))
    assert isinstance(technique, EasyToHard)
    assert isinstance(onlooker, Onlooker)
    memory: dict[int, np.ndarray] = {}
    one_step = engine._after_step

    def after(*arguments: Any, **more: Any) -> None:
        memory[engine.step] = np.asarray(technique.state_dict()["newest"]).copy()
        one_step(*arguments, **more)

    engine._after_step = after  # type: ignore[method-assign]
    engine.fit()
    return technique, [batch.index.tolist() for batch, _ in onlooker.seen], memory


def test_each_epoch_rises_by_the_losses_as_it_began() -> None:
    _, rows, memory = trained()
    assert len(rows) == 12
    for epoch in (1, 2, 3):
        shown = np.concatenate(rows[3 * epoch : 3 * epoch + 3])
        known = memory[3 * epoch]
        assert not np.isnan(known).any()
        assert (np.diff(known[shown]) >= 0).all()
        assert sorted(shown) == list(range(24))
    assert not (np.diff(memory[3][np.concatenate(rows[:3])]) >= 0).all(), "the first epoch is shuffled"


def test_the_memory_holds_the_losses_of_the_step() -> None:
    setup = replace(SETUP, n_rows=8, epochs=1)
    technique, _, memory = trained(setup)
    engine = make_engine({}, setup)
    inputs = engine.train.inputs(np.arange(8))
    logits = engine.backbone(inputs).logits
    losses = torch.nn.functional.cross_entropy(logits, engine.train.targets, reduction="none")
    assert memory[1] == pytest.approx(losses.detach().numpy(), abs=1e-6)
    assert technique.state_dict()["epoch"] == 0


@pytest.mark.parametrize("micro", [2, 3])
def test_micro_batches_give_the_same_memory(micro: int) -> None:
    whole, parts = (trained(replace(SETUP, double=True, micro_batch_size=m))[2] for m in (None, micro))
    assert all(np.allclose(whole[step], parts[step], atol=1e-6, equal_nan=True) for step in whole)


def test_of_a_two_pass_step_the_first_pass_counts() -> None:
    setup = replace(SETUP, epochs=1)
    _, rows, memory = trained(setup, sam={"rho": 5.0})
    _, same_rows, plain = trained(setup)
    assert rows == same_rows
    assert memory[1][rows[0]] == pytest.approx(plain[1][rows[0]], abs=1e-6)
    assert memory[2][rows[1]] != pytest.approx(plain[2][rows[1]], abs=1e-4), "the weights differ by now"


def test_after_its_time_epochs_are_shuffled() -> None:
    _, rows, memory = trained(settings={"until": "0.5dur"})
    rising = [(np.diff(memory[3 * e][np.concatenate(rows[3 * e : 3 * e + 3])]) >= 0).all() for e in (1, 2, 3)]
    assert rising == [True, False, False]


@pytest.mark.parametrize("step", [3, 4, 6, 11])
def test_resumes_exactly_at_any_step(step: int) -> None:
    assert resume_difference({EasyToHard: {}}, replace(SETUP, dropout=0.2), step) == 0


def test_rows_drawn_twice_and_rows_never_drawn() -> None:
    _, rows, memory = trained(weighted_sampling={"weights": [1.0, 1.0, 0.0]})
    assert np.isnan(memory[12]).any()
    for epoch in (1, 2, 3):
        known = memory[3 * epoch][np.concatenate(rows[3 * epoch : 3 * epoch + 3])]
        n_known = (~np.isnan(known)).sum()
        assert (np.diff(known[:n_known]) >= 0).all(), "rows that were never seen come last"


def test_unknown_losses_come_last_and_equal_ones_are_shuffled() -> None:
    losses = np.array([np.nan, 0.5, 0.5, np.nan, 0.1], dtype=np.float32)
    orders = {tuple(by_difficulty(losses, np.random.default_rng(seed))) for seed in range(20)}
    assert {order[0] for order in orders} == {4}
    assert {frozenset(order[1:3]) for order in orders} == {frozenset({1, 2})}
    assert len(orders) == 4


def test_no_time_is_absent() -> None:
    engine = make_engine({EasyToHard: {"until": "0ep"}}, SETUP)
    plan: Plan = engine.plan
    assert plan.one(ORDER) is None
    assert plan.many(WEIGH_EXAMPLE) == []


def test_another_batch_after_a_skipped_step_is_remembered() -> None:
    engine = make_engine({EasyToHard: {}}, SETUP)
    technique = engine.plan.techniques["easy_to_hard"]
    (remember,) = engine.plan.many(WEIGH_EXAMPLE)
    for rows in ([0, 1], [2, 3]):
        ones = torch.ones(2)
        remember(ones * rows[0], Batch({}, torch.ones(2, 3), ones, torch.tensor(rows)), engine.moment())
    newest = technique.state_dict()["newest"]
    assert isinstance(newest, torch.Tensor)
    assert newest[:4].tolist() == [0.0, 0.0, 2.0, 2.0]


def test_mixing_is_a_declared_clash() -> None:
    assert set(EasyToHard.facts.clashes) == {"mixup", "cutmix", "hidden_mixup"}
    assert EasyToHardConfig().name == "easy_to_hard"
