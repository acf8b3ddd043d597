"""Which weights a run keeps, what each of them scores, and what is refused."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_project import CONFIG, write_project
from torch import Tensor

from etude.config.load import parse_config
from etude.core.checkpoint import checkpoints, read_checkpoint
from etude.errors import ConfigError
from etude.runs.resolve import resolve_techniques
from etude.runs.train import train

PLAIN = CONFIG.replace("[techniques.hidden_mixup]\n", "").replace("[techniques.ema]\n", "")
EMA = "techniques.ema.decay=0.9"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    write_project(folder)
    return folder


@pytest.fixture(autouse=True)
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def config(*overrides: str) -> Any:
    quick = [
        "run.report=false",
        "run.baselines=false",
        "run.resamples=0",
        "backbone.compact_vocabulary=false",
    ]
    return parse_config(tomllib.loads(PLAIN), [*quick, *overrides])


def trained(name: str, *overrides: str) -> dict[str, Any]:
    train(config(f"run.dir='{name}'", *overrides))
    found: dict[str, Any] = json.loads(Path(name, "summary.json").read_text())["final"]
    return found


def saves_the_raw_weights(name: str) -> bool:
    """Whether the saved model's dense layers are those of the last checkpoint's raw weights."""
    raw = read_checkpoint(checkpoints(Path(name) / "checkpoints")[-1])["model"]
    (file,) = Path(name, "model").glob("*.safetensors")
    ours, theirs = (dense_layers(weights) for weights in (raw, load_file(file)))
    assert len(ours) == len(theirs) == 2
    return all(any(torch.equal(one, other) for other in theirs) for one in ours)


def dense_layers(weights: Mapping[str, Tensor]) -> list[Tensor]:
    return [value for value in weights.values() if value.shape == (32, 16)]


def test_the_last_weights_although_an_average_runs() -> None:
    found = trained("last", EMA, "train.final='last'")
    assert found["kept"] == "last"
    assert set(found["scores"]) == {"last", "best", "average"}
    assert found["scores"]["last"]["loss"] != found["scores"]["average"]["loss"]
    assert saves_the_raw_weights("last")


def test_auto_is_the_average_where_there_is_one() -> None:
    found = trained("auto", EMA)
    assert found["kept"] == "average"
    assert not saves_the_raw_weights("auto")
    predicted = json.loads(Path("auto/summary.json").read_text())["plain"]["validation"]["loss"]
    assert predicted == pytest.approx(found["scores"]["average"]["loss"], rel=1e-4)


def test_the_best_evaluation() -> None:
    found = trained("best", "train.final='best'")
    assert found["kept"] == "best"
    assert set(found["scores"]) == {"last", "best"}
    records = [json.loads(line) for line in Path("best/metrics.jsonl").read_text().splitlines()]
    (soup,) = [record["soup"] for record in records if "soup" in record]
    (chosen,) = [r for r in records if "validation" in r and r["step"] in soup["steps"]][:1]
    plain = json.loads(Path("best/summary.json").read_text())["plain"]["validation"]["loss"]
    assert plain == pytest.approx(chosen["validation"]["loss"], rel=1e-4)
    assert found["scores"]["best"]["accuracy"] == chosen["validation"]["accuracy"]


def names(*overrides: str) -> dict[str, Any]:
    return {technique.key(): technique.config for technique in resolve_techniques(config(*overrides), None)}


def test_best_is_a_soup_of_one() -> None:
    assert names("train.final='best'")["soup"].k == 1
    assert names("train.final='best'", "techniques.soup.k=1")["soup"].k == 1
    assert "soup" not in names("train.final='last'")
    assert "ema" in names("train.final='average'", EMA)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.final='average'"], r'train\.final = "average" needs a technique that averages weights and'),
        (
            ["train.final='best'", EMA],
            r'"best" keeps the weights of one evaluation and ema a mean of several',
        ),
        (["train.final='best'", "techniques.soup.k=3"], r"evaluation and soup a mean of several; remove"),
        (["train.final='best'", "data.validation=false"], r"needs a validation part to tell which weights"),
    ],
)
def test_what_leaves_no_such_weights_is_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        names(*overrides)
