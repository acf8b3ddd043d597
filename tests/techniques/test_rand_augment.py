"""RandAugment: each operation against Pillow or by hand, even draws, and how strong they get."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from tiny_contexts import make_context
from torch import Tensor

from etude.core.batch import Batch
from etude.core.phases import AUGMENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.techniques._image_operations import OPERATIONS
from etude.techniques.augment.rand_augment import RandAugment, RandAugmentConfig, changed
from etude.testing.tiny import tiny_backbone, tiny_task

BYTES = np.random.default_rng(0).integers(40, 200, (12, 16, 3), dtype=np.uint8)
PILLOW = Image.fromarray(BYTES)
IMAGE = torch.from_numpy(BYTES.transpose(2, 0, 1).copy())[None] / 255
MORE, LESS = torch.ones(1), -torch.ones(1)


def of_pillow(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())[None] / 255


@pytest.mark.parametrize(
    ("name", "m", "signs", "expected"),
    [
        ("brightness", 0.5, MORE, ImageEnhance.Brightness(PILLOW).enhance(1.45)),
        ("brightness", 1.0, LESS, ImageEnhance.Brightness(PILLOW).enhance(0.1)),
        ("colour", 0.5, LESS, ImageEnhance.Color(PILLOW).enhance(0.55)),
        ("contrast", 0.5, MORE, ImageEnhance.Contrast(PILLOW).enhance(1.45)),
        ("posterize", 0.5, MORE, ImageOps.posterize(PILLOW, 6)),
        ("posterize", 1.0, MORE, ImageOps.posterize(PILLOW, 4)),
        ("solarize", 0.5, MORE, ImageOps.solarize(PILLOW, 128)),
        ("auto_contrast", 0.5, MORE, ImageOps.autocontrast(PILLOW)),
        ("translate_x", 0.0, MORE, PILLOW),
        ("rotate", 0.0, MORE, PILLOW),
        ("identity", 1.0, MORE, PILLOW),
    ],
)
def test_operations_as_pillow_does_them(name: str, m: float, signs: Tensor, expected: Image.Image) -> None:
    found = OPERATIONS[name](IMAGE, m, signs)
    assert float((found - of_pillow(expected)).abs().max()) <= 1.51 / 255  # Pillow cuts to whole bytes


def test_sharpness_as_pillow_within_the_edge() -> None:
    expected = of_pillow(ImageEnhance.Sharpness(PILLOW).enhance(1.45))
    found = OPERATIONS["sharpness"](IMAGE, 0.5, MORE)
    assert float((found - expected)[:, :, 1:-1, 1:-1].abs().max()) <= 1.51 / 255


def test_equalized_values_are_evenly_frequent() -> None:
    dark = (torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0)) ** 3).mul(255).round() / 255
    found = OPERATIONS["equalize"](dark, 1.0, torch.ones(3))
    for level in (0.25, 0.5, 0.75):
        assert abs(float((found <= level).float().mean()) - level) < 0.06
    order = dark[0].flatten().argsort()
    assert (found[0].flatten()[order].diff() >= 0).all()
    flat = torch.full((1, 1, 4, 4), 0.3)
    assert torch.equal(OPERATIONS["equalize"](flat, 1.0, MORE), flat)
    assert torch.equal(OPERATIONS["auto_contrast"](flat, 1.0, MORE), flat)


def test_shifts_and_shears_by_hand() -> None:
    image = torch.zeros(1, 1, 20, 20)
    image[0, 0, 10, 10] = 1.0
    moved = OPERATIONS["translate_x"](image, 1.0, MORE)  # 0.45 of 20 pixels, looked up to the right
    assert (moved[0, 0] > 0.5).nonzero().tolist() == [[10, 1]]
    moved = OPERATIONS["translate_y"](image, 1.0, LESS)
    assert (moved[0, 0] > 0.5).nonzero().tolist() == [[19, 10]]
    line = torch.zeros(1, 1, 21, 21)
    line[0, 0, :, 10] = 1.0
    sheared = OPERATIONS["shear_x"](line, 1.0, MORE)[0, 0]
    assert sheared[10].argmax() == 10
    assert abs(int(sheared[20].argmax()) - int(sheared[0].argmax())) == 6  # 0.3 of 20 rows
    square = torch.zeros(1, 1, 21, 41)
    square[0, 0, 10, 30] = 1.0
    turned = OPERATIONS["rotate"](square, 1.0, MORE)[0, 0]
    y, x = divmod(int(turned.argmax()), 41)
    assert abs((y - 10) ** 2 + (x - 20) ** 2 - 100) <= 12  # as far from the centre as before
    assert abs(abs(y - 10) - 5) <= 1  # sin 30 = 1/2


def augmenter(**settings: Any) -> Callable[[Batch, Moment], Batch]:
    plan = Plan(make_context(backbone=tiny_backbone("image", tiny_task("multiclass"))))
    plan.attach(RandAugment(RandAugmentConfig(**settings)))
    return plan.many(AUGMENT)[0]


def test_every_image_draws_its_own_operation(moment: Moment) -> None:
    n = 700
    images = IMAGE.expand(n, 3, 12, 16)
    batch = Batch({"pixels": images}, torch.ones(n, 1), torch.ones(n), torch.arange(n))
    found = augmenter(n_operations=1)(batch, moment).inputs["pixels"]
    same = (found == images).flatten(1).all(dim=1)
    assert 0.03 < float(same.float().mean()) < 0.13  # identity is one of 14
    assert (
        len({tuple(row) for row in found.flatten(1).mul(1e4).round().long()[:, ::37].tolist()}) == 23
    )  # 5 operations have one direction
    assert torch.equal(found, augmenter(n_operations=1)(batch, moment).inputs["pixels"])
    only = augmenter(n_operations=2, operations=["solarize"], magnitude=10)(batch, moment).inputs["pixels"]
    torch.testing.assert_close(only, images)


def test_all_operations_stay_between_black_and_white() -> None:
    images = torch.rand(2, 1, 9, 9)
    for name, operation in OPERATIONS.items():
        for signs in (torch.ones(2), -torch.ones(2)):
            found = operation(images, 1.0, signs)
            assert found.shape == images.shape, name
            assert -1e-6 <= float(found.min()) <= float(found.max()) <= 1 + 1e-6, name
            assert operation(images.double(), 1.0, signs).dtype == torch.float64, name


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"m is 2.0 and must lie in \[0, 1\]"):
        changed(IMAGE, torch.zeros(1), MORE, ["identity"], 2.0)
