"""Observers are told of everything once, and their requests are granted after the running step."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from torch import Tensor

from etude.core.checkpoint import checkpoints
from etude.core.engine import Engine
from etude.core.examples import Examples
from etude.core.phases import OBSERVE
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.testing.harness import Setup, make_engine
from etude.testing.tiny import tiny_examples, tiny_task


class DiaryConfig(TechniqueConfig):
    """Settings of the diary."""

    name: Literal["diary"] = "diary"
    ask_at: int = 0


class Diary(Technique[DiaryConfig]):
    """Writes down what it is told, and asks for an evaluation and a checkpoint at a step."""

    Config = DiaryConfig
    facts = Facts(family="tests", phase=OBSERVE, paper="none")

    def attach(self, plan: Plan) -> None:
        self.told: list[str] = []
        plan.add(OBSERVE, self)

    def on_start(self, run: Engine) -> None:
        self.told.append("start")

    def on_step(self, run: Engine) -> None:
        self.told.append(f"step {run.step}")
        if run.step == self.config.ask_at:
            run.request("evaluate")
            run.request("save")

    def on_epoch(self, run: Engine) -> None:
        self.told.append(f"epoch {run.epoch}")

    def on_evaluation(self, run: Engine, scores: Mapping[str, float]) -> None:
        self.told.append(f"rows {scores['rows']:.0f}")

    def on_end(self, run: Engine) -> None:
        self.told.append("end")


def count_rows(logits: Tensor, examples: Examples) -> dict[str, float]:
    return {"rows": float(len(logits))}


def train(folder: Path, **setup: Any) -> list[str]:
    validation = tiny_examples("table", tiny_task("multiclass"), n=5)
    engine = make_engine({Diary: {"ask_at": 2}}, Setup("table", n_rows=16, **setup), validation=validation,
                         score=count_rows)  # fmt: skip
    engine.attach_folder(log=None, checkpoints=folder)
    engine.fit()
    told: list[str] = engine.plan.techniques["diary"].told  # type: ignore[attr-defined]
    return told


def test_everything_is_told_once_and_in_order(tmp_path: Path) -> None:
    told = train(tmp_path, epochs=2)
    assert told == [
        "start", "step 1", "step 2", "rows 5", "epoch 1", "step 3", "step 4", "epoch 2", "rows 5", "end",
    ]  # fmt: skip
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000002", "step-00000004"]


@pytest.mark.parametrize(("max_steps", "epochs"), [(3, ["epoch 1"]), (4, ["epoch 1", "epoch 2"])])
def test_an_epoch_that_is_cut_short_has_not_ended(tmp_path: Path, max_steps: int, epochs: list[str]) -> None:
    told = train(tmp_path, epochs=3, max_steps=max_steps)
    assert [line for line in told if line.startswith("epoch")] == epochs
    assert told[-1] == "end"
