"""Reports of whole runs, of runs that were killed, and of runs whose files are damaged."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from etude import cli
from etude.errors import RunError
from etude.report import decisions, mistakes
from etude.report.html import render_report
from etude.report.record import Limits, RunRecord
from etude.runs.report import read_record, write_report
from report.made_run import HOSTILE_TEXTS, LABELS, make_scored, write_history, write_run

SECTIONS = [
    "summary", "diagnosis", "next", "learning", "labels", "confusion", "failures", "calibration", "rows",
    "baselines", "settings",
]  # fmt: skip


def without_scripts(page: str) -> str:
    """The page without the two scripts, which are not made of data."""
    return re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


def sections(page: str) -> list[str]:
    return [part.split('"', 1)[0] for part in page.split('<section id="')[1:]]


@pytest.mark.parametrize("kind", ["multiclass", "binary", "multilabel"])
def test_a_whole_run_has_every_section_and_no_code_of_the_data(tmp_path: Path, kind: str) -> None:
    write_run(tmp_path / "run", kind)  # type: ignore[arg-type]  # one of the three
    whole = write_report(tmp_path / "run").read_text()
    assert len(whole.encode()) < 1_500_000
    page = without_scripts(whole)
    assert set(sections(page)) - {"thresholds"} == set(SECTIONS)
    assert ("thresholds" in sections(page)) == (kind != "multiclass")
    assert "<script>document" not in page
    assert "<img" not in page
    assert "(100,000 characters)" in page
    assert "{{ 7 * 7 }}" in page
    assert 'dir="auto"' in page


def test_the_headline_shows_the_interval_and_the_gain(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    summary = json.loads((run.path / "summary.json").read_text())
    page = write_report(run.path).read_text()
    low, high = summary["intervals"]["test"]["accuracy"]
    assert f"95 % interval {low:.3f} to {high:.3f}" in page
    assert "by the fitted decisions" in page
    assert "average, kept" in page


def test_failures_come_from_the_validation_part(tmp_path: Path) -> None:
    record = read_record(write_run(tmp_path / "run").path)
    tables = mistakes.failure_tables(record, Limits())
    assert [title for title, _ in tables][:3] == [
        "Highest losses",
        "Most confident mistakes",
        "Smallest margins",
    ]
    assert all("(validation part)" in table.caption for _, table in tables)
    losses = [row[3] for row in tables[0][1].rows]
    assert losses == sorted(losses, reverse=True)


def test_a_pair_shows_a_row_that_was_confused(tmp_path: Path) -> None:
    record = read_record(write_run(tmp_path / "run").path)
    scored = record.parts["validation"]
    table = mistakes.pairs_table(record, Limits())
    assert table is not None
    true, said, rows, _, example = table.rows[0]
    confused = [
        i
        for i in range(len(scored))
        if scored.truth[i, LABELS.index(true)] and scored.decisions[i, LABELS.index(said)]
    ]
    assert rows == len(confused)
    assert any(scored.texts[i].startswith(example.text) for i in confused)


def test_a_threshold_curve_keeps_its_highest_point(tmp_path: Path) -> None:
    record = read_record(write_run(tmp_path / "run", "multilabel", 400).path)
    chart = decisions.thresholds(record, Limits())
    assert chart is not None
    scored = record.parts["validation"]
    drawn = [row["v"] for row in chart.spec["data"]["values"] if row["label"] == "order"]
    p, truth = scored.probabilities[:, 0], scored.truth[:, 0]
    best = max(2 * (truth & (p >= t)).sum() / (truth.sum() + (p >= t).sum()) for t in p)
    assert max(drawn) == pytest.approx(best, abs=1e-4)


def test_a_killed_run_tells_what_is_there(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for name in ("summary.json", "diagnosis.json", "losses.parquet"):
        (run.path / name).unlink()
    for file in run.predictions.iterdir():
        file.unlink()
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 410, "tra')
    page = write_report(run.path).read_text()
    assert "This run has not come to its end." in page
    assert "its last record is of step 400" in page
    assert f"etude resume {run.path}" in page
    assert set(sections(page)) - {"next"} == {"diagnosis", "learning", "settings"}


def test_a_run_killed_after_its_predictions_shows_them(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "multilabel")
    (run.path / "summary.json").unlink()
    record = read_record(run.path)
    assert record.parts["test"].task.labels == tuple(LABELS)
    assert {"confusion", "failures", "calibration"} <= set(sections(render_report(record)))


def test_a_run_of_a_config_alone(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[data]\ntrain = "a.csv"\n')
    page = write_report(tmp_path).read_text()
    assert "there is nothing in metrics.jsonl yet" in page
    assert "train = &#34;a.csv&#34;" in page


def test_damaged_files_are_told_and_the_others_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for name in ("predictions/test.parquet", "losses.parquet", "environment.json", "diagnosis.json"):
        (run.path / name).write_bytes(b"\x00 no file of this kind")
    (run.path / "config.toml").write_text("[data")
    record = read_record(run.path)
    told = " ".join(record.missing)
    assert all(name in told for name in ("test.parquet", "losses.parquet", "environment.json", "config.toml"))
    assert len(record.missing) == 5
    assert "Failures</h2>" in render_report(record)


@pytest.mark.parametrize("n_rows", [1, 3])
@pytest.mark.parametrize("kind", ["multiclass", "binary", "multilabel"])
def test_a_few_rows_are_enough(tmp_path: Path, kind: str, n_rows: int) -> None:
    write_run(tmp_path / "run", kind, n_rows)  # type: ignore[arg-type]  # one of the three
    assert "Confusion</h2>" in write_report(tmp_path / "run").read_text()


def test_nan_in_the_history_and_the_scores(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    run.log(
        {
            "step": 410,
            "epoch": 4,
            "train": {"loss": float("nan")},
            "lr": {"head": float("nan")},
            "grad_norm": float("inf"),
        }
    )
    part = make_scored("multiclass", 30, 1)
    part.probabilities[3] = np.nan
    record = read_record(run.path)
    page = render_report(RunRecord("run", True, history=record.history, parts={"validation": part}))
    assert "no finite number in 1 record" in page
    assert "NaN" not in page.rsplit("</main>", 1)[0].split("<main", 1)[1]


def test_any_key_of_the_summary_may_be_missing(tmp_path: Path) -> None:
    summary = read_record(write_run(tmp_path / "run", "multilabel", 12).path).summary
    for key in summary:
        left = {name: value for name, value in summary.items() if name != key}
        assert "</html>" in render_report(RunRecord("run", True, summary=left))
        assert "</html>" in render_report(RunRecord("run", True, summary=left | {key: None}))


def test_a_run_without_a_test_part_says_so() -> None:
    summary = {"task": "multiclass", "metrics": {"validation": {"accuracy": 0.8}}}
    page = render_report(RunRecord("run", True, summary=summary))
    assert "There is no test part: a score that nothing was tuned on is not known." in page
    assert "accuracy, validation" in page


def test_a_page_stays_under_three_megabytes(tmp_path: Path) -> None:
    labels = [f"label {i} " + "<&>" * 40 for i in range(900)]
    table = [
        {"label": label, "f1": 0.5, "precision": 0.5, "recall": 0.5, "rows": i}
        for i, label in enumerate(labels)
    ]
    scored = make_scored("multilabel", 400, 0)
    scored = type(scored)(
        scored.task, scored.logits, scored.probabilities, scored.decisions, scored.targets,
        ["<&>" * 40_000] * 400, scored.rows,
    )  # fmt: skip
    write_history(run := write_run(tmp_path / "run", n_rows=3), 20_000)
    record = RunRecord(
        "run", True, config="<&>" * 900_000, plan="<&>" * 900_000, history=run.history(),
        summary={"task": "multilabel", "labels": labels, "per_class": {"test": table}},
        parts={"validation": scored},
    )  # fmt: skip
    page = render_report(record)
    assert len(page.encode()) < 3_000_000
    assert "labels with the fewest rows are left out" in page
    assert "of 2,700,000 characters" in page


def test_the_command_writes_where_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    with pytest.raises(SystemExit) as left:
        cli.main(["report", str(run.path), "--output", str(tmp_path / "page.html")])
    assert not left.value.code
    assert f"report in {tmp_path / 'page.html'} (1." in capsys.readouterr().out


def test_a_folder_without_a_run_and_a_place_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"holds no run: there is no config\.toml in it; name the folder of a run"
    ):
        write_report(tmp_path)
    run = write_run(tmp_path / "run")
    with pytest.raises(
        RunError, match="could not be written: No such file or directory; make room, or choose"
    ):
        write_report(run.path, output=tmp_path / "nowhere" / "page.html")


def test_hostile_texts_are_all_shown(tmp_path: Path) -> None:
    record = read_record(write_run(tmp_path / "run").path)
    shown = [
        row[0].text
        for _, table in mistakes.failure_tables(record, Limits(examples=200))
        for row in table.rows
    ]
    assert all(any(text.startswith(cell[:50]) for cell in shown) for text in HOSTILE_TEXTS)
