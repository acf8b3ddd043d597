"""CutMix: boxes by hand, the share that is really there, columns, and backbones with neither."""

from collections.abc import Callable
from dataclasses import replace

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
from etude.techniques.mixing.cutmix import Cutmix, CutmixConfig, box_around
from etude.testing.harness import Setup, train
from etude.testing.technique_suite import difference, finite, resume_difference, split_difference
from etude.testing.tiny import TinyMLP, tiny_backbone


def mixer(modality: str, alpha: float = 1.0) -> Callable[[Batch, Moment], Batch]:
    backbone = tiny_backbone(modality, make_task("multiclass", ["a", "b", "c"]))
    plan = Plan(make_context(backbone=backbone))
    plan.attach(Cutmix(CutmixConfig(alpha=alpha)))
    mix = plan.one(MIX)
    assert mix is not None
    return mix


def batch_of(inputs: dict[str, torch.Tensor]) -> Batch:
    n = len(next(iter(inputs.values())))
    return Batch(inputs, torch.eye(n), torch.ones(n), torch.arange(n))


@pytest.mark.parametrize(
    ("lam", "centre", "expected"),
    [
        (0.75, (0.5, 0.5), (2, 6, 2, 6)),  # half of each side, in the middle
        (0.75, (0.0, 0.99), (0, 2, 5, 8)),  # clipped at two edges
        (1.0, (0.3, 0.3), (2, 2, 2, 2)),
        (0.0, (0.5, 0.5), (0, 8, 0, 8)),
    ],
)
def test_boxes_by_hand(lam: float, centre: tuple[float, float], expected: tuple[int, int, int, int]) -> None:
    assert box_around(8, 8, lam, centre) == expected


def test_targets_have_the_exact_share_of_the_pixels(moment: Moment) -> None:
    n, clipped = 12, 0
    images = torch.arange(float(n))[:, None, None, None].expand(n, 3, 8, 10).contiguous()
    for step in range(40):
        new = mixer("image")(batch_of({"pixels": images}), replace(moment, step=step))
        for i in range(n):
            share = torch.bincount(new.inputs["pixels"][i].flatten().long(), minlength=n) / (3 * 8 * 10)
            torch.testing.assert_close(new.targets[i], share, rtol=0, atol=1e-6)
        mask = (new.inputs["pixels"] != images)[:, 0].any(0)
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        if len(rows):
            assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all(), "what is cut is a box"
            clipped += int(rows[0] == 0 or columns[0] == 0)
    assert clipped > 0


def test_targets_have_the_exact_share_of_the_columns(moment: Moment) -> None:
    n = 8
    rows = torch.arange(n)[:, None]
    inputs = {"numbers": rows.expand(n, 6).float(), "categories": rows.expand(n, 4).contiguous()}
    shares = set()
    for step in range(30):
        new = mixer("table")(batch_of(inputs), replace(moment, step=step))
        both = torch.cat([new.inputs["numbers"].long(), new.inputs["categories"]], dim=1)
        for i in range(n):
            share = torch.bincount(both[i], minlength=n) / 10
            torch.testing.assert_close(new.targets[i], share, rtol=0, atol=1e-6)
            shares.add(round(float(share[i]), 1))
    assert new.inputs["categories"].dtype == torch.int64
    assert len(shares) > 5


def test_the_draw_is_keyed_and_the_batch_stays(moment: Moment) -> None:
    batch, mix = batch_of({"numbers": torch.eye(8)}), mixer("table")
    first = mix(batch, moment)
    assert torch.equal(first.inputs["numbers"], mix(batch, moment).inputs["numbers"])
    assert not torch.equal(first.inputs["numbers"], mix(batch, replace(moment, step=8)).inputs["numbers"])
    assert torch.equal(batch.inputs["numbers"], torch.eye(8))


def test_images_train_split_and_resume() -> None:
    recipe, setup = {technique_class("cutmix"): {}}, Setup(modality="image")
    found = train(recipe, setup)
    assert finite(found)
    assert difference(found, train({}, setup)) > 0
    assert split_difference(recipe, setup) <= 1e-9
    assert resume_difference(recipe, setup, step=4) == 0


def test_a_backbone_with_neither_is_refused() -> None:
    class Signal(TinyMLP):
        capabilities = frozenset({"mixable"})

    with pytest.raises(ConflictError, match="'pixels' or 'columns' and Signal has neither; remove cutmix"):
        Plan(make_context(backbone=Signal(3))).attach(Cutmix(CutmixConfig()))


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"lam is 1.5 and must lie in \[0, 1\]"):
        box_around(8, 8, 1.5, (0.0, 0.0))
