"""Plateau through the real engine: on the training loss, on a metric, with a tail, and its refusals."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from etude.core.engine import Engine
from etude.core.phases import SCHEDULE
from etude.core.plan import Plan
from etude.core.technique import Context
from etude.errors import ConfigError
from etude.techniques import technique_class
from etude.techniques.schedules.plateau import Count, Plateau, PlateauConfig, count_on, tail_factor
from etude.testing.harness import Setup, make_engine
from etude.testing.tiny import tiny_examples, tiny_task

Lines = list[Mapping[str, Any]]


def fit(settings: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]] | None = None) -> Lines:
    """Train 12 steps and return what was logged at each."""
    engine = engine_of(settings, others or {}, [])
    lines: Lines = []
    engine.attach_folder(log=lines.append, checkpoints=None)
    engine.settings = replace(engine.settings, log_every=1)
    engine.fit()
    return lines


def engine_of(
    settings: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]], scores: list[float]
) -> Engine:
    recipe = {Plateau: settings, **{technique_class(name): said for name, said in others.items()}}
    validation = tiny_examples("text", tiny_task("multiclass"), 9, seed=1) if scores else None
    left = iter(scores)
    return make_engine(
        recipe, Setup(epochs=4), validation=validation, score=lambda *_: {"accuracy": next(left)}
    )


def rates(lines: Lines) -> list[float]:
    return [100 * next(iter(line["lr"].values())) for line in lines if "lr" in line]


def test_a_loss_that_stands_still_lowers_the_rate_after_the_patience() -> None:
    """A tiny rate leaves the mean loss of each epoch where it was, within the threshold."""
    settings = {"every": "1ep", "patience": 1, "threshold": 0.5, "factor": 0.1}
    lines = fit(settings)
    # The first mean is the best one, and the third is the second that is no better.
    assert np.allclose(rates(lines), [1.0] * 9 + [0.1] * 3)
    losses = [line["train"]["loss"] for line in lines if "train" in line]
    (fall,) = [line for line in lines if "plateau" in line]
    assert fall["step"] == 9
    assert fall["plateau"]["value"] == pytest.approx(np.mean(losses[6:9]), rel=1e-6)
    assert fall["plateau"]["best"] == pytest.approx(np.mean(losses[:3]), rel=1e-6)


def test_the_warmup_is_not_counted() -> None:
    settings = {"every": "1st", "patience": 0, "threshold": 0.9, "factor": 0.5}
    found = rates(fit(settings, {"warmup": {"duration": "4st"}}))
    assert np.allclose(found[:4], [0, 0.25, 0.5, 0.75])
    # Step 5 gives the first value, and each later one is no better.
    assert np.allclose(found[4:], [1.0, 1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625])


def test_the_tail_falls_to_zero_from_wherever_the_rate_is() -> None:
    settings = {"every": "1st", "patience": 4, "threshold": 0.9, "factor": 0.5, "tail": 0.5}
    found = rates(fit(settings))
    assert np.allclose(found, [1, 1, 1, 1, 1, 1, 0.5, 5 / 12, 4 / 12, 3 / 12, 2 / 12, 1 / 12])


def test_a_metric_is_asked_for_and_may_rise() -> None:
    settings = {"on": "validation", "metric": "accuracy", "every": "2st", "patience": 1, "threshold": 0.0}
    engine = engine_of(settings, {}, [0.5, 0.6, 0.6, 0.55, 0.7, 0.7, 0.7])
    lines: Lines = []
    engine.attach_folder(log=lines.append, checkpoints=None)
    engine.fit()
    assert [line["step"] for line in lines if "validation" in line] == [2, 4, 6, 8, 10, 12]
    assert [(line["step"], line["plateau"]["factor"]) for line in lines if "plateau" in line] == [(8, 0.1)]


def test_final_stops_the_falls_and_cooldown_rests() -> None:
    config = PlateauConfig(patience=0, factor=0.1, cooldown=2, final=0.05)
    count, scales = Count(), []
    for _ in range(9):
        count = count_on(count, 1.0, config)
        scales.append(count.scale)
    assert scales == pytest.approx([1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.05])


def test_what_is_not_finite_is_no_improvement() -> None:
    config = PlateauConfig(patience=1)
    count = count_on(count_on(Count(), float("nan"), config), 2.0, config)
    assert (count.best, count.bad) == (2.0, 0)
    assert count_on(count, float("inf"), config).bad == 1
    assert count_on(count, float("nan"), config).bad == 1


def test_the_factor_is_the_saved_scale(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    technique = Plateau(PlateauConfig())
    plan.attach(technique)
    technique.load_state_dict({**technique.state_dict(), "scale": 0.25, "best": 1.5})
    factor = plan.one(SCHEDULE)
    assert factor is not None
    assert factor(0.5) == 0.25
    assert technique.state_dict()["best"] == 1.5


def test_refusals() -> None:
    with pytest.raises(ConfigError, match=r'plateau.on is "validation" and the run has no validation part'):
        engine_of({"on": "validation"}, {}, []).fit()
    settings = {"on": "validation", "metric": "acuracy", "every": "2st"}
    with pytest.raises(ConfigError, match="'acuracy' and there is no such metric; did you mean 'accuracy'"):
        engine_of(settings, {}, [0.5] * 9).fit()
    with pytest.raises(ValidationError, match="metric is 'f1' and on = \"train\" knows the loss only"):
        PlateauConfig(metric="f1")
    with pytest.raises(ValidationError, match="every is 0ep and must be longer"):
        PlateauConfig(every="0ep")
    with pytest.raises(ValueError, match=r"progress is 1.5 and must lie in \[0, 1\]"):
        tail_factor(1.5, 0.1, "linear")
