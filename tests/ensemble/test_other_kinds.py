"""Studies and ensembles of what no engine trains: linear models on a table."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

import etude
from etude.errors import RunError
from etude.runs.model import Classifier

BASE = {
    "task": "binary",
    "data": {"train": "rows.csv", "labels": "label", "validation": 0.5},
    "backbone": {"kind": "linear"},
    "run": {"report": False, "baselines": False, "resamples": 0},
}


def write_rows(path: Path) -> None:
    generator = random.Random(0)
    lines = ["age,city,label"]
    for _ in range(120):
        age, city = generator.randint(18, 80), generator.choice("abc")
        lines.append(f"{age},{city},{'yes' if age + 20 * (city == 'a') > generator.gauss(55, 8) else 'no'}")
    path.write_text("\n".join(lines) + "\n")


def test_a_study_of_linear_models_and_an_ensemble_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.csv")
    variants = {"stronger": {"backbone.strength": 100.0}}
    found = etude.study(BASE | {"study": {"seeds": 1, "variants": variants, "keep": "models"}})
    assert found.findings[0].scores[0] > 0.6
    runs = sorted(str(path.parent) for path in Path("runs/study/runs").glob("*/config.toml"))
    made = etude.ensemble(runs, "both", fitted=True)
    asked = [{"age": 70, "city": "a"}, {"age": 20, "city": "b"}]
    parts = [Classifier(Path(run) / "model").predict_proba(asked) for run in runs]
    mean = sum(m["weight"] * part for m, part in zip(made.members, parts, strict=True))
    assert np.allclose(etude.load("both").predict_proba(asked), mean, atol=1e-5)
    with pytest.raises(RunError, match="has no weights of which there is a mean, being no network"):
        etude.soup(runs, "soup")
