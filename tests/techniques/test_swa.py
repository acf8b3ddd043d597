"""SWA against torch's swa_utils, its points, the held rate, BatchNorm, and what is scored."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_swa_multi_avg_fn, update_bn

from etude.config.fields import Time
from etude.core.engine import Engine
from etude.core.phases import AVERAGE
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context
from etude.errors import ConflictError
from etude.techniques import technique_class
from etude.techniques.averaging import averaging_steps
from etude.techniques.averaging.swa import SWA, SWAConfig, update_mean
from etude.testing.harness import Recipe, Setup, make_engine, train, weights
from etude.testing.technique_suite import difference, resume_difference
from etude.testing.tiny import tiny_examples, tiny_task

IMAGES = Setup(modality="image", n_rows=80, epochs=4)
"""80 rows are two batches of the pass that takes statistics."""


def recipe(**others: Mapping[str, Any]) -> Recipe:
    return {technique_class(name): said for name, said in others.items()}


def attached(network: nn.Module, context: Context, **settings: Any) -> SWA:
    technique = SWA(SWAConfig(**settings))
    technique.attach(Plan(context))
    return technique


def shift(network: nn.Module, step: int) -> None:
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.sin(value * 10 + step), alpha=0.1)


def at(step: int) -> Moment:
    return Moment(0, step, step // 10, 10, 30)


def test_equals_torchs_averaged_model(tiny_context: Callable[..., Context]) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    swa = attached(network, tiny_context(), start="10st", every="5st")
    theirs = AveragedModel(network, multi_avg_fn=get_swa_multi_avg_fn())
    for step in range(30):
        shift(network, step)
        swa.update(network, at(step))
        if step + 1 in (10, 15, 20, 25, 30):
            theirs.update_parameters(network)
    with swa.lend(network):
        lent = {name: value.clone() for name, value in network.state_dict().items()}
    assert difference(lent, theirs.module.state_dict()) == 0


def test_it_is_the_plain_mean() -> None:
    points = [torch.randn(5, dtype=torch.float64) for _ in range(7)]
    mean = [points[0].clone()]
    for n, point in enumerate(points[1:], start=1):
        update_mean(mean, [point], n)
    torch.testing.assert_close(mean[0], torch.stack(points).mean(dim=0), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("start", "every", "expected"),
    [
        ("0ep", "1ep", {10, 20, 30}),
        ("0.5dur", "1ep", {20, 30}),
        ("0ep", "2ep", {10, 30}),
        ("0.75dur", "1ep", {30}),
        ("20st", "4st", {22, 26, 30}),
        ("1ep", "0.5ep", {10, 15, 20, 25, 30}),
        ("29st", "5ep", {30}),
    ],
)
def test_points_are_counted_back_from_the_end(
    start: str, every: str, expected: set[int], tiny_context: Callable[..., Context]
) -> None:
    context = tiny_context(epoch_steps=(10, 10, 10))
    assert averaging_steps(context, context.steps(Time.parse(start)), Time.parse(every)) == expected


def test_points_are_the_ends_of_epochs_of_any_length(tiny_context: Callable[..., Context]) -> None:
    context = tiny_context(epoch_steps=(10, 6, 4), total_steps=20)
    assert averaging_steps(context, 0, Time(1, "ep")) == {10, 16, 20}
    cut = replace(context, total_steps=18)
    assert averaging_steps(cut, 0, Time(1, "ep")) == {10, 16, 18}


class Rates:
    """Notes the learning rate of every step."""

    def __init__(self, engine: Engine) -> None:
        self.seen: list[float] = []
        engine.optimizer.register_step_pre_hook(
            lambda optimizer, *_: self.seen.append(optimizer.param_groups[0]["lr"])
        )


@pytest.mark.parametrize("hold", [True, False])
def test_the_rate_is_held_from_the_start_of_averaging(hold: bool) -> None:
    setup, cosine = Setup(epochs=4), {"cosine": {}}
    plain, held = (
        make_engine(recipe(**cosine), setup),
        make_engine(recipe(swa={"hold_schedule": hold}, **cosine), setup),
    )
    without, found = Rates(plain), Rates(held)
    plain.fit()
    held.fit()
    assert found.seen[:7] == without.seen[:7]
    assert found.seen[7:] == ([without.seen[6]] * 5 if hold else without.seen[7:])
    assert without.seen[7] < without.seen[6]


def test_a_held_rate_survives_a_stop() -> None:
    acting = recipe(swa={}, plateau={"patience": 0, "threshold": 0.5, "every": "1st"}, clip={})
    assert resume_difference(acting, Setup(epochs=4, dropout=0.2), step=8) == 0
    assert resume_difference(recipe(swa={}, cosine={}), Setup(epochs=4, dropout=0.2), step=10) == 0


def test_batch_norm_gets_the_statistics_that_torch_takes() -> None:
    engine = make_engine(recipe(swa={}), IMAGES)
    engine.fit()
    raw = engine.backbone.state_dict()
    norm = engine.backbone.stem[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.momentum == 0.1
    found = weights(engine)
    rows = [np.arange(64), np.arange(64, 80)]
    before = {name: value.clone() for name, value in raw.items()}
    with engine.final_weights():
        theirs = type(engine.backbone)(3)
        theirs.load_state_dict(engine.backbone.state_dict())
    update_bn([engine.train.inputs(of) for of in rows], theirs)
    assert difference({name: found[f"kept.{name}"] for name in before}, theirs.state_dict()) == 0
    assert not torch.equal(found["kept.stem.1.running_mean"], before["stem.1.running_mean"])
    assert difference(before, engine.backbone.state_dict()) == 0


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    acting = recipe(swa={}, freeze={"until": "1dur"})
    for cache in (True, False):
        found = train(acting, replace(IMAGES, cache_features=cache))
        first = make_engine(recipe(), IMAGES).backbone.state_dict()
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            assert torch.equal(found[f"kept.stem.1.{name}"], first[f"stem.1.{name}"])


class Scored:
    """Scores like the engine, and keeps the logits."""

    def __init__(self) -> None:
        self.logits: list[Tensor] = []

    def __call__(self, logits: Tensor, _: Any) -> dict[str, float]:
        self.logits.append(logits.clone())
        return {"loss": float(logits.square().mean())}


def logits_of(engine: Engine, rows: Any) -> Tensor:
    engine.backbone.eval()
    with torch.no_grad():
        return engine.backbone(rows.inputs(np.arange(len(rows)))).logits


@pytest.mark.parametrize("modality", ["text", "image"])
@pytest.mark.parametrize("name", ["swa", "lawa", "ema"])
def test_the_final_score_is_that_of_the_averaged_weights(name: str, modality: Any) -> None:
    """Raw scores beside averaged weights would let a run be judged by a model that it does not keep."""
    scored, rows = Scored(), tiny_examples(modality, tiny_task("multiclass"), n=8, seed=1)
    engine = make_engine(
        recipe(**{name: {}}), Setup(modality=modality, epochs=4), validation=rows, score=scored
    )
    engine.fit()
    with engine.final_weights():
        averaged = logits_of(engine, rows)
    torch.testing.assert_close(scored.logits[-1], averaged)
    raw = logits_of(engine, rows)
    assert float((raw - averaged).abs().max()) > 1e-4
    if modality == "image" and name != "ema":
        # With statistics that do not fit yet, the first score of the last step is that of the raw weights.
        assert len(scored.logits) == 2
        torch.testing.assert_close(scored.logits[0], raw)


def test_every_step_of_the_rule_happens() -> None:
    """Gradients are zeroed at each step, averaging begins and does not end, the schedule reaches its end."""
    setup = Setup(epochs=4)
    with_swa = make_engine(recipe(swa={"hold_schedule": False}, cosine={}), setup)
    rates = Rates(with_swa)
    with_swa.fit()
    assert len(rates.seen) == with_swa.step == 12
    assert rates.seen[-1] < 0.02 * max(rates.seen)
    raw = {name: value for name, value in weights(with_swa).items() if not name.startswith("kept.")}
    plain = train(recipe(cosine={}), setup)
    assert difference(raw, {name: plain[name] for name in raw}) == 0


def test_tied_weights_are_averaged_once(tiny_context: Callable[..., Context]) -> None:
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    network[1].weight = network[0].weight
    swa, points = attached(network, tiny_context(), start="0ep", every="10st"), []
    for step in (9, 19, 29):
        shift(network, step)
        swa.update(network, at(step))
        points.append(network[0].weight.detach().clone())
    assert sum(name.startswith("mean.") for name in swa.state_dict()) == 1
    with swa.lend(network):
        assert network[1].weight is network[0].weight
        torch.testing.assert_close(network[0].weight.detach(), torch.stack(points).mean(dim=0))


def test_before_the_first_point_the_weights_themselves_are_lent(tiny_context: Callable[..., Context]) -> None:
    network = nn.Linear(2, 2)
    swa, before = attached(network, tiny_context()), network.weight.detach().clone()
    swa.update(network, at(3))
    with swa.lend(network):
        assert torch.equal(network.weight, before)


def test_a_start_at_the_end_is_absent(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(SWA(SWAConfig(start="1dur")))
    assert plan.entries() == []
    plan.attach(SWA(SWAConfig()))
    assert plan.one(AVERAGE) is not None


def test_a_plateau_that_would_lower_the_rate_meanwhile_is_refused() -> None:
    with pytest.raises(ConflictError, match=r"plateau would lower it .*hold_schedule = true"):
        make_engine(recipe(swa={"hold_schedule": False}, plateau={}), Setup())


def test_another_average_is_refused() -> None:
    with pytest.raises(ConflictError, match="ema and swa both want the phase 'average'"):
        make_engine(recipe(swa={}, ema={}), Setup())


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValidationError, match="every is 0ep and must be longer"):
        SWAConfig(every="0ep")
    with pytest.raises(ValueError, match="n is 0 and must be at least 1"):
        update_mean([torch.zeros(1)], [torch.zeros(1)], 0)
