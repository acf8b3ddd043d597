"""Random erasing: boxes by hand, shares of the area, and what stays."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_contexts import make_context

from etude.config.explain import validated
from etude.core.batch import Batch
from etude.core.phases import AUGMENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.errors import ConfigError
from etude.techniques.augment.random_erasing import RandomErasing, RandomErasingConfig, boxes
from etude.testing.tiny import tiny_backbone, tiny_task


def augmenter(**settings: Any) -> Callable[[Batch, Moment], Batch]:
    plan = Plan(make_context(backbone=tiny_backbone("image", tiny_task("multiclass"))))
    plan.attach(RandomErasing(RandomErasingConfig(**settings)))
    return plan.many(AUGMENT)[0]


@pytest.mark.parametrize(
    ("share", "ratio", "place", "expected"),
    [
        (0.25, 1.0, (0.0, 0.0), (0, 5, 0, 10)),  # sqrt(50) = 7.07 rows are all right; see the sizes below
        (1.0, 1.0, (0.5, 0.5), None),
        (0.0, 1.0, (0.5, 0.5), None),
    ],
)
def test_boxes_by_hand(share: float, ratio: float, place: tuple[float, float], expected: object) -> None:
    box = boxes(torch.tensor([share]), torch.tensor([ratio]), torch.tensor([place]), 10, 20)[0, 0]
    side = round((share * 200 * ratio) ** 0.5), round((share * 200 / ratio) ** 0.5)
    assert int(box.any(1).sum()) == min(side[0], 10)
    assert int(box.any(0).sum()) == min(side[1], 20)
    assert int(box.sum()) == min(side[0], 10) * min(side[1], 20)


def test_a_share_of_the_images_loses_a_box_of_noise(moment: Moment) -> None:
    n = 600
    images = torch.full((n, 3, 20, 20), 2.0)
    batch = Batch({"pixels": images}, torch.ones(n, 1), torch.ones(n), torch.arange(n))
    found = augmenter(probability=0.5, smallest=0.1, largest=0.3)(batch, moment).inputs["pixels"]
    hidden = found != 2.0
    assert (images == 2.0).all()
    assert torch.equal(hidden[:, 0], hidden[:, 2])
    erased = hidden.any(dim=3).any(dim=2).any(dim=1)
    assert abs(float(erased.float().mean()) - 0.5) < 0.08
    shares = hidden[erased, 0].float().mean(dim=(1, 2))
    assert 0.07 < float(shares.min()) < float(shares.max()) < 0.34  # rounded to whole pixels
    noise = found[hidden]
    assert 0 <= float(noise.min()) < float(noise.max()) <= 1
    assert abs(float(noise.mean()) - 0.5) < 0.01
    again = augmenter(probability=0.5, smallest=0.1, largest=0.3)(batch, moment).inputs["pixels"]
    assert torch.equal(found, again)


def test_bounds_name_the_value() -> None:
    with pytest.raises(ConfigError, match=r"smallest is 0.5 and largest 0.4; exchange them"):
        validated(RandomErasingConfig, {"smallest": 0.5})
    with pytest.raises(ValueError, match=r"lie in \[0, 1\] and one is \[1.5\]"):
        boxes(torch.tensor([1.5]), torch.ones(1), torch.zeros(1, 2), 4, 4)
