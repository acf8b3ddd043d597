"""Saving a trained model with its decision: weights, tokenizer, ``etude.json``.

Calibrations that are affine in the logits (temperature, vector and Platt scaling) are folded into the
last linear layer, so that whoever opens the model with plain transformers gets calibrated probabilities
too. Others stay in ``etude.json`` and are applied by :class:`etude.Classifier`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from etude.core.backbone import Backbone
from etude.core.predict import evaluation_mode
from etude.core.task import Task
from etude.decision.affine import affine
from etude.decision.calibration import NONE, Calibration
from etude.decision.postprocessor import Decision
from etude.runs.build import Run


def save_model(backbone: Backbone, folder: Path, metadata: dict[str, Any], decision: Decision) -> None:
    """Write the model's folder; the backbone is afterwards as it was before."""
    with calibrated_head(backbone, decision) as folded:
        told: dict[str, Any] = {"decision": decision.to_json()}
        if folded:
            told = {
                "decision": replace(decision, calibration=NONE).to_json(),
                "calibration_in_head": decision.calibration.to_json(),
            }
        backbone.save(folder, {**metadata, **told})


@contextmanager
def calibrated_head(backbone: Backbone, decision: Decision) -> Iterator[bool]:
    """Within this context the head gives calibrated logits, where it can; says whether it does."""
    wanted_map, head = affine(decision), backbone.head
    n_classes = decision.task.n_classes
    layers = [layer for layer in head.modules() if type(layer) is nn.Linear]
    last = next((layer for layer in reversed(layers) if layer.out_features == n_classes), None)
    if wanted_map is None or last is None:
        yield False
        return
    scale, offset = (torch.as_tensor(value, dtype=torch.float64) for value in wanted_map)
    if last.bias is None and offset.any():
        yield False
        return
    before = {name: value.clone() for name, value in last.state_dict().items()}
    probe = torch.randn(8, layers[0].in_features, generator=torch.Generator().manual_seed(0))
    try:
        wanted = _logits(head, probe) * scale + offset
        _scale(last, scale, offset)
        # A head may do more after its last linear layer (a CRF, a similarity): then nothing is folded.
        folded = torch.allclose(_logits(head, probe), wanted, rtol=1e-4, atol=1e-4)
        if not folded:
            last.load_state_dict(before)
        yield folded
    finally:
        last.load_state_dict(before)


def uncalibrated(backbone: Backbone, task: Task, calibration: Calibration) -> None:
    """Take a calibration out of the head of a saved model into which it was folded."""
    found = affine(Decision(task, calibration, Decision.plain(task).rule))
    layers = [layer for layer in backbone.head.modules() if type(layer) is nn.Linear]
    last = next((layer for layer in reversed(layers) if layer.out_features == task.n_classes), None)
    if found is None or last is None:
        return
    scale, offset = (torch.as_tensor(value, dtype=torch.float64) for value in found)
    _scale(last, 1 / scale, -offset / scale)


def _scale(layer: nn.Linear, scale: Tensor, offset: Tensor) -> None:
    """Let a layer's outputs become ``scale * output + offset``, computed in float64."""
    with torch.no_grad():
        device = layer.weight.device
        layer.weight.copy_(layer.weight.double() * scale[:, None].to(device))
        if layer.bias is not None:
            layer.bias.copy_(layer.bias.double() * scale.to(device) + offset.to(device))


def _logits(head: nn.Module, probe: Tensor) -> Tensor:
    """The head's logits in evaluation mode, in float64 on the CPU."""
    device = next(head.parameters()).device
    with evaluation_mode(head):
        logits: Tensor = head(probe.to(device)).double().cpu()
    return logits


def model_metadata(run: Run) -> dict[str, Any]:
    """What ``etude.json`` says of a saved model, beside its architecture and its decision."""
    columns = run.config.data
    return {
        "format": 1,
        "task": run.data.task.kind,
        "labels": list(run.data.task.labels),
        "techniques": sorted({entry.technique for entry in run.plan.entries()}),
        "initial_weights": run.initial,
        "input": {
            "kind": run.config.backbone.kind,
            "labels": columns.labels,
            "label_separator": columns.label_separator,
            "out_of_scope": columns.out_of_scope,
            **run.kind.schema(run.data),
        },
    }
