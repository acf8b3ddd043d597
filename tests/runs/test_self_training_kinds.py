"""Rows without labels of every kind: tables under trees, a linear model and a network, and images."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

from etude.config.load import parse_config
from etude.config.self_training import SelfTrainingConfig
from etude.runs.self_training import self_train
from etude.runs.train import train

X, Y = make_classification(260, 5, n_informative=4, n_redundant=0, n_classes=3, n_clusters_per_class=1,
                           class_sep=1.3, random_state=0)  # fmt: skip
X = X.round(4)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    head = ",".join(f"x{i}" for i in range(5))
    lines = [",".join(f"{v:.4f}" for v in row) for row in X]
    (tmp_path / "few.csv").write_text(
        f"{head},label\n" + "\n".join(f"{a},{'abc'[b]}" for a, b in zip(lines[:60], Y, strict=False)) + "\n"
    )
    # The columns may stand in another order, and there is no label.
    (tmp_path / "bare.csv").write_text(f"{head}\n" + "\n".join(lines[60:]) + "\n")
    images, digits = load_digits(return_X_y=True)
    pixels = (images[:160].reshape(-1, 8, 8) * 15).astype(np.uint8)
    np.savez(tmp_path / "digits.npz", x_train=pixels, y_train=digits[:160])
    return tmp_path


def _table(kind: str, **more: Any) -> Any:
    return {
        "data": {"train": "few.csv", "unlabelled": "bare.csv", "validation": False},
        "backbone": {"kind": kind, **more},
        "train": {"epochs": 4} if kind == "table" else {},
        "run": {"dir": f"run-{kind}", "resamples": 0, "report": False, "baselines": False},
    }


def test_the_linear_model_takes_scikit_learns_rows_in_scikit_learns_rounds(folder: Path) -> None:
    """Columns scaled by the rows of the round, the same C: what SelfTrainingClassifier does."""
    config = parse_config(_table("linear"))
    found = self_train(config, SelfTrainingConfig(method="threshold", threshold=0.9, rounds=4))
    hidden = np.concatenate([Y[:60], np.full(200, -1)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=2000))
    known = SelfTrainingClassifier(model, threshold=0.9, max_iter=4).fit(X, hidden)
    joined, given = np.full(260, -1), hidden.copy()
    joined[:60] = 0
    for one in found.rounds[1:]:
        table = pq.read_table(folder / f"run-linear/labels-{one.number}.parquet")
        rows = table["row"].to_numpy()
        targets = np.stack([table[f"target:{name}"].to_numpy() for name in "abc"], axis=1)
        joined[rows[joined[rows] < 0]] = one.number - 1
        given[rows] = targets.argmax(axis=1)
    assert joined.max() >= 2
    assert np.array_equal(joined, known.labeled_iter_)
    assert np.array_equal(given, known.transduction_)


@pytest.mark.parametrize(
    ("kind", "method"), [("trees", "k_best"), ("table", "confident_share"), ("linear", "self_distillation")]
)
def test_tables_learn_rows_of_a_file_without_labels(folder: Path, kind: str, method: Any) -> None:
    found = self_train(parse_config(_table(kind)), SelfTrainingConfig(method=method, rounds=1))
    used = {"k_best": 30, "confident_share": 160, "self_distillation": 200}[method]
    assert [one.used for one in found.rounds] == [0, used]
    said = found.model.predict([{f"x{i}": float(v) for i, v in enumerate(row)} for row in X[60:]])
    right = np.mean([one.label == "abc"[y] for one, y in zip(said, Y[60:], strict=True)])
    assert right > 0.6


def test_images_learn_the_rest(folder: Path) -> None:
    config = {
        "data": {"train": "digits.npz", "limit": 60, "unlabelled": "rest", "validation": 40},
        "backbone": {"kind": "image", "width": 4},
        "train": {"epochs": 3, "precision": "fp32"},
        "run": {"dir": "run", "resamples": 0, "report": False, "baselines": False},
    }
    found = self_train(parse_config(config), SelfTrainingConfig(method="confident_share", rounds=1))
    assert [one.used for one in found.rounds] == [0, 48]
    tuned = SelfTrainingConfig(method="pretrain_then_finetune", rounds=1, drop=0.0)
    found = self_train(parse_config(config, ["run.dir=tuned"]), tuned)
    assert [one.used for one in found.rounds] == [0, 60]
    inside = parse_config({**config, "techniques": {"self_learning": {}}}, ["run.dir=inside"])
    assert "data:self_learning" in train(inside).plan
    table = parse_config({**_table("table"), "techniques": {"self_learning": {}}}, ["run.dir=inside-2"])
    assert "data:self_learning" in train(table).plan
