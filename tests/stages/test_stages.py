"""Stages: what each starts from, that a stop between them loses nothing, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import etude
from etude import api, cli
from etude.config.load import dump_config, load_config, parse_config
from etude.config.stages import resolve_stages
from etude.core.observe import Reporter
from etude.errors import EtudeError, Interrupted
from etude.runs.build import build
from tiny_texts import text_config, write_texts

STAGES: list[dict[str, Any]] = [
    {"name": "pretrain", "job": "pretrain", "pretrain": {"epochs": 3, "lr": 3e-3}},
    {"name": "frozen", "train.epochs": 1, "techniques": {"freeze": {"until": "1dur"}}},
    {"name": "all", "train": {"epochs": 3}, "optimizer.lr": 2e-3},
]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    write_texts(folder)
    return folder


@pytest.fixture
def project(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("messages.csv", "tiny"):
        (tmp_path / name).symlink_to(texts / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def staged(stages: list[dict[str, Any]] = STAGES, **sections: Any) -> dict[str, Any]:
    return text_config(stages=stages, data={"test": 0.2}, train={"log_every": "1st"}, **sections)


def test_each_stage_has_its_own_config_and_starts_from_the_last_one() -> None:
    first, second, third = resolve_stages(parse_config(staged()))
    assert [str(stage.folder) for stage in (first, second, third)] == [
        "run/1-pretrain", "run/2-frozen", "run/3-all",
    ]  # fmt: skip
    assert first.config.backbone.path == "tiny"
    assert second.config.backbone.path == "run/1-pretrain/model"
    assert third.config.backbone.path == "run/2-frozen/model"
    assert (second.config.train.epochs, third.config.train.epochs) == (1, 3)
    assert third.config.optimizer["lr"] == 2e-3
    assert "kept_head" not in second.config.techniques
    assert third.config.techniques == {"kept_head": {"model": "run/2-frozen/model"}}
    assert (first.config.run.job, second.config.run.job) == ("pretrain", "train")
    assert not second.config.stages


def test_placeholders_name_earlier_models() -> None:
    stages = [
        *STAGES,
        {
            "name": "small",
            "backbone": {"path": "tiny", "layers": 1},
            "techniques": {"distillation": {"teacher": "{previous}", "alpha": 0.7}},
        },
        {"name": "back", "backbone.path": "{frozen}"},
    ]
    *_, small, back = resolve_stages(parse_config(staged(stages)))
    assert small.config.techniques["distillation"]["teacher"] == "run/3-all/model"
    assert small.config.backbone.path == "tiny"
    assert "kept_head" not in small.config.techniques
    assert back.config.backbone.path == "run/2-frozen/model"


def test_self_training_is_training_with_self_learning() -> None:
    stages = [{"name": "one"}, {"name": "two", "job": "self_train"}]
    found = resolve_stages(parse_config(staged(stages)))[1].config
    assert found.techniques == {"self_learning": {}, "kept_head": {"model": "run/1-one/model"}}


def test_a_config_with_stages_is_written_and_read_back(tmp_path: Path) -> None:
    config = parse_config(staged())
    (tmp_path / "config.toml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.toml") == config


@pytest.fixture(scope="module")
def reference(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stages that were never stopped."""
    folder = tmp_path_factory.mktemp("reference")
    for name in ("messages.csv", "tiny"):
        (folder / name).symlink_to(texts / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = etude.train(staged())
    assert [line["name"] for line in result.stages] == ["pretrain", "frozen", "all"]
    assert result.folder == Path("run")
    return folder


def test_the_model_lies_in_the_folder_of_the_whole(
    reference: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(reference)
    assert {file.name for file in Path("run").iterdir()} == {
        "config.toml", "environment.json", "stages.json", "model", "1-pretrain", "2-frozen", "3-all",
    }  # fmt: skip
    assert etude.predict("run", ["where is my parcel today thanks"])[0].label == "order"
    scores = etude.evaluate("run").scores
    assert scores["accuracy"] > 0.9
    summary = json.loads(Path("run/3-all/summary.json").read_text())
    assert scores["accuracy"] == pytest.approx(summary["metrics"]["test"]["accuracy"])
    assert api.report("run").is_file()
    # What is done is said again and not done again.
    with pytest.raises(SystemExit):
        cli.main(["resume", "run", "--quiet"])
    said = capsys.readouterr().out
    assert "1-pretrain  pretrain" in said
    assert "3-all" in said


def test_training_goes_on_with_the_head_of_the_stage_before(reference: Path) -> None:
    config = load_config(reference / "run/3-all/config.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(reference)
        begun = build(config).engine.scores()
    before = json.loads((reference / "run/2-frozen/summary.json").read_text())["metrics"]["validation"]
    assert begun["loss"] == pytest.approx(before["loss"], rel=1e-6)
    assert "kept_head" in (reference / "run/3-all/plan.txt").read_text()


class Stop(Reporter):
    """Stops as Ctrl-C would once a line begins so."""

    def __init__(self, start: str) -> None:
        self.start = start
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)
        if text.startswith(self.start):
            raise KeyboardInterrupt


@pytest.mark.parametrize("line", ["stage 2 of 3", "validation after step 5", "validation after step 10"])
def test_stopped_between_and_inside_stages(line: str, project: Path, reference: Path) -> None:
    stop = Stop(line)
    with pytest.raises((Interrupted, KeyboardInterrupt)):
        etude.train(staged(), reporter=stop)
    told = Stop("never")
    result = etude.resume("run", reporter=told)
    assert isinstance(result, etude.Result)
    if "stage 2 of 3, frozen: train" in stop.lines:
        assert "stage 1 of 3, pretrain: done before" in told.lines
    found, expected = (load_file(at / "run/model/model.safetensors") for at in (project, reference))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    logs = [(at / "run/1-pretrain/metrics.jsonl").read_text() for at in (project, reference)]
    assert logs[0] == logs[1]


def test_explain_and_validate_look_at_every_stage(project: Path) -> None:
    stages = [
        *STAGES,
        {
            "name": "small",
            "backbone": {"path": "tiny", "layers": 1},
            "techniques": {"distillation": {"teacher": "{previous}"}},
        },
    ]
    found = etude.explain(staged(stages))
    assert "stage 1      pretrain: pretrain, in run/1-pretrain" in found.text
    assert "  loss       mlm" in found.text
    assert "starts from  run/1-pretrain/model" in found.text
    assert "and, once earlier stages are done: distillation" in found.text
    assert [stage["name"] for stage in found.data["stages"]] == ["pretrain", "frozen", "all", "small"]
    assert etude.validate(staged(stages)) == []
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([{"job": "train"}], r"stages\[1\]\.name"),
        ([{"name": "A b"}], r"stages\[1\]\.name"),
        ([{"name": "a", "job": "trian"}], r"stages\[1\]\.job is 'trian'"),
        ([{"name": "a"}, {"name": "a"}], r"stages\[2\] is named 'a', which is taken"),
        ([{"name": "a", "tran": {"epochs": 1}}], r"the stage 'a': unknown key 'tran'; did you mean 'train'"),
        ([{"name": "a", "train.epochs": 0}], r"the stage 'a': train\.epochs is 0"),
        ([{"name": "a", "run.dir": "b"}], r"the stage 'a' sets run\.dir and may not"),
        ([{"name": "a", "stages": []}], r"the stage 'a' sets stages and may not"),
        ([{"name": "a", "backbone.path": "{previous}"}], r"names '\{previous\}', and no earlier stage"),
        ([{"name": "a"}, {"name": "b", "backbone.path": "{c}"}], r"names '\{c\}', and no earlier stage"),
        ([{"name": "a", "job": "pretrain"}], r"the last stage 'a' pre-trains and learns no labels"),
        ([{"name": "a"}, {"name": "b", "techniques": {"emma": {}}}], r"the stage 'b': .*'emma'"),
        ([{"name": "a"}, {"name": "b", "data.train": "absent.csv"}], r"the stage 'b': .*absent\.csv"),
        (
            [{"name": "a"}, {"name": "b", "techniques": {"mixup": {}, "cutmix": {}}}],
            r"the stage 'b': .*(mixup|cutmix)",
        ),
        ([{"name": "a"}, {"name": "b", "job": "self_train"}], r"the stage 'b': .*unlabelled"),
    ],
)
def test_bad_stages_are_refused_before_the_first_begins(
    stages: list[dict[str, Any]], words: str, project: Path
) -> None:
    with pytest.raises(EtudeError, match=words) as raised:
        etude.train(staged(stages))
    assert "\n" not in str(raised.value)
    assert not Path("run").exists()


def test_a_broken_record_of_stages_is_one_sentence(project: Path, reference: Path) -> None:
    shutil.copytree(reference / "run", "run")
    Path("run/stages.json").write_text("[{")
    with pytest.raises(EtudeError, match=r"run/stages\.json is damaged; remove it"):
        etude.resume("run")
