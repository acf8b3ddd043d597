"""The ladder in real trainings that break: every rung, in order, logged, and exact after a stop."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from breaker import Breaker
from pydantic import ValidationError

from etude.core.engine import Engine
from etude.core.observe import Reporter
from etude.core.phases import OPTIMIZER
from etude.errors import RunError
from etude.techniques import catalogue, technique_class
from etude.techniques.stability.stability_ladder import (
    StabilityLadder,
    StabilityLadderConfig,
    go_back,
    ladder,
    take_snapshot,
)
from etude.testing.harness import Recipe, Setup, make_engine, train
from etude.testing.technique_suite import difference, finite, resume_difference

LONG = Setup(epochs=10)
"""30 attempts of 8 rows."""


class Warnings(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, text: str) -> None:
        self.said.append(text)


def recipe(what: str, attempts: range | list[int], **settings: Any) -> Recipe:
    return {
        StabilityLadder: {"patience": 2, "snapshot_every": "5st", **settings},
        Breaker: {"what": what, "attempts": tuple(attempts)},
    }


class Climb:
    """A training with the ladder, and what it logged."""

    def __init__(self, acting: Recipe, setup: Setup = LONG) -> None:
        self.warnings, self.lines = Warnings(), list[Mapping[str, Any]]()
        self.engine: Engine = make_engine(acting, setup, reporter=self.warnings)
        self.engine.attach_folder(log=self.lines.append, checkpoints=None)

    def fit(self) -> "Climb":
        self.engine.fit()
        return self

    @property
    def rungs(self) -> list[str]:
        return [line["stability"]["did"] for line in self.lines if "stability" in line]

    @property
    def breaker(self) -> Breaker:
        found = self.engine.plan.techniques["breaker"]
        assert isinstance(found, Breaker)
        return found

    def weights(self) -> Mapping[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.engine.backbone.state_dict().items()}


def test_every_rung_in_order_and_then_an_error() -> None:
    climb = Climb(recipe("loss", range(4, 30)))
    with pytest.raises(RunError, match="after step 4 is still not finite at the top"):
        climb.fit()
    assert climb.rungs == ["eps", "eps", "lr", "revert"]
    assert climb.breaker.attempt == 4 + 5 * 2 - 1
    group = climb.engine.optimizer.param_groups[0]
    assert group["eps"] == pytest.approx(1e-6)
    assert group["lr"] == pytest.approx(0.001)
    said = [text for text in climb.warnings.said if "stability_ladder" in text]
    assert said == [
        "stability_ladder after step 4: the optimizer's eps is now 1e-07",
        "stability_ladder after step 4: the optimizer's eps is now 1e-06",
        "stability_ladder after step 4: learning rates are multiplied by 0.1 from now on",
        "stability_ladder after step 4: the weights and the optimizer went back to the last good state",
    ]
    logged = [line for line in climb.lines if "stability" in line]
    assert [line["stability"]["rung"] for line in logged] == [1, 2, 3, 4]
    assert all(line["step"] == 4 for line in logged)


def test_a_rung_that_helps_is_the_last() -> None:
    climb = Climb(recipe("loss", range(4, 8))).fit()
    assert climb.rungs == ["eps", "eps"]
    assert climb.engine.step == 30 - 4
    assert climb.engine.optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    assert finite(climb.weights())


def test_single_steps_are_left_out_without_a_climb() -> None:
    climb = Climb(recipe("loss", [3, 20], forget_after=10)).fit()
    assert climb.rungs == []
    assert climb.engine.step == 28
    assert Climb(recipe("loss", [3, 12], forget_after=10)).fit().rungs == ["eps"]


def test_an_infinite_gradient_is_seen_without_clipping() -> None:
    climb = Climb(recipe("gradient", range(3, 5))).fit()
    assert climb.engine.step == 28
    assert climb.rungs == ["eps"]
    assert finite(climb.weights())
    without = make_engine({Breaker: {"what": "gradient", "attempts": (3,)}}, LONG)
    without.fit()
    assert not finite(without.backbone.state_dict())


def test_broken_weights_go_back_at_once_and_the_data_moves_on() -> None:
    """ε and learning rate cannot mend weights that have overflowed; the average has overflowed as well."""
    climb = Climb({**recipe("rate", [7]), technique_class("ema"): {"decay": 0.5, "warmup": False}})
    kept: list[Mapping[str, torch.Tensor]] = []
    seen: list[tuple[int, int]] = []
    ladder_on_step = climb.engine.plan.techniques["stability_ladder"].on_step

    def on_step(run: Engine) -> None:
        ladder_on_step(run)
        seen.append((run.step, climb.breaker.attempt))
        if seen[-1] in ((5, 4), (8, 9)):
            kept.append({**climb.weights(), **_numbers(run)})

    climb.engine.plan.techniques["stability_ladder"].on_step = on_step  # type: ignore[method-assign]
    climb.fit()
    assert climb.rungs == ["revert"]
    assert seen[7:11] == [(8, 7), (8, 8), (8, 9), (9, 10)]
    assert difference(kept[0], kept[1]) == 0
    assert len({name for name in kept[0] if name.startswith("ema.")}) > 3
    assert finite(climb.weights())
    assert climb.engine.step == 28
    # Each epoch shows every row once, whatever was left out.
    epochs = [sorted(itertools.chain(*climb.breaker.rows[i : i + 3])) for i in range(0, 30, 3)]
    assert epochs == [list(range(24))] * 10


def _numbers(run: Engine) -> dict[str, torch.Tensor]:
    """The optimizer's moments and the average's weights."""
    moments = run.optimizer.state_dict()["state"]
    found = {f"{i}.{name}": value.clone() for i, of in moments.items() for name, value in of.items()}
    average = run.plan.techniques["ema"].state_dict()
    return {**found, **{f"ema.{name}": torch.as_tensor(value).clone() for name, value in average.items()}}


def test_half_precision_is_left_at_last() -> None:
    climb = Climb(recipe("half", []), Setup(epochs=10, precision="bf16")).fit()
    assert climb.rungs == ["eps", "eps", "lr", "revert", "precision"]
    assert climb.engine.step == 30 - 10
    assert climb.breaker.autocast[:10] == [True] * 10
    assert not any(climb.breaker.autocast[10:])
    assert climb.warnings.said[-1].endswith("the model left bf16 and computes in fp32")
    assert {value.dtype for value in climb.weights().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("what", "attempts", "precision", "step"),
    [
        ("loss", range(4, 9), "no", 5),
        ("loss", range(4, 10), "no", 12),
        ("rate", [7], "no", 8),
        ("rate", [7], "no", 9),
        ("half", [], "bf16", 3),
    ],
)
def test_a_stop_changes_nothing(what: str, attempts: Any, precision: Any, step: int) -> None:
    setup = Setup(epochs=10, dropout=0.2, precision=precision)
    acting = {**recipe(what, attempts), technique_class("ema"): {}}
    assert resume_difference(acting, setup, step=step) == 0


def test_the_gradient_scaler_finds_its_scale_first() -> None:
    """In fp16 steps are left out until the scale fits; they say nothing of the training."""
    for scale, rungs in ((2.0, []), (1.0, ["eps"])):
        climb = Climb(recipe("loss", range(4, 6)))
        climb.engine.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        climb.fit()
        assert climb.rungs == rungs


@pytest.mark.parametrize(("name", "eps"), [("sgd", None), ("adam", 1e-7)])
def test_an_optimizer_without_eps_lowers_its_rate(name: str, eps: float | None) -> None:
    acting = {**recipe("loss", range(4, 6)), technique_class(name): {"lr": 0.1}}
    climb = Climb(acting).fit()
    group = climb.engine.optimizer.param_groups[0]
    assert climb.rungs == (["lr"] if eps is None else ["eps"])
    assert group.get("eps") == (None if eps is None else pytest.approx(eps))
    assert group["lr"] == pytest.approx(0.01 if eps is None else 0.1)


def test_a_schedule_goes_on_under_the_lowered_rate() -> None:
    acting = {**recipe("loss", range(4, 6), eps_raises=0), technique_class("linear"): {}}
    plain = make_engine({technique_class("linear"): {}}, LONG)
    climb = Climb(acting).fit()
    plain.fit()
    assert climb.rungs == ["lr"]
    rates = {line["step"]: next(iter(line["lr"].values())) for line in climb.lines if "lr" in line}
    factor = [plain._rates.factor(step - 1) * 0.01 for step in rates]
    lowered = [rate / before for rate, before in zip(rates.values(), factor, strict=True)]
    assert lowered == pytest.approx([1.0] + [0.1] * (len(rates) - 1))


@pytest.mark.parametrize("name", [name for name, t in catalogue().items() if t.facts.phase is OPTIMIZER])
def test_every_optimizers_numbers_go_back(name: str) -> None:
    kept: list[Mapping[str, Any]] = []
    acting: Recipe = {StabilityLadder: {}, technique_class(name): {}}
    # Schedule-free brings an average of its own.
    average = {} if name == "schedule_free" else {technique_class("ema"): {}}
    engine = make_engine({**acting, **average}, Setup())

    def on_step(run: Engine) -> None:
        if run.step == 3:
            kept.append(take_snapshot(run))

    engine.plan.techniques["stability_ladder"].on_step = on_step  # type: ignore[method-assign]
    engine.fit()
    assert difference(kept[0], take_snapshot(engine)) > 0
    go_back(engine, kept[0])
    assert difference(kept[0], take_snapshot(engine)) == 0


def test_while_all_is_finite_it_changes_nothing() -> None:
    setup = Setup(dropout=0.2, epochs=4)
    acting = {StabilityLadder: {"snapshot_every": "1st"}}
    assert difference(train(acting, setup), train({}, setup)) == 0


def test_rungs_and_bounds() -> None:
    assert ladder(0) == ("lr", "revert", "precision")
    with pytest.raises(ValueError, match="eps_raises is -1 and must be 0 or more"):
        ladder(-1)
    with pytest.raises(ValidationError, match="snapshot_every is 0st and must be longer"):
        StabilityLadderConfig(snapshot_every="0st")
