"""Heads, label layers and distillation agree with their references in float64."""

import runpy
from pathlib import Path

import pytest

PARITY = Path(__file__).parents[2] / "benchmarks" / "parity"


@pytest.mark.parametrize(
    ("family", "techniques"),
    [
        (
            "heads",
            {"attention_pooling", "layer_pooling", "cnn_head", "rnn_head", "transformer_head",
             "label_embedding", "classifier_chain"},
        ),
        ("label_crf", {"label_crf"}),
        ("distill", {"distillation", "similarity_distillation", "self_distillation"}),
    ],
)  # fmt: skip
def test_every_difference_is_rounding(family: str, techniques: set[str]) -> None:
    found = list(runpy.run_path(str(PARITY / f"{family}.py"))["rows"]())
    assert {technique for technique, _, _ in found} == techniques
    assert {told: apart for _, told, apart in found if not apart <= 1e-10} == {}
