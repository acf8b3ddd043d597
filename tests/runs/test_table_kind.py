"""Runs on tables from end to end: training, the saved model, techniques, texts beside the table."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_project import TEXTS, write_project

from etude.api import train
from etude.config.load import parse_config
from etude.core.observe import Reporter
from etude.errors import ConfigError, ConflictError, DataError
from etude.runs.build import build
from etude.runs.model import Classifier

SMALL = {"n_blocks": 2, "d_block": 16, "n_heads": 2, "d_embedding": 4}
NOTE = {"text": ["note"]}
MODELS = ("mlp", "resnet", "ft_transformer", "tab_transformer")


def write_people(path: Path, n: int = 160, *, texts: bool = False) -> None:
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "job", "since", "member", *(["note"] if texts else []), "label"])
        for i in range(n):
            age, job = int(rng.integers(18, 80)), f"job {rng.integers(4)}"
            yes = (age > 50) ^ (job == "job 1") if not texts else bool(i % 2)
            row = ["" if i % 9 == 0 else age, job, f"2020-0{1 + i % 9}-11", "yes" if i % 3 else "no"]
            note = [f"{list(TEXTS.values())[i % 2]} {'a' if i % 5 else 'b'}"] if texts else []
            writer.writerow([*row, *note, "old" if yes else "young"])


def config_of(folder: Path, model: str = "mlp", **sections: Any) -> dict[str, Any]:
    backbone = {"kind": "table", "model": model, **SMALL, **sections.pop("backbone", {})}
    return {
        "data": {"train": str(folder / "people.csv"), "validation": 0.25, **sections.pop("data", {})},
        "backbone": backbone,
        "train": {"epochs": 4, "batch_size": 16, "precision": "fp32", **sections.pop("train", {})},
        "run": {"dir": str(folder / f"run-{model}"), "baselines": False, "report": False, "resamples": 0},
        **sections,
    }


@pytest.fixture
def people(tmp_path: Path) -> Path:
    write_people(tmp_path / "people.csv")
    return tmp_path


@pytest.mark.parametrize("model", MODELS)
def test_a_table_is_trained_saved_and_predicted(people: Path, model: str) -> None:
    config = parse_config(config_of(people, model))
    train(config, reporter=Reporter())
    classifier = Classifier(people / f"run-{model}" / "model", precision="fp32")
    with (people / "people.csv").open() as file:
        rows = list(csv.DictReader(file))
    probabilities = classifier.predict_proba(rows)
    assert probabilities.shape == (160, 2)
    assert np.allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    classifier.predict_file(str(people / "people.csv"), str(people / "out.csv"))
    with (people / "out.csv").open() as file:
        written = [float(row["p:old"]) for row in csv.DictReader(file)]
    assert np.allclose(written, probabilities[:, classifier.task.position("old")], atol=2e-6)
    # What is saved is JSON and safetensors.
    files = {p.name for p in (people / f"run-{model}" / "model").iterdir()}
    assert files == {"config.json", "etude.json", "model.safetensors"}


def test_rows_to_predict_that_lack_a_column_are_refused(people: Path) -> None:
    train(parse_config(config_of(people)), reporter=Reporter())
    classifier = Classifier(people / "run-mlp" / "model")
    with pytest.raises(DataError, match="has no column 'job'"):
        classifier.predict_proba([{"age": 3, "since": "2020-01-11", "member": "no"}])
    one = {"age": None, "job": "pilot", "since": "2021-01-11", "member": True, "more": 3}
    assert classifier.predict_proba([one]).shape == (1, 2)


@pytest.mark.parametrize(
    "techniques",
    [
        {"swap_noise": {"share": 0.2}},
        {"cutmix": {"alpha": 0.5}},
        {"hidden_mixup": {"alpha": 0.5}},
        {"layerwise_lr": {"decay": 0.8}},
        {"ema": {}, "sam": {}},
        {"swa": {}},
        {"progressive_dropout": {"end": 0.3}},
    ],
    ids=lambda t: "+".join(t),
)
@pytest.mark.parametrize("model", MODELS)
def test_techniques_act_on_tables(people: Path, model: str, techniques: dict[str, Any]) -> None:
    config = parse_config(config_of(people, model, techniques=techniques, train={"epochs": 2}))
    run = build(config, reporter=Reporter())
    assert set(techniques) <= {entry.technique for entry in run.plan.entries()}
    run.engine.fit()
    assert all(torch.isfinite(p).all() for p in run.backbone.parameters())


@pytest.mark.parametrize(
    "techniques",
    [
        {"stochastic_depth": {"rate": 0.3}},
        {"attention_pooling": {}},
        {"neftune": {}},
        {"fgm": {"epsilon": 0.1}},
    ],
    ids=lambda t: "+".join(t),
)
def test_techniques_of_tokens_act_on_ft_transformer(people: Path, techniques: dict[str, Any]) -> None:
    config = parse_config(config_of(people, "ft_transformer", techniques=techniques, train={"epochs": 2}))
    train(config, reporter=Reporter())
    assert Classifier(people / "run-ft_transformer" / "model").predict_proba([{
        "age": 3, "since": "2020-01-11", "member": "no", "job": "job 1"
    }]).shape == (1, 2)  # fmt: skip


def test_mixup_says_that_categories_cannot_be_added(people: Path) -> None:
    run = build(parse_config(config_of(people, techniques={"mixup": {}})), reporter=Reporter())
    with pytest.raises(ConflictError, match="mixup adds numbers and the inputs hold 'categories' as well"):
        run.engine.fit()


def test_mixup_acts_on_numbers_alone(people: Path) -> None:
    columns = {"ignore": ["job", "member"]}
    run = build(
        parse_config(config_of(people, columns=columns, techniques={"mixup": {}})), reporter=Reporter()
    )
    run.engine.fit()


class Listener(Reporter):
    """Remembers the warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.warned: list[str] = []

    def warn(self, message: str) -> None:
        self.warned.append(message)


