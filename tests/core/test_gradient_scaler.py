"""With a gradient scaler, whoever looks at gradients sees them unscaled: clipping above all."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer

from etude.core.engine import Engine
from etude.techniques import technique_class
from etude.testing.harness import Setup, make_engine, weights
from etude.testing.technique_suite import difference


def with_scaler(engine: Engine, scale: float) -> Engine:
    """Give an engine on the processor, where fp16 is not to be had, torch's own scaler."""
    accelerator, scaler = engine.accelerator, torch.amp.GradScaler("cpu", init_scale=scale)
    accelerator.scaler, accelerator.native_amp = scaler, True
    accelerator.state._mixed_precision = "fp16"
    prepared = AcceleratedOptimizer(engine.optimizer, scaler=scaler)
    accelerator._optimizers = [prepared]
    engine.optimizer = engine._step._optimizer = prepared
    engine._step._devices.scaled = True
    return engine


@pytest.mark.parametrize("clipping", [("clip", "max_norm"), ("clip_value", "max_value")])
def test_gradients_are_unscaled_before_they_are_clipped(clipping: tuple[str, str]) -> None:
    name, bound = clipping
    acting = {technique_class(name): {bound: 0.05}, technique_class("sgd"): {"lr": 0.5}}
    lines: list[list[Mapping[str, Any]]] = []
    found = []
    for scale in (None, 1024.0):
        engine = make_engine(acting, Setup())
        if scale is not None:
            with_scaler(engine, scale)
        lines.append([])
        engine.attach_folder(log=lines[-1].append, checkpoints=None)
        engine.fit()
        assert engine.step == 6
        found.append(weights(engine))
    assert difference(*found) < 1e-6
    norms = [[line["grad_norm"] for line in of if "grad_norm" in line] for of in lines]
    assert len(norms[0]) == 2
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
