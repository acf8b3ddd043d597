"""Progressive resizing: the size of each stage, what scaling keeps, and networks of one size."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_contexts import make_context

from etude.config.explain import validated
from etude.core.batch import Batch
from etude.core.phases import AUGMENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.errors import ConfigError, ConflictError
from etude.techniques.curriculum.progressive_resizing import (
    ProgressiveResizing,
    ProgressiveResizingConfig,
    resized,
)
from etude.testing.tiny import TinyConvNet, tiny_backbone, tiny_task


def augmenter(**settings: Any) -> Callable[[Batch, Moment], Batch]:
    plan = Plan(make_context(backbone=tiny_backbone("image", tiny_task("multiclass"))))
    plan.attach(ProgressiveResizing(ProgressiveResizingConfig(**settings)))
    return plan.many(AUGMENT)[0]


def test_images_grow_in_equal_stages(moment: Moment) -> None:
    batch = Batch({"pixels": torch.rand(2, 3, 16, 24)}, torch.ones(2, 1), torch.ones(2), torch.arange(2))
    augment = augmenter(shares=[0.25, 0.5], over="0.5dur")  # of 40 steps
    sizes = [
        tuple(augment(batch, replace(moment, step=step)).inputs["pixels"].shape[2:]) for step in range(40)
    ]
    assert sizes == [(4, 6)] * 10 + [(8, 12)] * 10 + [(16, 24)] * 20


def test_scaling_keeps_what_is_even_and_the_mean() -> None:
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    small = resized(ramp, 0.5)
    torch.testing.assert_close(small.mean(), ramp.mean())
    torch.testing.assert_close(small[0, 0, 0, 2:-2], ramp.view(1, 1, 32, 16, 2).mean(-1)[0, 0, 0, 2:-2])
    assert resized(ramp, 0.01).shape == (1, 1, 4, 4)
    assert resized(ramp, 1.0) is ramp
    assert resized(ramp[:, :, :3, :3], 0.5).shape == (1, 1, 3, 3)


def test_a_network_of_one_size_is_refused() -> None:
    class Placed(TinyConvNet):
        any_size = False

    with pytest.raises(ConflictError, match=r"this one knows 1x8x8 only; remove progressive_resizing"):
        Plan(make_context(backbone=Placed(3))).attach(ProgressiveResizing(ProgressiveResizingConfig()))


def test_bounds_name_the_value() -> None:
    with pytest.raises(
        ConfigError, match=r"shares is \[0.5, 0.25\] and must name one share or more, in rising"
    ):
        validated(ProgressiveResizingConfig, {"shares": [0.5, 0.25]})
    with pytest.raises(ValueError, match=r"share is 0.0 and must be above 0 and at most 1"):
        resized(torch.zeros(1, 1, 4, 4), 0.0)
