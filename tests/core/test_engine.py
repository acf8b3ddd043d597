"""The engine: how often, in what order, and what a skipped step skips."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from etude.core.checkpoint import checkpoints
from etude.core.engine import Engine, Settings
from etude.core.examples import Examples
from etude.core.observe import Reporter
from etude.errors import ConflictError, Interrupted
from etude.techniques import technique_class
from etude.testing.harness import Onlooker, Recipe, Setup, StopAt, make_engine, train, weights
from etude.testing.technique_suite import difference
from etude.testing.tiny import TinyNumbers, tiny_examples, tiny_task

TASK = tiny_task("multiclass")


def recipe(**techniques: dict[str, Any]) -> Recipe:
    return {technique_class(name): settings for name, settings in techniques.items()}


class Told(Reporter):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def fit(engine: Engine, **settings: Any) -> list[Mapping[str, Any]]:
    """Train with other settings, and return what was logged."""
    engine.settings = replace(engine.settings, **settings)
    logged: list[Mapping[str, Any]] = []
    engine.attach_folder(log=logged.append, checkpoints=None)
    engine.fit()
    return logged


def rows_scored(logits: Tensor, examples: Examples) -> dict[str, float]:
    return {"rows": float(len(logits)), "sum": float(logits.sum())}


def with_validation(techniques: Recipe, setup: Setup) -> Engine:
    validation = tiny_examples(setup.modality, TASK, n=10, seed=9)
    return make_engine(techniques, setup, validation=validation, score=rows_scored)


@pytest.mark.parametrize(
    ("every", "steps"), [(0, [6]), (1, [1, 2, 3, 4, 5, 6]), (3, [3, 6]), (4, [4, 6]), (99, [6])]
)
def test_evaluates_every_so_often_and_at_the_end(every: int, steps: list[int]) -> None:
    logged = fit(with_validation({}, Setup()), evaluate_every=every)
    found = [record["step"] for record in logged if "validation" in record]
    assert found == steps
    assert all(record["validation"]["rows"] == 10 for record in logged if "validation" in record)


def test_evaluating_changes_nothing() -> None:
    often = with_validation(recipe(ema={"decay": 0.5}), Setup(dropout=0.3))
    fit(often, evaluate_every=1)
    assert difference(weights(often), train(recipe(ema={"decay": 0.5}), Setup(dropout=0.3))) == 0


def test_without_validation_there_are_no_scores() -> None:
    engine = make_engine({}, Setup())
    assert engine.evaluate() == {}
    assert not [record for record in fit(engine, evaluate_every=1) if "validation" in record]


@pytest.mark.parametrize(("every", "steps"), [(1, [1, 2, 3, 4, 5, 6]), (2, [2, 4, 6]), (5, [5])])
def test_logs_every_so_often(every: int, steps: list[int]) -> None:
    logged = fit(make_engine({}, Setup()), log_every=every)
    assert [record["step"] for record in logged] == steps
    assert [record["epoch"] for record in logged] == [(step - 1) // 3 for step in steps]


def test_the_logged_loss_is_the_mean_since_the_last_line() -> None:
    each = [record["train"]["loss"] for record in fit(make_engine({}, Setup()), log_every=1)]
    thirds = [record["train"]["loss"] for record in fit(make_engine({}, Setup()), log_every=3)]
    assert np.allclose(thirds, [np.mean(each[:3]), np.mean(each[3:])], atol=1e-6)


def test_lines_name_the_rate_of_each_group_and_the_norm() -> None:
    acting = recipe(adamw={"lr": 0.1}, head_lr={"factor": 2.0}, linear={}, clip={})
    logged = fit(make_engine(acting, Setup()), log_every=1)
    rates = [list(record["lr"].values()) for record in logged]
    expected = [[0.1 * (1 - step / 6), 0.2 * (1 - step / 6)] for step in range(6)]
    assert np.allclose(rates, expected)
    assert [list(record["lr"]) for record in logged] == [["0: embedding to layer.1", "1: head"]] * 6
    assert all(record["grad_norm"] > 0 for record in logged)


def test_warmup_comes_before_the_schedule() -> None:
    acting = recipe(sgd={"lr": 1e-3}, warmup={"duration": "2st"}, linear={})
    rates = [next(iter(record["lr"].values())) for record in fit(make_engine(acting, Setup()), log_every=1)]
    assert np.allclose(rates, 1e-3 * np.array([0, 0.5, 1, 0.75, 0.5, 0.25]))


@pytest.mark.parametrize(("max_steps", "steps", "epoch"), [(None, 6, 2), (1, 1, 0), (4, 4, 1), (99, 6, 2)])
def test_max_steps_ends_training(max_steps: int | None, steps: int, epoch: int) -> None:
    engine = make_engine({}, Setup(max_steps=max_steps))
    engine.fit()
    assert (engine.step, engine.epoch) == (steps, epoch)


@pytest.mark.parametrize(("n_rows", "sizes"), [(24, [8, 8, 8]), (21, [8, 8, 5]), (17, [8, 8, 1]), (5, [5])])
def test_the_last_batch_of_an_epoch_may_be_small(n_rows: int, sizes: list[int]) -> None:
    engine = make_engine({Onlooker: {}}, Setup(n_rows=n_rows))
    engine.fit()
    seen = [batch for batch, _ in engine.plan.techniques["onlooker"].seen]  # type: ignore[attr-defined]
    assert [len(batch) for batch in seen] == sizes * 2
    for epoch in (seen[: len(sizes)], seen[len(sizes) :]):
        assert sorted(torch.cat([batch.index for batch in epoch]).tolist()) == list(range(n_rows))
    first, second = (torch.cat([b.index for b in part]) for part in (seen[: len(sizes)], seen[len(sizes) :]))
    assert not torch.equal(first, second), "both epochs have one order"


class Poisoned(TinyNumbers):
    """Rows 0 to 2 are nan for a while."""

    poisoned = True

    def inputs(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        numbers = super().inputs(rows)["numbers"].clone()
        if self.poisoned:
            numbers[torch.from_numpy(rows) < 3] = torch.nan
        return {"numbers": numbers}


def test_a_skipped_step_is_skipped_by_all() -> None:
    """Optimizer, schedule, average and counters stay; only the rows are gone."""
    told, setup = Told(), Setup("table", n_rows=24)
    acting = recipe(adamw={"lr": 0.05}, linear={}, ema={"decay": 0.5}, clip={})
    engine = make_engine(acting, setup, train=Poisoned(TASK, 24), reporter=told)
    logged = fit(engine, log_every=1)
    n_skipped = len(told.warnings)
    assert 2 <= n_skipped < 6
    assert engine.step == len(logged) == 6 - n_skipped
    assert told.warnings[0].startswith("step ")
    assert told.warnings[0].endswith("was skipped: its loss or gradient is not finite")
    assert all(torch.isfinite(value).all() for value in weights(engine).values())
    rates = [next(iter(record["lr"].values())) for record in logged]
    assert np.allclose(rates, [0.05 * (1 - step / 6) for step in range(engine.step)])
    moments = engine.state()["optimizer"]["0"]
    assert moments["step"] == engine.step
    assert engine.plan.techniques["ema"].state_dict()["n_updates"] == engine.step
    assert engine.epoch == 2


def test_skipping_everything_leaves_the_first_weights() -> None:
    class AllPoisoned(TinyNumbers):
        def inputs(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
            return {"numbers": torch.full((len(rows), 6), torch.nan)}

    engine = make_engine(recipe(ema={}), Setup("table"), train=AllPoisoned(TASK, 24), reporter=Told())
    before = weights(engine)
    engine.fit()
    assert engine.step == 0
    assert difference(weights(engine), before) == 0


def test_frozen_blocks_thaw_at_their_step() -> None:
    engine = make_engine(recipe(freeze={"until": "4st"}, sgd={"lr": 0.1}), Setup(max_steps=4))
    first = engine.backbone.embedding.weight.detach().clone()
    head = engine.backbone.head[1].weight.detach().clone()
    engine.fit()
    assert torch.equal(engine.backbone.embedding.weight, first)
    assert not torch.equal(engine.backbone.head[1].weight, head)
    longer = make_engine(recipe(freeze={"until": "4st"}, sgd={"lr": 0.1}), Setup())
    longer.fit()
    assert not torch.equal(longer.backbone.embedding.weight, first)


@pytest.mark.parametrize(
    "techniques", [{}, {"linear_probe": {}}, {"class_weights": {}, "hard_examples": {}}], ids=str
)
def test_cached_features_change_nothing(techniques: dict[str, Any]) -> None:
    acting = recipe(freeze={"until": "1ep"}, sgd={"lr": 0.1}, **techniques)
    engines = [with_validation(acting, Setup(cache_features=cached)) for cached in (True, False)]
    logged = [fit(engine, evaluate_every=1) for engine in engines]
    assert difference(weights(engines[0]), weights(engines[1])) < 1e-6
    scores = [[r["validation"]["sum"] for r in lines if "validation" in r] for lines in logged]
    assert np.allclose(scores[0], scores[1], atol=1e-4)


def test_frozen_features_are_computed_once() -> None:
    engine = make_engine(recipe(freeze={"until": "1dur"}, sgd={"lr": 0.1}), Setup(epochs=5))
    rows = 0

    def count(module: Any, args: Any, output: Tensor) -> None:
        nonlocal rows
        rows += len(output)

    engine.backbone.embedding.register_forward_hook(count)
    engine.fit()
    assert engine.step == 15
    assert rows == 24


def test_a_technique_that_changes_inputs_gets_no_cached_features() -> None:
    acting = recipe(freeze={"until": "1dur"}, token_cutout={"share": 0.5}, sgd={"lr": 0.1})
    assert difference(train(acting, Setup()), train(acting, Setup(cache_features=False))) == 0


def test_a_stop_writes_a_checkpoint_and_says_why(tmp_path: Path) -> None:
    engine = make_engine({StopAt: {"step": 2}}, Setup())
    engine.attach_folder(log=None, checkpoints=tmp_path, extra_state={"data": {"fingerprint": "abc"}})
    with pytest.raises(Interrupted, match="stopped after step 2"):
        engine.fit()
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000002"]
    assert engine.state()["data"] == {"fingerprint": "abc"}


def test_saves_every_so_often_and_at_the_end(tmp_path: Path) -> None:
    engine = make_engine({}, Setup())
    engine.settings = replace(engine.settings, save_every=2, keep_checkpoints=9)
    engine.attach_folder(log=None, checkpoints=tmp_path)
    engine.fit()
    assert [path.name for path in checkpoints(tmp_path)] == [f"step-0000000{n}" for n in (2, 4, 6)]


def test_the_weights_to_keep_are_the_averages_and_come_back() -> None:
    engine = make_engine(recipe(ema={"decay": 0.9}), Setup())
    engine.fit()
    found = weights(engine)
    raw = found["head.1.weight"]
    assert not torch.equal(raw, found["kept.head.1.weight"])
    assert torch.equal(engine.backbone.state_dict()["head.1.weight"], raw)


def test_an_engine_needs_an_optimizer() -> None:
    plan = make_engine({}, Setup()).plan
    settings = Settings(1, 1, 8, 8, 0, 0, 1)
    del plan.techniques["adamw"]
    plan._entries = [entry for entry in plan.entries() if entry.technique != "adamw"]
    with pytest.raises(ConflictError, match=r"no optimizer is chosen; add \[optimizer\]"):
        Engine(plan, plan.context.backbone, tiny_examples("text", TASK), None, settings)