def test_post_norm_asks_for_a_warm_up(people: Path) -> None:
    for techniques, told in (({"warmup": {"enabled": False}}, True), ({}, False)):
        listener = Listener()
        build(parse_config(config_of(people, "tab_transformer", techniques=techniques)), reporter=listener)
        assert any("post-norm diverges easily" in warning for warning in listener.warned) == told


def test_several_columns_of_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((120, 3))
    with (tmp_path / "people.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "c", "up", "down"])
        writer.writerows([*row, int(row[0] > 0), int(row[1] < 0)] for row in x.tolist())
    config = parse_config(config_of(tmp_path, data={"labels": ["up", "down"]}, train={"epochs": 20}))
    run = build(config, reporter=Reporter())
    assert run.data.task.kind == "multilabel"
    run.engine.fit()
    assert run.engine.backbone(run.data.train.inputs(np.arange(5))).logits.shape == (5, 2)


def test_a_column_of_text_is_read_by_a_text_backbone(tmp_path: Path) -> None:
    write_project(tmp_path)
    write_people(tmp_path / "people.csv", texts=True)
    text = {"path": str(tmp_path / "tiny"), "pooling": "mean", "max_length": 16, "lr_scale": 1.0}
    config = parse_config(config_of(tmp_path, columns=NOTE, backbone={"text": text}, train={"epochs": 15}))
    summary = train(config, reporter=Reporter())
    assert summary is not None
    saved = tmp_path / "run-mlp" / "model"
    assert (saved / "text" / "tokenizer.json").is_file()
    classifier = Classifier(saved)
    with (tmp_path / "people.csv").open() as file:
        rows = list(csv.DictReader(file))
    predicted = [found.label for found in classifier.predict(rows)]
    right = np.mean([label == row["label"] for label, row in zip(predicted, rows, strict=True)])
    assert right > 0.95  # only the text tells
    assert classifier.predict([rows[0], rows[1] | {"note": ""}])[1].label in ("old", "young")
    run = build(config, reporter=Reporter())
    assert not run.backbone.capabilities & {"columns", "mixable", "embed"}
    assert any(name.startswith("text.") for name, _ in run.backbone.blocks())


def test_the_text_learns_more_slowly(tmp_path: Path) -> None:
    write_project(tmp_path)
    write_people(tmp_path / "people.csv", texts=True)
    text = {"path": str(tmp_path / "tiny"), "pooling": "mean"}
    run = build(
        parse_config(config_of(tmp_path, columns={"text": ["note"]}, backbone={"text": text})),
        reporter=Reporter(),
    )
    rates = {group.lr for group in run.engine.groups}
    assert max(rates) == pytest.approx(1e-3)
    assert min(rates) == pytest.approx(3e-5)


def test_a_teacher_with_another_scale_is_refused(people: Path) -> None:
    train(parse_config(config_of(people)), reporter=Reporter())
    teacher = {"distillation": {"teacher": str(people / "run-mlp")}}
    build(parse_config(config_of(people, techniques=teacher)), reporter=Reporter())
    with pytest.raises(ConfigError, match="reads columns that are others than this run's, or are scaled"):
        build(
            parse_config(config_of(people, techniques=teacher, columns={"scaling": "robust"})),
            reporter=Reporter(),
        )


def test_first_weights_from_an_earlier_run(people: Path) -> None:
    train(parse_config(config_of(people)), reporter=Reporter())
    config = parse_config(config_of(people, backbone={"path": str(people / "run-mlp")}))
    assert config.backbone.pretrained
    run = build(config, reporter=Reporter())
    saved = json.loads((people / "run-mlp" / "model" / "config.json").read_text())
    assert saved["model_type"] == "etude-table"
    assert run.data.task.labels == ("old", "young")
