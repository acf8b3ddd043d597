"""The engine against a loop that a person would write: the same bits."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from etude.core.examples import Examples
from etude.core.rng import numpy_generator
from etude.techniques import technique_class
from etude.testing.harness import Setup, make_engine
from etude.testing.technique_suite import difference, every_setup
from etude.testing.tiny import tiny_backbone, tiny_task

EPOCHS, BATCH, ROWS, LR = 4, 8, 21, 0.01
RECIPE = {technique_class("adamw"): {"lr": LR, "weight_decay": 0.01}, technique_class("linear"): {}}


def plain_loop(setup: Setup, examples: Examples) -> dict[str, Tensor]:
    """AdamW, a linear decay, shuffled rows; the last batch of each epoch has 5 rows."""
    model = tiny_backbone(setup.modality, tiny_task(setup.kind))
    model = model.double() if setup.double else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.01, fused=True)
    total = EPOCHS * -(-ROWS // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / total)
    for epoch in range(EPOCHS):
        order = numpy_generator(setup.seed, "shuffle", epoch).permutation(ROWS)
        for rows in np.split(order, range(BATCH, ROWS, BATCH)):
            optimizer.zero_grad()
            logits, targets = model(examples.inputs(rows)).logits, examples.targets[torch.from_numpy(rows)]
            if setup.kind == "multilabel":
                loss = binary_cross_entropy_with_logits(logits, targets.to(logits))
            else:
                loss = cross_entropy(logits, targets.argmax(dim=1))
            loss.backward()
            optimizer.step()
            schedule.step()
    return {name: value.detach() for name, value in model.named_parameters()}


def compare(setup: Setup) -> float:
    engine = make_engine(RECIPE, setup)
    before = {name: value.detach().clone() for name, value in engine.backbone.named_parameters()}
    engine.fit()
    found = {name: value.detach() for name, value in engine.backbone.named_parameters()}
    assert engine.step == EPOCHS * 3
    assert difference(found, before) > 0.01, "nothing was trained"
    return difference(found, plain_loop(setup, engine.train))


def setups(*, multilabel: bool) -> list[Setup]:
    return [
        Setup(s.modality, s.kind, ROWS, BATCH, epochs=EPOCHS, double=multilabel)
        for s in every_setup()
        if (s.kind == "multilabel") == multilabel
    ]


@pytest.mark.parametrize("setup", setups(multilabel=False), ids=lambda s: f"{s.modality}-{s.kind}")
def test_the_same_bits_with_cross_entropy(setup: Setup) -> None:
    assert compare(setup) == 0


@pytest.mark.parametrize("setup", setups(multilabel=True), ids=lambda s: f"{s.modality}-{s.kind}")
def test_the_same_weights_with_binary_cross_entropy(setup: Setup) -> None:
    """Torch rounds its loss elsewhere, so that not every bit can agree."""
    assert compare(setup) < 1e-6
