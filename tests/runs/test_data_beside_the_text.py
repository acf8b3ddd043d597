"""Numbers beside the text, soft labels and example weights, from a file to a saved model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_project import etude, write_project
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import etude as package
from etude import api
from etude.config.load import parse_config
from etude.core.batch import Batch
from etude.core.observe import Reporter
from etude.data.load import load_data
from etude.errors import ConfigError, ConflictError, DataError
from etude.kinds import kind_of
from etude.parts.placing import feature_width
from etude.runs.build import build
from etude.runs.model import Classifier

Rows = list[dict[str, Any]]
WORDS = ["a", "b", "c", "d", "e", "f", "g", "h"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, rows: Rows) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def config(file: str, run: str = "run", **sections: Any) -> dict[str, Any]:
    """A run of a tiny BERT; sections are laid over it key by key."""
    sections = {name: dict(value) for name, value in sections.items()}
    base: dict[str, dict[str, Any]] = {
        "data": {"train": file, "validation": False},
        "backbone": {
            "path": "tiny",
            "pooling": "mean",
            "max_length": 16,
            "dropout": 0.0,
            "head_dropout": 0.0,
        },
        "train": {"epochs": 2, "batch_size": 8, "precision": "fp32"},
        "run": {"dir": run, "baselines": False, "resamples": 100},
    }
    return {name: base.get(name, {}) | sections.get(name, {}) for name in {**base, **sections}}


def people(n: int = 32) -> Rows:
    """Rows whose text says nothing and whose price tells the label."""
    return [
        {
            "text": f"give me {WORDS[i % 8]}",
            "age": str(20 + i),
            "price": 1000.0 + i % 2,
            "label": ["no", "yes"][i % 2],
        }
        for i in range(n)
    ]


NUMERIC = {"numeric": ["age", "price"]}


@pytest.fixture
def trained(project: Path) -> api.Result:
    write("people.jsonl", people())
    return api.train(config("people.jsonl", data=NUMERIC | {"validation": 8, "test": "people.jsonl"}))


def test_numbers_tell_what_the_text_does_not(trained: api.Result) -> None:
    assert trained.scores["test"]["accuracy"] == 1.0
    shown = api.evaluate(trained.folder, "people.jsonl").scores
    assert shown["accuracy"] == 1.0
    assert shown["loss"] == pytest.approx(trained.scores["test"]["loss"], rel=1e-4)


def test_the_scale_is_the_training_part_s_and_is_saved(trained: api.Result) -> None:
    said = json.loads((trained.folder / "model/etude.json").read_text())["input"]["numeric"]
    assert json.loads((trained.folder / "model/config.json").read_text())["numeric"] == said
    table = Path(trained.folder / "predictions/validation.parquet")
    assert table.is_file()
    run = build(parse_config(config("people.jsonl", run="other", data=NUMERIC | {"validation": 8})))
    kept = [people()[row] for row in run.data.rows["train"]]
    assert len(kept) == 24
    assert said["mean"] == pytest.approx(
        [np.mean([float(r["age"]) for r in kept]), np.mean([r["price"] for r in kept])]
    )
    assert run.data.train.numbers is not None
    assert run.data.train.numbers.mean(dim=0).tolist() == pytest.approx([0.0, 0.0], abs=1e-5)
    assert run.data.train.numbers.std(dim=0, correction=0).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)


def test_rows_files_and_plain_transformers_agree(trained: api.Result) -> None:
    model, rows = Classifier(trained.folder / "model", precision="fp32"), people(6)
    ours = model.predict_proba(rows)
    assert [row.label for row in model.predict(rows)] == [row["label"] for row in rows]
    assert api.predict(trained.folder, rows)[1].label == "yes"
    header = "age,price,text\n"
    Path("new.csv").write_text(header + "".join(f"{r['age']},{r['price']},{r['text']}\n" for r in rows))
    assert etude("predict", "run", "new.csv", "--output", "out.jsonl", "--quiet") == 0
    written = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    np.testing.assert_allclose([[r["p:no"], r["p:yes"]] for r in written], ours, atol=1e-2)

    opened = AutoModelForSequenceClassification.from_pretrained(trained.folder / "model").eval()
    tokens = AutoTokenizer.from_pretrained(trained.folder / "model")(
        [r["text"] for r in rows], return_tensors="pt", padding=True
    )
    numbers = torch.tensor([[float(r["age"]), r["price"]] for r in rows])
    with torch.no_grad():
        theirs = opened(**tokens, numbers=numbers).logits.softmax(dim=-1)
    np.testing.assert_allclose(theirs.numpy(), ours, atol=1e-4)
    with pytest.raises(
        DataError, match=r"numbers is missing and this model takes the shape \(6, 2\): age, price of"
    ):
        opened(**tokens)
    with pytest.raises(DataError, match=r"numbers is of shape \(6, 1\) and"):
        opened(**tokens, numbers=numbers[:, :1])


def test_what_a_model_with_numbers_refuses(trained: api.Result, capsys: pytest.CaptureFixture[str]) -> None:
    model = trained.model
    for rows, words in [
        (
            ["give me a"],
            "this model reads age, price beside the text and was given texts alone; give rows as {'text'",
        ),
        ([{"text": "a", "price": 1}], "the list of rows has no column 'age'; .*its columns are text, price"),
        (
            [{"text": "a", "age": 1, "price": 1}, {"text": "a", "age": 1}],
            "rows, row 1, column 'price' has no number",
        ),
        (
            [{"text": "a", "age": "x", "price": 1}],
            "row 0, column 'age' holds 'x', and a finite number is expected",
        ),
        (
            [{"text": "a", "age": 1, "price": 1}, "a"],
            "row 1 is 'a' and others are mappings; give all rows in one",
        ),
    ]:
        with pytest.raises(DataError, match=words):
            model.predict(rows)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="pairs stand beside rows"):
        model.predict([{"text": "a"}], ["b"])
    Path("texts.csv").write_text("text,age\na,1\n")
    capsys.readouterr()
    assert etude("predict", "run", "texts.csv") == 2
    assert "texts.csv has no column 'price'; its columns are text, age" in capsys.readouterr().err


def test_missing_numbers_count_as_the_mean_where_that_is_wanted(project: Path) -> None:
    rows = people()
    rows[3]["age"], rows[4]["age"] = None, ""
    write("people.jsonl", rows)
    with pytest.raises(DataError, match=r"people.jsonl, line 4, column 'age' has no number"):
        api.train(config("people.jsonl", data=NUMERIC))
    result = api.train(config("people.jsonl", data=NUMERIC | {"numeric_missing": "mean"}))
    row = {"text": "give me a", "price": 1001}
    mean = result.model.metadata["input"]["numeric"]["mean"][0]
    without, at_mean = result.model.predict_proba([{**row, "age": None}, {**row, "age": mean}])
    assert without.tolist() == at_mean.tolist()


def test_numbers_need_a_head_with_room(project: Path) -> None:
    write("people.jsonl", people())
    with pytest.raises(
        ConfigError, match=r"pooling = 'native' brings .* takes no numbers beside the text; use an"
    ):
        api.train(config("people.jsonl", data=NUMERIC, backbone={"pooling": "native"}))
    run = build(
        parse_config(config("people.jsonl", data=NUMERIC, backbone={"pooling": "auto", "head": "mlp"}))
    )
    assert (run.backbone.pooling, feature_width(run.backbone, "")) == ("cls", 18)
    assert "numbers      age, price" in api.explain(config("people.jsonl", data=NUMERIC)).text


@pytest.mark.parametrize("technique", ["attention_pooling", "label_embedding", "multi_sample_dropout"])
def test_parts_get_the_width_that_they_see(project: Path, technique: str) -> None:
    write("people.jsonl", people())
    result = api.train(config("people.jsonl", data=NUMERIC, techniques={technique: {}}))
    rows = people(4)
    tokens = AutoTokenizer.from_pretrained(result.folder / "model")(
        [r["text"] for r in rows], return_tensors="pt", padding=True
    )
    opened = AutoModelForSequenceClassification.from_pretrained(result.folder / "model").eval()
    with torch.no_grad():
        theirs = opened(**tokens, numbers=torch.tensor([[float(r["age"]), r["price"]] for r in rows])).logits
    ours = Classifier(result.folder / "model", precision="fp32").predict_proba(rows)
    np.testing.assert_allclose(theirs.softmax(dim=-1).numpy(), ours, atol=1e-4)


def test_hidden_mixup_mixes_numbers_as_it_mixes_texts(project: Path) -> None:
    write("people.jsonl", people())
    run = build(
        parse_config(config("people.jsonl", data=NUMERIC, techniques={"hidden_mixup": {"alpha": 0.4}}))
    )
    backbone = run.backbone
    from etude.techniques.mixing.hidden_mixup import (
        LAM,
        mix_embedding,
        pair,
        with_mixed_numbers,
        with_union_mask,
    )

    rows, partners, lam = np.arange(4), torch.tensor([1, 2, 3, 0]), torch.tensor([1.0, 0.0, 0.25, 0.5])
    batch = Batch(run.data.train.inputs(rows), run.data.train.targets[:4], torch.ones(4), torch.arange(4))
    paired = with_mixed_numbers(with_union_mask(pair(batch, partners, lam)))
    own = batch.inputs["numbers"]
    expected = lam[:, None] * own + (1 - lam[:, None]) * own[partners]
    backbone.eval()
    with torch.no_grad():
        features = backbone(paired.inputs, mix_embedding).features
    assert LAM in paired.inputs
    torch.testing.assert_close(features[:, -2:], expected)


def test_a_teacher_reads_the_same_numbers_or_none(trained: api.Result) -> None:
    distilled: dict[str, Any] = {"distillation": {"teacher": "run"}}
    same = NUMERIC | {"validation": 8}
    api.train(config("people.jsonl", run="student", data=same, techniques=distilled))
    with pytest.raises(
        ConfigError, match="the teacher run reads age, price beside the text, scaled as its own"
    ):
        api.train(config("people.jsonl", run="other", data=same | {"numeric": ["age"]}, techniques=distilled))
    api.train(config("people.jsonl", run="reader"))
    distilled["distillation"]["teacher"] = "reader"
    api.train(config("people.jsonl", run="third", data=same, techniques=distilled))


def test_resuming_notices_other_numbers(trained: api.Result) -> None:
    rows = people()
    rows[5]["age"] = "99"
    write("people.jsonl", rows)
    with pytest.raises(package.errors.RunError, match="the data of run have changed since"):
        api.resume(trained.folder)


VOTES: Rows = [
    {"text": f"where is my {WORDS[i % 8]}", "label": {"order": 0.75, "refund": 0.25}} for i in range(12)
] + [
    {"text": f"money back {WORDS[i % 8]}", "label": {"refund": 0.6, "order": 0.2, "other": 0.2}}
    for i in range(12)
]


def test_soft_labels_are_learned_as_they_are(project: Path) -> None:
    write("votes.jsonl", VOTES)
    write(
        "certain.jsonl",
        [{"text": "money back please", "label": "refund"}, {"text": "where is my a", "label": "order"}],
    )
    sections: dict[str, Any] = {"optimizer": {"lr": 3e-3}, "train": {"epochs": 10}}
    result = api.train(config("votes.jsonl", data={"test": "certain.jsonl", "validation": 4}, **sections))
    assert result.scores["test"]["accuracy"] == 1.0
    assert result.scores["validation"]["accuracy"] == 1.0
    said = result.model.predict(["where is my d", "money back d"])
    assert said[0].probabilities == pytest.approx({"order": 0.75, "refund": 0.25, "other": 0.0}, abs=0.06)
    assert said[1].probabilities == pytest.approx({"order": 0.2, "refund": 0.6, "other": 0.2}, abs=0.06)
    assert api.evaluate(result.folder, "votes.jsonl").scores["accuracy"] == 1.0
    # The least possible loss is the entropy of the shares.
    entropy = -np.mean([sum(p * np.log(p) for p in row["label"].values()) for row in VOTES])
    assert api.evaluate(result.folder, "votes.jsonl").scores["loss"] == pytest.approx(entropy, abs=0.05)


def test_soft_multilabel(project: Path) -> None:
    write(
        "votes.jsonl",
        [
            {"text": r["text"], "label": list(r["label"].values()) + [0.0] * (3 - len(r["label"]))}
            for r in VOTES
        ],
    )
    task = {"task": "multilabel"}
    result = api.train({**config("votes.jsonl", data={"validation": 6}), **task})
    assert set(result.model.task.labels) == {"0", "1", "2"}
    write("votes.jsonl", [*VOTES, {"text": "a", "label": {"order": 0.9, "refund": 0.5}}])
    with pytest.raises(DataError, match=r"line 25, column 'label' holds shares that sum to 1\.4"):
        api.train(config("votes.jsonl", run="second"))


def test_what_needs_hard_targets_is_refused_by_soft_data(project: Path) -> None:
    write("votes.jsonl", VOTES)
    techniques: dict[str, Any] = {"supervised_contrastive": {}}
    with pytest.raises(
        ConflictError,
        match="supervised_contrastive needs hard targets and the labels are distributions; remove s",
    ):
        api.train(config("votes.jsonl", techniques=techniques))
    assert not Path("run").exists()
    hard = [{**row, "label": {max(row["label"], key=row["label"].get): 1.0}} for row in VOTES]
    write("certain.jsonl", hard)
    api.train(config("certain.jsonl", techniques=techniques))
    assert "soft: their shares are the targets" in api.explain(config("votes.jsonl", run="other")).text


def test_soft_counts_are_sums_of_shares(project: Path) -> None:
    write("votes.jsonl", VOTES)
    resolved = parse_config(config("votes.jsonl"))
    data = load_data(resolved, kind_of(resolved).loader(), Reporter())
    assert data.soft_targets
    assert data.class_counts.tolist() == pytest.approx([12 * 0.95, 2.4, 12 * 0.85], abs=1e-5)


PLAIN = {"defaults": False, "seed": 0}


def weights_after(run: str, rows: Rows, **data: Any) -> dict[str, torch.Tensor]:
    write(f"{run}.jsonl", rows)
    # All rows in one step, no dropout and no decay: the gradient is the weighted mean over the rows.
    table = config(
        f"{run}.jsonl",
        run=run,
        data=data,
        train={"epochs": 3, "batch_size": 100},
        optimizer={"name": "sgd", "lr": 0.1},
    )
    trained: dict[str, torch.Tensor] = load_file(api.train(table | PLAIN).folder / "model/model.safetensors")
    return trained


def test_a_weight_is_a_number_of_copies(project: Path) -> None:
    rows: Rows = [
        {"text": f"{['where', 'money'][i % 2]} {word}", "label": "ab"[i % 2], "times": i % 3 + 1}
        for i, word in enumerate(WORDS)
    ]
    copies = [row for row in rows for _ in range(row["times"])]
    weighted = weights_after("weighted", rows, weight="times")
    repeated, plain = weights_after("repeated", copies), weights_after("plain", rows)
    for name, value in weighted.items():
        torch.testing.assert_close(value, repeated[name], rtol=1e-4, atol=1e-6)
    assert any(
        not torch.allclose(value, plain[name], rtol=1e-4, atol=1e-6) for name, value in weighted.items()
    )


def test_a_weight_of_zero_takes_a_row_out(project: Path) -> None:
    rows: Rows = [
        {"text": f"{['where', 'money'][i % 2]} {word}", "label": "ab"[i % 2], "weight": 1}
        for i, word in enumerate(WORDS)
    ]
    wrong = [{**row, "label": "ab"[(i + 1) % 2], "weight": 0} for i, row in enumerate(rows)]
    left_out = weights_after("weighted", [*rows, *wrong], weight="weight")
    alone = weights_after("alone", rows)
    for name, value in left_out.items():
        torch.testing.assert_close(value, alone[name], rtol=1e-4, atol=1e-6)
    with pytest.raises(DataError, match=r"column 'weigth'.*did you mean 'weight'"):
        weights_after("other", rows, weight="weigth")
