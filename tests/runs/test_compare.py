"""``etude compare``: two runs on the same rows, in any order; other rows and other labels are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_project import etude

from etude.core.task import Task, make_task
from etude.errors import ConfigError, RunError
from etude.evaluation.metrics import score
from etude.evaluation.paired_seeds import holm
from etude.evaluation.scored import Scored
from etude.runs.compare import compare
from etude.runs.folder import CONFIG, PREDICTIONS, SUMMARY, RunFolder
from etude.runs.predictions import write_predictions
from etude.runs.ranking import rank

N = 120
LABELS = ("no", "yes")


def make_part(task: Task, accuracy: float, *, seed: int = 0, n: int = N) -> Scored:
    """Predictions that are right so often, of rows that do not depend on it."""
    targets = task.encode([task.labels[i % task.n_classes] for i in range(n)])
    rng = np.random.default_rng(seed)
    right = rng.permutation(n) < accuracy * n
    logits = np.where(right[:, None], targets, np.roll(targets, 1, axis=1)) * 2 - 1
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if task.kind == "multilabel":
        p = 1 / (1 + np.exp(-logits))
    p = p.astype(np.float32)
    texts = [f"text {i}" for i in range(n)]
    return Scored(task, logits.astype(np.float32), p, task.decide(p), targets, texts, np.arange(n))


def write_run(path: Path, scored: Scored, part: str = "test") -> Path:
    """The files of a run that a comparison reads."""
    path.mkdir(exist_ok=True)
    (path / CONFIG).write_text('[data]\ntrain = "train.csv"\n')
    summary = {"task": scored.task.kind, "labels": list(scored.task.labels)}
    (path / SUMMARY).write_text(json.dumps(summary))
    write_predictions(RunFolder(path), part, scored)
    return path


def taken(scored: Scored, rows: np.ndarray) -> Scored:
    """Some rows, in the given order."""
    matrices = (scored.logits, scored.probabilities, scored.decisions, scored.targets)
    texts = [scored.texts[row] for row in rows]
    return Scored(scored.task, *(m[rows] for m in matrices), texts, scored.rows[rows])


@pytest.fixture
def task() -> Task:
    return make_task("binary", LABELS)


def test_the_better_run_is_named(tmp_path: Path, task: Task) -> None:
    weak, strong = make_part(task, 0.7), make_part(task, 0.9, seed=1)
    a, b = write_run(tmp_path / "a", weak), write_run(tmp_path / "b", strong)
    found = compare(a, b, resamples=200)
    assert found.scores_b == score(task, strong.probabilities, strong.targets)
    accuracy = found.differences["accuracy"]
    assert accuracy.difference == pytest.approx(0.2)
    assert 0.05 < accuracy.low < 0.2 < accuracy.high < 0.35
    assert found.mcnemar.only_b - found.mcnemar.only_a == 24
    assert found.better == str(b)
    assert f"{b} is better by 0.2000 accuracy" in found.verdict
    assert "excludes zero" in found.verdict
    back = compare(b, a, resamples=200)
    assert (back.better, back.rows) == (str(b), N)


def test_no_difference_is_said_to_be_none(tmp_path: Path, task: Task) -> None:
    a, b = (write_run(tmp_path / name, make_part(task, 0.8, seed=i)) for i, name in enumerate("ab"))
    found = compare(a, b, resamples=100, names=["accuracy", "mcc"])
    assert list(found.differences) == ["accuracy", "mcc"]
    assert found.better is None
    assert found.verdict.startswith("no difference can be shown with 120 rows: accuracy differs by +0.0000 (")


def test_rows_and_labels_in_another_order_are_aligned(tmp_path: Path, task: Task) -> None:
    scored = make_part(task, 0.8)
    other = make_task("binary", LABELS[::-1])
    flipped = [m[:, ::-1] for m in (scored.logits, scored.probabilities, scored.decisions, scored.targets)]
    turned = Scored(other, *flipped, scored.texts, scored.rows)
    shuffled = taken(turned, np.random.default_rng(0).permutation(N))
    found = compare(write_run(tmp_path / "a", scored), write_run(tmp_path / "b", shuffled), resamples=20)
    assert found.scores_a == pytest.approx(found.scores_b)
    assert {d.difference for d in found.differences.values()} == {0.0}
    assert (found.mcnemar.only_a, found.mcnemar.only_b) == (0, 0)


def test_multilabel_runs_by_all_their_labels(tmp_path: Path) -> None:
    task = make_task("multilabel", ["a", "b", "c"])
    a, b = (write_run(tmp_path / name, make_part(task, share)) for name, share in (("a", 0.9), ("b", 0.5)))
    found = compare(a, b, resamples=50)
    assert (found.main_metric, found.better) == ("f1_macro", str(a))
    assert (found.mcnemar.only_a, found.mcnemar.only_b) == (48, 0)


def test_other_rows_are_refused(tmp_path: Path, task: Task) -> None:
    scored = make_part(task, 0.8)
    a = write_run(tmp_path / "a", scored)
    b = write_run(tmp_path / "b", taken(scored, np.arange(N - 1)))
    with pytest.raises(RunError, match=rf"have other test rows: row 119 is in {a} alone; both runs need"):
        compare(a, b)
    scored.texts[7] = "x" * 100
    with pytest.raises(RunError, match=rf"row 7 of the test part is 'text 7' in {a} and 'x{{60}}\.\.\.' in"):
        compare(a, write_run(tmp_path / "c", scored))


def test_other_labels_are_refused(tmp_path: Path, task: Task) -> None:
    scored = make_part(task, 0.8)
    a = write_run(tmp_path / "a", scored)
    relabelled = Scored(**{**vars(scored), "targets": np.roll(scored.targets, 1, axis=0)})
    with pytest.raises(RunError, match=r"row 0 of the test part has the labels no in .* and yes in"):
        compare(a, write_run(tmp_path / "b", relabelled))
    unknown = make_part(make_task("binary", ["no", "maybe"]), 0.8)
    with pytest.raises(RunError, match=rf"label 'yes' of {a} is unknown to .*; compare runs that were"):
        compare(a, write_run(tmp_path / "c", unknown))
    several = make_part(make_task("multilabel", LABELS), 0.8)
    with pytest.raises(RunError, match=r"is binary and .* is multilabel; compare runs of the same task"):
        compare(a, write_run(tmp_path / "d", several))


def test_what_is_no_finished_run_is_refused(tmp_path: Path, task: Task) -> None:
    a = write_run(tmp_path / "a", make_part(task, 0.8), "validation")
    with pytest.raises(RunError, match="no predictions of a test part, but of validation; choose another"):
        compare(a, a)
    with pytest.raises(RunError, match="holds no run"):
        compare(a, tmp_path / "nowhere", "validation")
    with pytest.raises(ConfigError, match="metric 'acc' is unknown"):
        compare(a, a, "validation", names=["acc"])
    (a / SUMMARY).write_text("{")
    with pytest.raises(RunError, match=r"summary\.json cannot be read"):
        compare(a, a, "validation")
    (a / SUMMARY).unlink()
    with pytest.raises(RunError, match=f"has no scores yet; finish it with: etude resume {a}"):
        compare(a, a, "validation")
    assert (a / PREDICTIONS).is_dir()


def test_the_command(tmp_path: Path, task: Task, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (str(write_run(tmp_path / n, make_part(task, s))) for n, s in (("a", 0.5), ("b", 0.9)))
    assert etude("compare", a, b) == 0
    shown = capsys.readouterr().out
    assert "test, 120 rows" in shown
    assert "+0.4000" in shown
    assert "in A alone 0 rows, in B alone 48 (McNemar's p < 0.001)" in shown
    assert f"{b} is better by 0.4000 accuracy" in shown
    assert etude("compare", a, b, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["differences"]["accuracy"]["difference"] == pytest.approx(0.4)
    assert found["better"] == b
    assert etude("compare", a, b, "--part", "validation") == 2
    assert "error: " in capsys.readouterr().err


def test_several_runs_are_ranked_and_compared_with_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task("binary", LABELS)
    shares = {"plain": 0.6, "same": 0.6, "best": 0.95, "worst": 0.2}
    paths = [write_run(tmp_path / n, make_part(task, share, seed=7)) for n, share in shares.items()]
    found = rank(paths, resamples=200)
    assert [Path(run.run).name for run in found.runs] == ["best", "plain", "same", "worst"]
    by_name = {Path(run.run).name: run for run in found.runs}
    assert by_name["plain"].difference is None
    for name, run in by_name.items():
        assert run.low <= run.score <= run.high
        if name != "plain":
            alone = compare(paths[0], tmp_path / name, resamples=200).differences[found.metric]
            assert run.difference == alone
            assert run.p >= alone.p
    assert by_name["same"].p == 1.0
    assert by_name["best"].difference.excludes_zero
    monkeypatch.chdir(tmp_path)
    assert etude("compare", *shares) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "test, 120 rows; all compared with plain"
    assert "p (Holm)" in lines[2]
    assert [line.split()[0] for line in lines[3:]] == ["best", "plain", "same", "worst"]
    assert etude("compare", *map(str, paths), "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 4
    with pytest.raises(ConfigError, match="plain is named twice; name each run once"):
        rank([*paths, paths[0]])


def test_holm_is_what_the_paper_says() -> None:
    assert holm([0.04, 0.01, 0.03, 0.005]) == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
