"""Checking data before training: every fault is named, verdicts follow, and the test part stays locked."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_project import etude, write_project

from etude.config.load import parse_config
from etude.config.run import Config
from etude.data.read import read_parts as read_for_training
from etude.data.verdicts import Checkup, Section
from etude.errors import ConfigError, DataError
from etude.kinds import kind_of
from etude.report.check_data import render_checkup
from etude.runs.check_data import check_data, write_page
from etude.runs.data_parts import read_parts

Capture = pytest.CaptureFixture[str]

WORDS = [
    "parcel",
    "money",
    "order",
    "refund",
    "late",
    "broken",
    "colour",
    "size",
    "pay",
    "card",
    "gift",
    "box",
]
GENERATOR = np.random.default_rng(0)
TEXTS = [" ".join(GENERATOR.choice(WORDS, size=8)) + f" {100 + i}" for i in range(200)]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, rows: Sequence[dict[str, Any]]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def rows(n: int, labels: str = "ab", start: int = 0) -> list[dict[str, Any]]:
    return [{"text": TEXTS[start + i], "label": labels[i % len(labels)]} for i in range(n)]


def config(**data: Any) -> Config:
    # No such backbone exists, so that tokens are guessed and nothing is loaded.
    return parse_config({"data": {"train": "train.jsonl", **data}, "backbone": {"path": "./nowhere"}})


def section(checkup: Checkup, name: str) -> Section:
    return next(section for section in checkup.sections if section.name == name)


def sentences(checkup: Checkup, name: str, verdict: str) -> str:
    return " ".join(r.sentence for r in section(checkup, name).remarks if r.verdict == verdict)


SPLITS: dict[str, dict[str, Any]] = {
    "fraction": {"validation": 0.2},
    "count and test fraction": {"validation": 20, "test": 0.1},
    "groups": {"validation": 0.2, "test": 0.2, "group": "user"},
    "time": {"validation": 0.2, "time": "day"},
    "fold": {"validation": 0.1, "folds": 4, "fold": 2},
    "out of scope and a limit": {"validation": 0.2, "out_of_scope": "c", "limit": 50},
    "several labels": {"validation": 0.2, "labels": "many"},
}


@pytest.mark.parametrize("settings", SPLITS.values(), ids=SPLITS.keys())
def test_parts_hold_the_rows_that_training_would_use(settings: dict[str, Any]) -> None:
    many = [["x"], ["x", "y"], [], ["y", "z"]]
    table = [
        row | {"user": i // 5, "day": f"2024-01-{i % 28 + 1:02}", "many": many[i % 4]}
        for i, row in enumerate(rows(100, "abc"))
    ]
    write("train.jsonl", table)
    chosen = config(**settings)
    wanted = read_for_training(chosen, kind_of(chosen).loader())
    found = read_parts(config(**settings))
    assert found.faults == []
    assert {name: part.rows for name, part in found.found.items()} == {
        name: len(part) for name, part in wanted.rows.items()
    }
    for name, part in wanted.rows.items():
        assert list(found.found[name].table.numbers) == (part.ids + 1).tolist()
        assert (found.found[name].targets == part.targets(wanted.task)).all()


def test_every_fault_is_named_and_not_only_the_first() -> None:
    train = rows(60)
    train[2]["text"] = " "
    train[4]["label"] = None
    train[6]["text"] = None
    train[8]["label"] = 7
    train[9]["size"] = "large"
    lines = [json.dumps({"size": 1} | row) for row in train]
    lines[11] = '{"text": '
    Path("train.jsonl").write_text("\n".join(lines))
    validation = rows(30, start=60)
    validation[0]["label"], validation[1]["label"], validation[2]["label"] = "ba", "zz", "zz"
    validation[3]["text"] = ""
    write("validation.jsonl", [row | {"size": 2} for row in validation])
    checkup = check_data(config(validation="validation.jsonl", test="gone.jsonl", numeric=["size"]))
    faults = section(checkup, "schema").evidence["faults"]
    found = {(f["part"], f["row"], f["column"]) for f in faults}
    assert found == {
        ("train", 3, "text"),
        ("train", 5, "label"),
        ("train", 7, "text"),
        ("train", 9, "label"),
        ("train", 10, "size"),
        ("train", 12, None),
        ("validation", 1, "label"),
        ("validation", 2, "label"),
        ("validation", 4, "text"),
        ("test", None, None),
    }
    assert (checkup.verdict, checkup.exit_code) == ("unsafe", 1)


def test_every_label_that_training_never_saw_is_named_once_with_its_rows() -> None:
    write("train.jsonl", rows(40))
    validation = rows(30, start=60)
    validation[0]["label"], validation[1]["label"], validation[2]["label"] = "aa", "zz", "zz"
    write("validation.jsonl", validation)
    checkup = check_data(config(validation="validation.jsonl"))
    first, second = (fault["sentence"] for fault in section(checkup, "schema").evidence["faults"])
    assert first.startswith("validation.jsonl, line 1, column 'label' holds the label 'aa', which 1 row(s)")
    assert "did you mean 'a'?" in first
    assert second.startswith("validation.jsonl, line 2, column 'label' holds the label 'zz', which 2 row(s)")
    assert checkup.rows == {"train": 40, "validation": 27}
    assert "3 row(s)" not in first + second


def test_rows_of_a_csv_file_that_do_not_fit_its_header() -> None:
    lines = [f"{row['text']},{row['label']}" for row in rows(50)]
    lines[3], lines[7] = "a, b,a", "lonely"
    Path("train.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    checkup = check_data(config(train="train.csv"))
    faults = section(checkup, "schema").evidence["faults"]
    assert [fault["row"] for fault in faults] == [4, 8]
    assert sum(checkup.rows.values()) == 48
    assert "2 row(s) of train.csv cannot be used" in sentences(checkup, "schema", "unsafe")


def test_clean_data_are_safe() -> None:
    write("train.jsonl", rows(200))
    checkup = check_data(config(validation=0.5))
    verdicts = {s.name: s.verdict for s in checkup.sections}
    assert verdicts == {
        "schema": "safe",
        "labels": "look",  # a part of 100 rows is small
        "lengths": "safe",
        "duplicates": "safe",
        "leaks": "safe",
        "drift": "safe",
    }
    assert (checkup.task, list(checkup.labels), checkup.exit_code) == ("binary", ["a", "b"], 0)


def test_a_class_absent_from_validation_and_one_that_is_rare() -> None:
    write("train.jsonl", [*rows(60), *rows(3, "c", start=60)])
    write("validation.jsonl", rows(40, start=100))
    checkup = check_data(config(validation="validation.jsonl"))
    looks = sentences(checkup, "labels", "look")
    assert "The label 'c' has no validation row, so that nothing can be measured of it there." in looks
    assert "The label 'c' has fewer than 10 training rows" in looks
    assert checkup.exit_code == 0


def test_three_validation_rows_measure_nothing() -> None:
    write("train.jsonl", rows(60))
    write("validation.jsonl", rows(3, start=100))
    checkup = check_data(config(validation="validation.jsonl"))
    assert "The validation part has 3 rows: an accuracy of 0.80 on it has a standard error of 0.231" in (
        sentences(checkup, "labels", "unsafe")
    )
    assert "too few to tell whether it differs" in sentences(checkup, "drift", "look")


def test_shares_that_differ_between_training_and_validation() -> None:
    write("train.jsonl", rows(100, "aaab"))
    write("validation.jsonl", rows(80, "abbb", start=100))
    checkup = check_data(config(validation="validation.jsonl"))
    assert "'a': 75.0% of the training and 25.0% of the validation rows" in sentences(
        checkup, "labels", "look"
    )


def test_a_single_class_is_unsafe_and_what_else_can_be_said_is_said() -> None:
    write("train.jsonl", rows(30, "a"))
    checkup = check_data(config())
    assert "holds only one class, 'a'" in sentences(checkup, "schema", "unsafe")
    assert (checkup.task, checkup.exit_code) == (None, 1)
    assert section(checkup, "lengths").verdict == "safe"
    assert "no task" in render_checkup(checkup)


def test_a_file_without_any_usable_row() -> None:
    write("train.jsonl", [{"text": "", "label": "a"}] * 3)
    checkup = check_data(config())
    assert len(section(checkup, "schema").evidence["faults"]) == 3
    assert (checkup.rows, checkup.exit_code) == ({"train": 0}, 1)
    assert render_checkup(checkup)


def test_the_same_text_with_two_labels() -> None:
    table = rows(100)
    table[1] = {"text": TEXTS[0].upper(), "label": "b"}
    table[2] = {"text": TEXTS[0] + " ", "label": "a"}
    write("train.jsonl", table)
    checkup = check_data(config(validation=False))
    (group,) = section(checkup, "duplicates").evidence["contradictions"]
    assert [(row["row"], row["labels"]) for row in group] == [(1, ["a"]), (2, ["b"]), (3, ["a"])]
    assert "as train.jsonl, line 1 ('a') and line 2 ('b'): no model can be right about both" in (
        sentences(checkup, "duplicates", "unsafe")
    )
    assert "There is no validation part" in sentences(checkup, "labels", "look")


def test_nearly_the_same_text_with_two_labels() -> None:
    table = rows(100)
    table[1] = {"text": TEXTS[0] + "!", "label": "b"}
    write("train.jsonl", table)
    checkup = check_data(config(validation=False))
    (pair,) = section(checkup, "duplicates").evidence["near_pairs_of_other_labels"]
    assert [row["row"] for row in pair["rows"]] == [1, 2]
    assert "1 of them have other labels" in sentences(checkup, "duplicates", "look")


def test_rows_of_training_in_the_parts_that_judge_it() -> None:
    write("train.jsonl", rows(60))
    write("validation.jsonl", [*rows(38, start=100), {"text": TEXTS[0], "label": "a"}, *rows(1, start=199)])
    write("test.jsonl", [*rows(38, start=140), *rows(1, start=100), {"text": TEXTS[1] + "!", "label": "b"}])
    checkup = check_data(config(validation="validation.jsonl", test="test.jsonl"))
    assert section(checkup, "leaks").evidence["counts"] == {
        "train-validation": {"exact": 1, "near": 0, "rows": 40},
        "train-test": {"exact": 0, "near": 1, "rows": 40},
        "validation-test": {"exact": 1, "near": 0, "rows": 40},
    }
    assert "1 of 40 validation rows (2.5%) have the text of a training row" in sentences(
        checkup, "leaks", "unsafe"
    )
    assert "No test row has the text of a training row, and 1 (2.5%) nearly so." in (
        sentences(checkup, "leaks", "look")
    )


def test_groups_and_times_that_reach_over_parts() -> None:
    train = [row | {"user": i // 3, "day": 2000 + i} for i, row in enumerate(rows(60))]
    other = [row | {"user": 19 + i, "day": 2059 + i} for i, row in enumerate(rows(20, start=100))]
    write("train.jsonl", train)
    write("test.jsonl", [other[0] | {"user": 5}, *other[1:]])
    checkup = check_data(config(validation=12, test="test.jsonl", group="user", time="day"))
    evidence = section(checkup, "groups").evidence
    assert evidence["groups_shared_with_validation"] == []
    assert evidence["groups_shared_with_test"] == [{"group": "5", "train": 3, "test": 1}]
    unsafe = sentences(checkup, "groups", "unsafe")
    assert "1 group(s) of 'user', as '5', have rows both in training and in test" in unsafe
    assert "All test rows are later than the training rows" in sentences(checkup, "groups", "safe")
    write("test.jsonl", [row | {"day": 1999} if row["user"] < 21 else row for row in other])
    checkup = check_data(config(validation=12, test="test.jsonl", group="user", time="day"))
    unsafe = sentences(checkup, "groups", "unsafe")
    assert "2 of 20 test rows are earlier than the latest training row by 'day'" in unsafe
    assert "No group of 'user' is in both the training and the test part" in (
        sentences(checkup, "groups", "safe")
    )


def test_a_part_from_elsewhere_is_told_apart_with_its_clue() -> None:
    write("train.jsonl", rows(100))
    elsewhere = [row | {"text": f"dear sirs {row['text']}"} for row in rows(60, start=100)]
    write("validation.jsonl", elsewhere)
    checkup = check_data(config(validation="validation.jsonl"))
    drift = section(checkup, "drift")
    assert drift.evidence["validation"]["auc"]["low"] > 0.9
    assert {"dear", "sirs"} <= {clue["name"] for clue in drift.evidence["validation"]["clues"]}
    assert "A classifier tells validation rows from training rows (AUC 1.0" in sentences(
        checkup, "drift", "unsafe"
    )


def test_the_labels_of_the_test_part_change_nothing_but_what_is_said_of_themselves() -> None:
    write("train.jsonl", rows(60))
    test = rows(40, start=100)
    write("test.jsonl", test)
    settings = config(validation=0.3, test="test.jsonl")
    before = check_data(settings).to_json()
    write("test.jsonl", [row | {"label": "a" if i < 20 else "b"} for i, row in enumerate(test)])
    after = check_data(settings).to_json()
    assert before == after
    write("test.jsonl", [row | {"label": "ab"[i % 5 == 0]} for i, row in enumerate(test)])
    skewed = check_data(settings).to_json()
    for found in (before, skewed):
        counts = next(s for s in found["sections"] if s["name"] == "labels")["evidence"].pop("counts")
        assert sum(row["test"] for row in counts) == 40
    assert before == skewed


def test_noise_and_agreement_are_measured_with_cheap_models() -> None:
    table = [row | {"text": f"{row['text']} {'yes' if row['label'] == 'b' else 'no'}"} for row in rows(160)]
    flipped = [row | {"label": "ab"[i % 9 == 0]} if i % 9 < 2 else row for i, row in enumerate(table)]
    write("train.jsonl", flipped[:100])
    write("validation.jsonl", flipped[100:130])
    write("test.jsonl", flipped[130:])
    settings = config(validation="validation.jsonl", test="test.jsonl")
    checkup = check_data(settings, deep=True, correlate_with="test.jsonl")
    noise = section(checkup, "noise").evidence
    assert len(noise["scores"]) == 5
    assert noise["standard_error"] == pytest.approx(np.std(noise["scores"], ddof=1) / 5**0.5)
    found = section(checkup, "agreement")
    assert [model["share_of_training_rows"] for model in found.evidence["models"]] == [
        0.2,
        0.25,
        0.5,
        0.75,
        1.0,
    ]
    assert -1 <= found.evidence["pearson"]["low"] <= found.evidence["pearson"]["value"] <= 1
    assert "test.jsonl is the test part: its labels were looked at because you named it" in (
        sentences(checkup, "agreement", "look")
    )
    assert "Each point is a model" in render_checkup(checkup)


def test_what_correlate_with_cannot_do() -> None:
    write("train.jsonl", rows(60))
    with pytest.raises(ConfigError, match=r"needs a validation part to compare with; set data\.validation"):
        check_data(config(validation=False), correlate_with="test.jsonl")
    with pytest.raises(DataError, match=r"there is no file test\.jsonl"):
        check_data(config(), correlate_with="test.jsonl")
    write("test.jsonl", rows(10, "ac", start=100))
    with pytest.raises(DataError, match="holds the label 'c'"):
        check_data(config(), correlate_with="test.jsonl")


def test_several_labels_a_row() -> None:
    labels = [["joy", "love"], ["joy", "love"], ["rage"], []]
    write("train.jsonl", [row | {"label": labels[i % 4]} for i, row in enumerate(rows(120))])
    checkup = check_data(config(validation=0.2))
    found = section(checkup, "co-occurrence")
    assert found.evidence["matrix"][0][1] > 0
    assert "of 'joy' is without 'love', and the other way round" in sentences(
        checkup, "co-occurrence", "look"
    )
    assert section(checkup, "labels").evidence["rows_without_label"]["train"] == 24
    page = render_checkup(checkup)
    assert "that also have" in page


def test_rows_out_of_scope_are_counted_and_not_learned() -> None:
    write("train.jsonl", rows(90, "abo"))
    checkup = check_data(config(validation=0.2, out_of_scope="o"))
    assert list(checkup.labels) == ["a", "b"]
    assert (
        section(checkup, "schema").notes[0].startswith("24 training rows of the label 'o' are out of scope")
    )
    unknown = check_data(config(validation=0.2, out_of_scope="oos"))
    assert "data.out_of_scope = 'oos' is the label of no row" in sentences(unknown, "schema", "unsafe")


ODD = [
    "😀🎉" * 4,
    "مرحبا، أين طلبي من فضلك",
    "xy " * 34_000,
    "<script>alert('text')</script>",
    "</script><!-- é́",
]


def test_odd_texts_and_labels_stay_text_on_the_page() -> None:
    labels = ["<script>alert('label')</script>", "طلب", "😀"]
    table = [{"text": f"{ODD[i % 2]} {TEXTS[i]}", "label": labels[i % 3]} for i in range(40)]
    table += [{"text": text, "label": labels[i % 2]} for text in ODD for i in range(2)]
    write("train.jsonl", table)
    checkup = check_data(config(validation=False))
    page = render_checkup(checkup)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "\\u003cscript\\u003ealert" in page
    assert len(page) < 3_000_000
    assert max(len(text) for text in re.findall(r"<bdi[^>]*>([^<]*)</bdi>", page)) < 1000
    assert section(checkup, "lengths").evidence["parts"]["train"]["quantiles"]["1"] > 20_000
    assert json.loads(json.dumps(checkup.to_json()))["verdict"] == "unsafe"


def test_tokens_are_counted_by_the_tokenizer_of_the_config(tmp_path: Path) -> None:
    write_project(tmp_path)
    checkup = check_data("config.toml", overrides=["backbone.max_length=5"])
    lengths = section(checkup, "lengths")
    assert lengths.notes == []
    train = lengths.evidence["parts"]["train"]
    assert (train["quantiles"]["0"], train["quantiles"]["1"]) == (5, 6)
    assert train["cut"]["rows"] == 9
    assert "backbone.max_length = 6 would hold 99 of 100" in lengths.remarks[0].advice
    assert "lies beyond" not in render_checkup(checkup)


def test_texts_of_a_script_that_the_tokenizer_does_not_know(tmp_path: Path) -> None:
    write_project(tmp_path)
    rows = "".join(f"{'مرحبا' if i % 2 else 'where is my parcel'} {i},{'ab'[i % 2]}\n" for i in range(40))
    (tmp_path / "messages.csv").write_text("text,label\n" + rows)
    checkup = check_data("config.toml", overrides=["data.validation=0.3", "data.test=0.2"])
    assert "of 10 texts it knows nothing at all" in sentences(checkup, "lengths", "look")


def test_a_data_file_is_checked_as_init_would_read_it() -> None:
    write(
        "train.jsonl",
        [{"id": i, "body": row["text"], "label": row["label"]} for i, row in enumerate(rows(80))],
    )
    write(
        "validation.jsonl",
        [{"id": 1, "body": row["text"], "label": row["label"]} for row in rows(40, start=90)],
    )
    checkup = check_data("train.jsonl")
    assert checkup.rows == {"train": 80, "validation": 40}
    assert section(checkup, "schema").notes == [
        "The strings in 'body' are the longest, 48 characters on average.",
        "The labels are in 'label', as the name says.",
    ]
    assert section(checkup, "lengths").notes[0].startswith("Tokens are guessed from characters: a data file")
    assert check_data("train.jsonl", overrides=["data.validation=false"]).rows == {"train": 80}


def test_a_data_file_with_faults_is_checked_as_well() -> None:
    table = rows(50)
    table[0]["text"], table[1]["label"], table[2]["label"] = "", None, 3
    write("messages.jsonl", table)
    checkup = check_data("messages.jsonl")
    assert [fault["row"] for fault in section(checkup, "schema").evidence["faults"]] == [1, 2, 3]
    assert (sum(checkup.rows.values()), checkup.exit_code) == (47, 1)


def test_the_command_prints_calmly_and_leaves_with_its_verdict(capsys: Capture) -> None:
    table = rows(120)
    write("good.jsonl", table)
    assert etude("check-data", "good.jsonl") == 0
    out, err = capsys.readouterr()
    assert out.startswith(
        "Fit to train on, but have a look at labels.\nbinary, 2 labels; rows: train 96, validation 24"
    )
    assert "etude check-data good.jsonl --output check-data.html" in out
    assert err == ""
    write("bad.jsonl", [row | {"text": ""} if i < 15 else row for i, row in enumerate(table)])
    assert etude("check-data", "bad.jsonl", "--output", "page.html", "--quiet") == 1
    out, err = capsys.readouterr()
    assert "✗ 15 row(s) of bad.jsonl cannot be used." in out
    assert out.count("has an empty text") == 10
    assert "... and 5 more, which --json lists" in out
    assert out.rstrip().endswith("the page: page.html")
    assert "has an empty text" in Path("page.html").read_text(encoding="utf-8")


def test_the_command_writes_everything_as_json(capsys: Capture) -> None:
    write("bad.jsonl", [row | {"text": ""} if i < 15 else row for i, row in enumerate(rows(120))])
    assert etude("check-data", "bad.jsonl", "--json", "--output", "page.html") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["output"]) == ("unsafe", "page.html")
    assert len(found["sections"][0]["evidence"]["faults"]) == 15


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.toml"], "there is no config file 'gone.toml'"),
        (["gone.csv"], "there is no file gone.csv; give a csv, tsv, jsonl"),
        (
            ["a.csv", "--output", "a.csv"],
            "--output is 'a.csv' and the page is HTML; name a file that ends in .html",
        ),
        (["a.csv"], "a.csv has no column of texts"),
        (["config.toml"], "train.jsonl has no column 'body'; its columns are text, label"),
    ],
)
def test_what_cannot_be_checked_is_refused_in_one_sentence(
    arguments: list[str], words: str, capsys: Capture
) -> None:
    Path("a.csv").write_text("a,b\n1,2\n")
    write("train.jsonl", rows(10))
    Path("config.toml").write_text('[data]\ntrain = "train.jsonl"\ntext = "body"\n')
    before = Path("a.csv").read_text()
    assert etude("check-data", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {words}")
    assert err.count("\n") == 1
    assert Path("a.csv").read_text() == before


def test_a_page_that_cannot_be_written() -> None:
    write("train.jsonl", rows(40))
    checkup = check_data(config())
    with pytest.raises(Exception, match="choose another place with --output"):
        write_page(checkup, "no/such/folder/page.html")
