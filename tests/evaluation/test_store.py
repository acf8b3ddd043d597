"""Scores kept by label: nothing is lost on the way through memory and the temporary file."""

from pathlib import Path

import numpy as np
import pytest

from etude.core.task import Multilabel
from etude.errors import RunError
from etude.evaluation import ranking, store
from etude.evaluation.metrics import Metrics, score
from etude.evaluation.store import ScoreStore


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows, and a file from the first hundred bytes on."""
    monkeypatch.setattr(store, "_CELLS", 12)
    monkeypatch.setattr(store, "_IN_MEMORY", 100)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_labels_come_back_as_they_went_in(dtype: type) -> None:
    rng = np.random.default_rng(0)
    scores, truth = rng.random((50, 3)).astype(dtype), rng.random((50, 3)) < 0.5
    kept = ScoreStore(3)
    for start in range(0, 50, 4):
        chunk = scores[start : start + 4].copy()
        kept.add(chunk, truth[start : start + 4])
        chunk[:] = 0  # the caller's memory is the caller's
    for c, (found, true) in enumerate(kept.labels()):
        assert np.array_equal(found, scores[:, c])
        assert np.array_equal(true, truth[:, c])
    assert kept.rows == 50
    kept.add(scores[:1], truth[:1])  # after reading
    assert len(kept.label(2)[0]) == 51


def test_soft_targets_stay_soft_and_hard_ones_take_a_byte() -> None:
    kept = ScoreStore(1)
    kept.add(np.array([[0.5]]), np.array([[0.25]]))
    assert kept.label(0)[1].tolist() == [0.25]
    kept = ScoreStore(1)
    kept.add(np.array([[0.5]]), np.array([[1.0]]))
    assert kept.label(0)[1].dtype == np.bool_


def test_an_empty_store() -> None:
    assert [len(part) for part in ScoreStore(2).label(1)] == [0, 0]
    assert np.isnan(ranking.streamed_ece(ScoreStore(2)))


@pytest.mark.usefixtures("small")
def test_scores_do_not_depend_on_where_they_were_kept() -> None:
    rng = np.random.default_rng(1)
    probabilities, targets = rng.random((200, 4)).round(2), (rng.random((200, 4)) < 0.3).astype(np.float32)
    task = Multilabel(["a", "b", "c", "d"])
    metrics = Metrics(task)
    for start in range(0, 200, 7):
        metrics.update(probabilities[start : start + 7], targets[start : start + 7])
    spilled = metrics.compute()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_CELLS", 2**21)
        assert spilled == pytest.approx(score(task, probabilities, targets), abs=1e-12)


def test_edges_of_very_many_scores_are_those_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    kept, p = ScoreStore(2), rng.random((20_000, 2))
    kept.add(p, rng.random((20_000, 2)) < p**2)
    exact = ranking.streamed_ece(kept)
    monkeypatch.setattr(ranking, "_EDGE_SAMPLE", 2_000)
    assert ranking.streamed_ece(kept) == pytest.approx(exact, abs=1e-3)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ScoreStore(1)
    kept.add(np.zeros((3, 1)), np.zeros((3, 1)))
    with Path("/dev/full").open("r+b", buffering=0) as full:
        monkeypatch.setattr(kept, "_file", full)
        with pytest.raises(
            RunError, match=r"of 3 rows could not be kept .*: No space left on device; name a"
        ):
            kept.label(0)
