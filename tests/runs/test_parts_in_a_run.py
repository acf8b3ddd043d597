"""A run with a pooler and a head of techniques: trained, saved, and opened again in every way."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tiny_project import write_project
from transformers import pipeline

import etude
from etude.runs.model import Classifier

HELD_OUT = ["please where is my parcel", "please give me my money back"]


@pytest.mark.parametrize("pooling", ["mean", "native"])
def test_the_saved_model_predicts_what_the_run_did(
    pooling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    more = [
        f"backbone.pooling={pooling}",
        "train.epochs=1",
        "techniques.transformer_head.heads=2",
        *(["techniques.label_embedding.dim=8"] if pooling == "mean" else []),
    ]
    etude.train("config.toml", overrides=more)
    rows = pq.read_table("run/predictions/test.parquet").to_pylist()
    assert [row["text"] for row in rows] == HELD_OUT
    expected = [{label: row[f"p:{label}"] for label in ("order", "refund")} for row in rows]
    exactly = Classifier(Path("run/model"), precision="fp32").predict(HELD_OUT)
    quickly = etude.load("run").predict(HELD_OUT)  # in the processor's own precision
    classify = pipeline("text-classification", model="run/model", top_k=None)
    piped = [{entry["label"]: entry["score"] for entry in found} for found in classify(HELD_OUT)]
    for by_run, by_us, by_half, by_them in zip(expected, exactly, quickly, piped, strict=True):
        assert by_us.probabilities == pytest.approx(by_run, abs=1e-5)
        assert by_half.probabilities == pytest.approx(by_run, abs=1e-2)
        assert by_them == pytest.approx(by_run, abs=1e-5)
