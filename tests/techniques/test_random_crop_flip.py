"""Random crops and flips: shifts by hand, all offsets, mirrored images, and keyed draws."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tiny_contexts import make_context

from etude.core.batch import Batch
from etude.core.phases import AUGMENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.techniques.augment.random_crop_flip import RandomCropFlip, RandomCropFlipConfig, shifted
from etude.testing.tiny import tiny_backbone, tiny_task


def augmenter(**settings: float) -> Callable[[Batch, Moment], Batch]:
    plan = Plan(make_context(backbone=tiny_backbone("image", tiny_task("multiclass"))))
    plan.attach(RandomCropFlip(RandomCropFlipConfig(**settings)))
    return plan.many(AUGMENT)[0]


def batch_of(images: torch.Tensor) -> Batch:
    n = len(images)
    return Batch({"pixels": images}, torch.ones(n, 1), torch.ones(n), torch.arange(n))


def test_a_shift_is_a_crop_of_the_image_with_its_edges_repeated() -> None:
    images = torch.rand(6, 3, 5, 7)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), mode="replicate")
    down, across = torch.tensor([-2, -1, 0, 1, 2, 0]), torch.tensor([2, 0, 0, -2, 1, 0])
    found = shifted(images, down, across)
    for i in range(6):
        y, x = int(down[i]) + 2, int(across[i]) + 2
        assert torch.equal(found[i], padded[i, :, y : y + 5, x : x + 7])
    assert torch.equal(found[2], images[2])


def test_every_offset_and_both_sides_occur(moment: Moment) -> None:
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 4, 3] = 1.0
    found = augmenter(padding=0.125, flip=0.5)(batch_of(image.expand(400, 1, 8, 8)), moment).inputs["pixels"]
    places = {(int(p) // 8, int(p) % 8) for p in found.flatten(1).argmax(dim=1)}
    assert places == {(y, x) for y in (3, 4, 5) for x in (2, 3, 4, 5)}  # 7 - 3 = 4 is the mirrored column
    assert (found.sum(dim=(1, 2, 3)) == 1).all()
    turned = (
        found == augmenter(padding=0.0, flip=1.0)(batch_of(found), moment).inputs["pixels"].flip(3)
    ).all()
    assert turned


def test_draws_are_keyed_and_the_batch_stays(moment: Moment) -> None:
    batch, augment = batch_of(torch.rand(8, 1, 8, 8)), augmenter()
    before = batch.inputs["pixels"].clone()
    first = augment(batch, moment).inputs["pixels"]
    assert torch.equal(first, augment(batch, moment).inputs["pixels"])
    assert not torch.equal(first, augment(batch, replace(moment, step=9)).inputs["pixels"])
    assert torch.equal(batch.inputs["pixels"], before)


def test_offsets_must_be_one_for_each_image() -> None:
    with pytest.raises(ValueError, match=r"2 images were given offsets of shapes \(1,\), \(2,\)"):
        shifted(torch.zeros(2, 1, 3, 3), torch.zeros(1).long(), torch.zeros(2).long())
