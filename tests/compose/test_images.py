"""Images in the suite: a technique that needs pixels gets the tiny ConvNet, all others never meet it."""

from typing import Literal

import pytest
import torch

from etude.core.batch import Batch
from etude.core.phases import AUGMENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.testing import technique_suite as suite
from etude.testing.harness import Setup, make_engine, train
from etude.testing.tiny import TinyConvNet, tiny_examples, tiny_task


class MirrorConfig(TechniqueConfig):
    """Settings of the mirror: there are none."""

    name: Literal["mirror"] = "mirror"


class Mirror(Technique[MirrorConfig]):
    """Mirrors half of the images of a step."""

    Config = MirrorConfig
    facts = Facts(family="augment", phase=AUGMENT, paper="", needs=frozenset({"pixels"}), changes_inputs=True)

    def attach(self, plan: Plan) -> None:
        def augment(batch: Batch, moment: Moment) -> Batch:
            pixels = batch.inputs["pixels"]
            turned = torch.rand(len(batch), 1, 1, 1, generator=moment.torch("mirror")) < 0.5
            return batch.with_inputs(pixels=torch.where(turned, pixels.flip(3), pixels))

        plan.add(AUGMENT, augment)


CHECKS = [check for check in suite.all_checks() if check is not suite.check_card]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_technique_that_needs_pixels_conforms(check: suite.Check) -> None:
    check(Mirror)


def test_only_it_is_tried_on_images() -> None:
    assert {setup.modality for setup in suite.every_setup(Mirror)} == {"image"}
    assert {setup.modality for setup in suite.every_setup()} == {"text", "table"}
    assert suite.suited(Mirror) == Setup(modality="image")


def test_the_tiny_convnet() -> None:
    task = tiny_task("multiclass")
    inputs = tiny_examples("image", task).inputs(torch.arange(4).numpy())
    assert inputs["pixels"].shape == (4, 1, 8, 8)
    backbone = TinyConvNet(3).eval()
    output = backbone(inputs)
    assert (output.logits.shape, output.features.shape) == ((4, 3), (4, 8))
    in_blocks = [p for _, block in backbone.blocks() for p in block.parameters()]
    assert len(in_blocks) == len(list(backbone.parameters()))
    engine = make_engine({}, Setup(modality="image"))
    engine.fit()
    # 6 steps moved what BatchNorm has seen, and evaluation uses it.
    assert int(engine.backbone.state_dict()["stem.1.num_batches_tracked"]) == 6
    assert engine.backbone.state_dict()["stem.1.running_mean"].any()
    assert "stem.1.running_mean" not in train({}, Setup(modality="image", batch_norm=False))
