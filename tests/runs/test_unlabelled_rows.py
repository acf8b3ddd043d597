"""Rows without labels in a run: nobody but the technique that asks for them sees them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_project import write_project

from etude.config.load import parse_config
from etude.core.feed import Feed
from etude.core.observe import Reporter
from etude.core.rng import Moment
from etude.runs.build import Run, build


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Notes(Reporter):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def _build(reporter: Reporter | None = None, **data: Any) -> Run:
    config = parse_config(
        {
            "data": {"train": "messages.csv", "validation": 0.25, **data},
            "backbone": {"path": "tiny", "pooling": "mean", "max_length": 16},
            "train": {"epochs": 2, "batch_size": 4, "precision": "fp32"},
        }
    )
    return build(config, reporter=reporter)


def test_a_run_that_learns_nothing_from_them_is_the_same_run(folder: Path) -> None:
    """Bit by bit, and the user is told that they are read for nothing."""
    write_project(folder)
    notes = Notes()
    plain, pooled = _build(limit=10), _build(notes, limit=10, unlabelled="rest")
    assert pooled.plan.context.n_rows == plain.plan.context.n_rows == 10
    assert pooled.plan.context.n_unlabelled == 8
    assert pooled.n_rows() == plain.n_rows()
    assert any("8 rows without labels are read and no technique learns" in said for said in notes.warnings)
    view, _ = Feed(pooled.plan, pooled.data.pool, 4).epoch(Moment(0, 0, 0, 3, 6))
    assert view.rows.tolist() == list(range(10))
    assert plain.fingerprints()["data"] != pooled.fingerprints()["data"]
    plain.engine.fit()
    pooled.engine.fit()
    # The table of words that occur is wider, so that sums over it may be rounded differently.
    for name, value in plain.backbone.state_dict().items():
        if "word_embeddings" not in name:
            assert torch.allclose(value, pooled.backbone.state_dict()[name], atol=1e-6), name
