"""Mixup by hand, its moments against the beta distribution's, and inputs that cannot be added."""

import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_contexts import make_context

from etude.core.batch import Batch
from etude.core.phases import MIX
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.task import make_task
from etude.errors import ConflictError
from etude.techniques import technique_class
from etude.techniques.mixing.mixup import Mixup, MixupConfig, mix_rows
from etude.testing.harness import Setup, train
from etude.testing.technique_suite import finite
from etude.testing.tiny import tiny_backbone


def mixer(alpha: float, per_example: bool = False) -> Callable[[Batch, Moment], Batch]:
    backbone = tiny_backbone("table", make_task("multiclass", ["a", "b", "c"]))
    plan = Plan(make_context(backbone=backbone))
    plan.attach(Mixup(MixupConfig(alpha=alpha, per_example=per_example)))
    mix = plan.one(MIX)
    assert mix is not None
    return mix


def batch_of(n: int) -> Batch:
    """Inputs say the row, targets too, so that λ and the partner can be read off both."""
    eye = torch.eye(n, dtype=torch.float64)
    return Batch({"numbers": eye}, eye, torch.arange(1.0, n + 1), torch.arange(n))


@pytest.mark.parametrize("per_example", [False, True])
def test_inputs_and_targets_have_the_same_share(per_example: bool, moment: Moment) -> None:
    batch = batch_of(64)
    new = mixer(1.0, per_example)(batch, moment)
    assert torch.equal(new.inputs["numbers"], new.targets)
    assert torch.allclose(new.targets.sum(1), torch.ones(64, dtype=torch.float64))
    assert ((new.targets > 0).sum(1) <= 2).all()
    # Each row is partner once.
    assert torch.allclose(new.targets.sum(0).sum(), torch.tensor(64.0, dtype=torch.float64))
    assert len(new.targets.diagonal().unique()) > (50 if per_example else 0)
    if not per_example:
        assert torch.allclose(new.targets.sum(0), torch.ones(64, dtype=torch.float64))
    assert torch.equal(new.weights, batch.weights)


def test_lambda_is_betas(moment: Moment) -> None:
    """Beta(α, α) has the mean 1/2 and the variance 1 / (4 (2 α + 1))."""
    mixed = mixer(0.2, per_example=True)(batch_of(2000), moment).targets
    lam = mixed.diagonal()[mixed.diagonal() < 1]
    assert abs(float(lam.mean()) - 0.5) < 0.05
    assert abs(float(lam.var()) - 1 / (4 * 1.4)) < 0.02


def test_the_draw_is_keyed_and_the_batch_stays(moment: Moment) -> None:
    batch, mix = batch_of(8), mixer(1.0)
    first = mix(batch, moment)
    assert torch.equal(first.targets, mix(batch, moment).targets)
    assert not torch.equal(first.targets, mix(batch, replace(moment, step=8)).targets)
    assert torch.equal(batch.targets, torch.eye(8, dtype=torch.float64))


def test_categories_are_refused_with_the_way_out(moment: Moment) -> None:
    batch = batch_of(4).with_inputs(categories=torch.zeros(4, 2, dtype=torch.long))
    with pytest.raises(ConflictError, match=r"hold 'categories' as well, .* use hidden_mixup or cutmix"):
        mixer(1.0)(batch, moment)


def test_images_train() -> None:
    assert finite(train({technique_class("mixup"): {}}, Setup(modality="image")))


def test_text_is_refused() -> None:
    with pytest.raises(ConflictError, match="mixup needs a backbone with 'mixable' and TinyTransformer"):
        train({technique_class("mixup"): {}}, Setup(modality="text"))


def test_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"lam has shape \(2,\) and must have \(3,\)"):
        mix_rows(torch.ones(3, 1), torch.arange(3), torch.ones(2))


def test_parity() -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "parity" / "mixing.py"
    rows = list(runpy.run_path(str(path))["rows"]())
    assert len(rows) >= 4
    assert max(apart for *_, apart in rows) <= 1e-10, rows
