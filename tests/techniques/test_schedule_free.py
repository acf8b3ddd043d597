"""Schedule-free: training at y, evaluation and the saved model at x, and no schedule or average beside."""

import pytest
import torch

from etude.core.phases import AVERAGE, SCHEDULE
from etude.errors import ConflictError
from etude.techniques import catalogue
from etude.techniques.optimizers.schedule_free import ScheduleFree
from etude.testing.harness import Recipe, Setup, make_engine, train

OF_PHASE = {
    phase: [name for name, t in catalogue().items() if t.facts.phase is phase]
    for phase in (AVERAGE, SCHEDULE)
}


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def test_what_is_lent_is_the_mean_of_the_iterates() -> None:
    """At a constant rate, x after step t is the mean of z after steps 1 to t."""
    engine = make_engine({ScheduleFree: {"lr": 0.01}}, Setup())
    iterates: list[torch.Tensor] = []
    step = engine.optimizer.step

    def watched() -> None:
        step()
        iterates.append(engine.optimizer.state[engine.backbone.head[1].weight]["z"].clone())

    engine.optimizer.step = watched
    engine.fit()
    y = weights_of(engine.backbone)
    with engine.final_weights():
        x = weights_of(engine.backbone)
    again = weights_of(engine.backbone)
    assert len(iterates) == 6
    torch.testing.assert_close(x["head.1.weight"], torch.stack(iterates).mean(0), rtol=0, atol=1e-6)
    blend = 0.1 * iterates[-1] + 0.9 * x["head.1.weight"]
    torch.testing.assert_close(y["head.1.weight"], blend, rtol=0, atol=1e-6)
    assert all(torch.equal(y[name], again[name]) for name in y)
    assert not torch.equal(x["head.1.weight"], y["head.1.weight"])


def test_y_comes_back_when_an_evaluation_fails() -> None:
    engine = make_engine({ScheduleFree: {"lr": 0.01}}, Setup())
    engine.fit()
    before = weights_of(engine.backbone)

    def fail() -> None:
        with engine.final_weights():
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    after = weights_of(engine.backbone)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_nothing_is_lent_before_the_first_step_and_nothing_for_frozen_weights() -> None:
    engine = make_engine({ScheduleFree: {}, catalogue()["freeze"]: {"until": "1dur"}}, Setup())
    before = weights_of(engine.backbone)
    with engine.final_weights():
        assert all(torch.equal(value, before[name]) for name, value in engine.backbone.named_parameters())
    engine.fit()
    with engine.final_weights():
        moved = {n for n, v in engine.backbone.named_parameters() if not torch.equal(v, before[n])}
    assert moved == {"head.1.weight", "head.1.bias"}


@pytest.mark.parametrize("name", OF_PHASE[AVERAGE])
def test_another_average_is_refused(name: str) -> None:
    with pytest.raises(ConflictError, match=f"{name}.*schedule_free|schedule_free.*{name}"):
        make_engine({ScheduleFree: {}, catalogue()[name]: {}}, Setup())


@pytest.mark.parametrize("name", [name for name in OF_PHASE[SCHEDULE] if name != "constant"])
def test_a_schedule_is_refused(name: str) -> None:
    said = (
        f"schedule_free clashes with {name}: schedule_free needs a learning rate that does not fall; remove"
    )
    with pytest.raises(ConflictError, match=said):
        make_engine({ScheduleFree: {}, catalogue()[name]: {}}, Setup())


def test_a_constant_rate_and_a_warm_up_are_fine() -> None:
    beside: Recipe = {catalogue()["constant"]: {}, catalogue()["warmup"]: {"duration": "2st"}}
    assert all(torch.isfinite(v).all() for v in train({ScheduleFree: {}, **beside}, Setup()).values())


def test_statistics_of_batch_norms_are_taken_again_for_x() -> None:
    engine = make_engine({ScheduleFree: {"lr": 0.05}}, Setup(modality="image"))
    engine.fit()
    own = {name: value.clone() for name, value in engine.backbone.named_buffers()}
    with engine.final_weights():
        kept = {name: value.clone() for name, value in engine.backbone.named_buffers()}
        pixels = engine.train.inputs(torch.arange(24).numpy())["pixels"]
        mean = engine.backbone.stem[0](pixels).mean(dim=(0, 2, 3))
    torch.testing.assert_close(kept["stem.1.running_mean"], mean, rtol=1e-4, atol=1e-5)
    assert not torch.equal(own["stem.1.running_mean"], kept["stem.1.running_mean"])
    assert torch.equal(own["stem.1.running_mean"], engine.backbone.stem[1].running_mean)
