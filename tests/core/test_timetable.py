"""Runs whose epochs differ in length: exact totals, schedules, times, evaluations and resuming."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from etude.config.fields import Time
from etude.core.checkpoint import checkpoints, read_checkpoint
from etude.core.engine import Engine
from etude.core.examples import Examples
from etude.errors import Interrupted
from etude.techniques import technique_class
from etude.testing.harness import Recipe, Setup, StopAt, make_engine, weights
from etude.testing.technique_suite import difference
from etude.testing.tiny import TinyNumbers, tiny_examples, tiny_task

TASK = tiny_task("multiclass")
SETUP = Setup("table", n_rows=24, batch_size=4, epochs=3)
GROWING = {"growing_batch": {"phases": 3}, "adamw": {"lr": 0.1}, "linear": {}}


def recipe(techniques: Mapping[str, Mapping[str, Any]]) -> Recipe:
    return {technique_class(name): said for name, said in techniques.items()}


def engine_of(acting: Recipe, setup: Setup = SETUP, **more: Any) -> tuple[Engine, list[Mapping[str, Any]]]:
    """An engine that evaluates and saves at the end of each epoch, and the lines that it logs."""
    validation = tiny_examples(setup.modality, TASK, n=10, seed=9)
    engine = make_engine(acting, setup, validation=validation, score=total, **more)
    engine.settings = replace(
        engine.settings, log_every=1, evaluate_epochs=1, save_epochs=1, keep_checkpoints=99
    )
    lines: list[Mapping[str, Any]] = []
    engine.attach_folder(log=lines.append, checkpoints=None)
    return engine, lines


def total(logits: Tensor, examples: Examples) -> dict[str, float]:
    return {"sum": float(logits.sum())}


def evaluated(lines: list[Mapping[str, Any]]) -> list[int]:
    return [line["step"] for line in lines if "validation" in line]


def test_steps_are_counted_before_the_run() -> None:
    engine, _ = engine_of(recipe(GROWING))
    context = engine.plan.context
    assert context.epoch_steps == (6, 3, 2)
    assert context.total_steps == engine.settings.total_steps == 11
    assert context.epochs == 3
    assert engine.settings.micro_batch_size == 16
    engine.fit()
    assert (engine.step, engine.epoch) == (11, 3)


def test_times_in_epochs_are_the_ends_of_epochs() -> None:
    context = engine_of(recipe(GROWING))[0].plan.context
    epochs = [context.steps(Time(n, "ep")) for n in (0, 1, 1.5, 2, 3, 5)]
    assert epochs == [0, 6, 8, 9, 11, 15]
    assert context.steps(Time(1.0, "dur")) == 11
    assert context.steps(Time(7, "st")) == 7


def test_the_schedule_ends_at_the_end_of_the_run() -> None:
    engine, lines = engine_of(recipe(GROWING))
    engine.fit()
    rates = [next(iter(line["lr"].values())) for line in lines if "lr" in line]
    assert np.allclose(rates, 0.1 * (1 - np.arange(11) / 11))


def test_evaluates_and_saves_at_the_true_end_of_each_epoch(tmp_path: Path) -> None:
    engine, lines = engine_of(recipe(GROWING))
    engine.attach_folder(log=lines.append, checkpoints=tmp_path)
    engine.fit()
    assert evaluated(lines) == [6, 9, 11]
    assert [path.name[-2:] for path in checkpoints(tmp_path)] == ["06", "09", "11"]


@pytest.mark.parametrize(("epochs", "steps"), [(0, [11]), (2, [9, 11]), (3, [11])])
def test_evaluates_every_so_many_epochs(epochs: int, steps: list[int]) -> None:
    engine, lines = engine_of(recipe(GROWING))
    engine.settings = replace(engine.settings, evaluate_epochs=epochs)
    engine.fit()
    assert evaluated(lines) == steps


@pytest.mark.parametrize(("max_steps", "steps"), [(8, [6, 8]), (9, [6, 9]), (99, [6, 9, 11])])
def test_a_limit_on_steps_is_kept(max_steps: int, steps: list[int]) -> None:
    engine, lines = engine_of(recipe(GROWING), replace(SETUP, max_steps=max_steps))
    assert engine.plan.context.total_steps == steps[-1]
    engine.fit()
    assert evaluated(lines) == steps


def test_shorter_epochs_end_their_schedule_too() -> None:
    acting = recipe({"undersample": {"ratio": 1.0}, "adamw": {"lr": 0.1}, "linear": {}})
    engine, lines = engine_of(acting)
    n_rarest = int(engine.plan.context.class_counts.min())
    per_epoch = -(-3 * n_rarest // 4)
    assert per_epoch < 6
    assert engine.plan.context.epoch_steps == (per_epoch,) * 3
    engine.fit()
    assert evaluated(lines) == [per_epoch * epoch for epoch in (1, 2, 3)]
    rates = [next(iter(line["lr"].values())) for line in lines if "lr" in line]
    assert rates[-1] == pytest.approx(0.1 / len(rates))


def test_both_together_are_counted_together() -> None:
    acting = recipe({**GROWING, "undersample": {"ratio": 1.0}})
    engine, lines = engine_of(acting)
    n = 3 * int(engine.plan.context.class_counts.min())
    assert engine.plan.context.epoch_steps == tuple(-(-n // size) for size in (4, 8, 16))
    engine.fit()
    assert engine.step == engine.plan.context.total_steps == evaluated(lines)[-1]


@pytest.mark.parametrize("step", [3, 6, 7, 9, 10])
def test_a_stop_changes_neither_the_weights_nor_the_lines(step: int, tmp_path: Path) -> None:
    """Also where it comes with the last step of an epoch, which is evaluated before the checkpoint."""
    acting = recipe({**GROWING, "undersample": {"ratio": 2.0}})
    whole, expected = engine_of(acting)
    whole.fit()
    first, lines = engine_of({**acting, StopAt: {"step": step}})
    first.attach_folder(log=lines.append, checkpoints=tmp_path)
    with pytest.raises(Interrupted):
        first.fit()
    second, more = engine_of(acting)
    second.load_state(read_checkpoint(checkpoints(tmp_path)[-1]))
    second.fit()
    assert lines + more == expected
    assert difference(weights(second), weights(whole)) == 0


class Poisoned(TinyNumbers):
    """Rows 0 to 2 are nan."""

    def inputs(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        numbers = super().inputs(rows)["numbers"].clone()
        numbers[torch.from_numpy(rows) < 3] = torch.nan
        return {"numbers": numbers}


def test_skipped_steps_do_not_shift_evaluations_away_from_the_ends_of_epochs() -> None:
    engine, lines = engine_of(recipe({"adamw": {"lr": 0.1}}), train=Poisoned(TASK, 24))
    engine.fit()
    assert engine.step < 18
    at = [line["epoch"] for line in lines if "validation" in line]
    assert at == [0, 1, 2]
    assert evaluated(lines)[0] < 6


def test_without_such_techniques_all_epochs_are_alike() -> None:
    engine, lines = engine_of(recipe({"adamw": {"lr": 0.1}}))
    assert engine.plan.context.epoch_steps == (6, 6, 6)
    engine.fit()
    assert evaluated(lines) == [6, 12, 18]
