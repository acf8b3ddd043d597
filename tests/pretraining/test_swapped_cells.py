"""Swap noise on tables: what is drawn, both losses by hand, and a network that has learned."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

import etude
from etude.config.load import parse_config
from etude.config.pretrain import PretrainConfig
from etude.core.observe import Reporter
from etude.data.table_scale import NumberColumn, TableScale
from etude.errors import EtudeError, Interrupted
from etude.pretraining import make_objective
from etude.pretraining.swapped_cells import (
    DIFFERS,
    DRAWN,
    TRUE_CATEGORIES,
    TRUE_NUMBERS,
    cells_of,
    swap_cells,
    take_cells,
)
from etude.runs.build import build
from etude.runs.pretrain import as_pretraining, build_pretraining


def write_table(path: Path, n: int = 400) -> None:
    """Columns that depend on one hidden number, so that a swapped cell is seen beside the others."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "c", "job", "label"])
        for _ in range(n):
            hidden = rng.normal()
            job = ("low", "middle", "high")[int(np.digitize(hidden, [-0.5, 0.5]))]
            b = "" if rng.random() < 0.1 else f"{-2 * hidden + 0.1 * rng.normal():.3f}"
            numbers = [f"{hidden + 0.1 * rng.normal():.3f}", b, f"{3 * hidden + 0.1 * rng.normal():.3f}"]
            writer.writerow([*numbers, job, "yes" if hidden > 0 else "no"])


def table_config(**sections: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "data": {"train": "rows.csv", "validation": 0.25},
        "backbone": {"kind": "table", "model": "mlp", "n_blocks": 2, "d_block": 32, "dropout": 0.0},
        "train": {"epochs": 3, "batch_size": 32, "precision": "fp32"},
        "pretrain": {"epochs": 12, "head": 64},
        "optimizer": {"lr": 3e-3},
        "run": {"dir": "run", "baselines": False, "resamples": 0, "report": False},
    }
    return {name: config.get(name, {}) | sections.get(name, {}) for name in {*config, *sections}}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_table(tmp_path / "rows.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_shares_and_other_rows() -> None:
    drawn, rows = swap_cells(500, 8, 0.15, np.random.default_rng(0))
    own = np.arange(500)[:, None]
    assert drawn.mean() == pytest.approx(0.15, abs=0.02)
    assert (rows != own)[drawn].all()
    assert (rows == np.broadcast_to(own, rows.shape))[~drawn].all()
    alone, itself = swap_cells(1, 3, 0.9, np.random.default_rng(0))
    assert alone.any()
    assert (itself == 0).all()


def test_a_number_and_the_sign_that_it_is_missing_are_one_cell() -> None:
    def number(name: str, *, indicator: bool) -> NumberColumn:
        return NumberColumn(name, -9.0, 9.0, center=0.0, spread=1.0, median=0.0, indicator=indicator)

    numbers = (number("a", indicator=False), number("b", indicator=True), number("c", indicator=True))
    scale = TableScale(numbers, ())
    assert cells_of(scale) == ([0, 1, 2, 1, 2], [])
    values = torch.arange(15.0).reshape(3, 5)
    _, rows = swap_cells(3, 3, 0.7, np.random.default_rng(1))
    changed = take_cells(values, rows, cells_of(scale)[0])
    assert torch.equal(changed[:, 1] - values[:, 1], changed[:, 3] - values[:, 3])


@pytest.mark.parametrize("objective", ["replaced_tokens", "denoise"])
def test_losses_by_hand(objective: str, project: Path) -> None:
    said = {"objective": objective, "share": 0.4}
    run = build_pretraining(as_pretraining(parse_config(table_config(pretrain=said))))
    pretext = run.backbone.eval()
    rows = np.arange(20)
    inputs = run.engine.validation.inputs(rows)
    with torch.no_grad():
        found = pretext(inputs).logits
        out = pretext.head(pretext.inner.features(inputs))
    if objective == "replaced_tokens":
        truth = inputs[DIFFERS].float()
        sums = -(truth * F.logsigmoid(out) + (1 - truth) * F.logsigmoid(-out)).sum(dim=1)
        counts, right = torch.full((20,), 4.0), ((out > 0) == inputs[DIFFERS]).sum(dim=1)
    else:
        asked = inputs[DRAWN].float()
        squares = (out[:, :3] - inputs[TRUE_NUMBERS][:, :3]).square()
        true = inputs[TRUE_CATEGORIES][:, 0]
        surprise = -out[:, 3:].log_softmax(dim=1)[torch.arange(20), true]
        sums = (squares * asked[:, :3]).sum(dim=1) + surprise * asked[:, 3]
        counts = asked.sum(dim=1)
        right = ((out[:, :3] - inputs[TRUE_NUMBERS][:, :3]).abs() < 0.5).float() * asked[:, :3]
        right = right.sum(dim=1) + (out[:, 3:].argmax(dim=1) == true) * asked[:, 3]
    assert torch.allclose(found, torch.stack([sums, counts, right.float()], dim=1), atol=1e-5)


def test_what_differs_is_what_was_drawn_and_is_not_equal(project: Path) -> None:
    run = build_pretraining(as_pretraining(parse_config(table_config(pretrain={"share": 0.5}))))
    inputs = run.engine.validation.inputs(np.arange(40))
    assert not (inputs[DIFFERS] & ~inputs[DRAWN]).any()
    categories = inputs["categories"][:, 0] != inputs[TRUE_CATEGORIES][:, 0]
    assert torch.equal(categories, inputs[DIFFERS][:, 3])
    numbers = (inputs["numbers"] != inputs[TRUE_NUMBERS])[:, :3]
    assert (numbers <= inputs[DIFFERS][:, :3]).all()


@pytest.mark.parametrize(
    ("objective", "model"),
    [
        ("replaced_tokens", "mlp"),
        ("denoise", "mlp"),
        ("denoise", "ft_transformer"),
        ("replaced_tokens", "tab_transformer"),
    ],
)
def test_it_learns_and_the_main_job_goes_on_from_it(objective: str, model: str, project: Path) -> None:
    small = {"model": model, "d_block": 16, "n_heads": 2} if model != "mlp" else {}
    result = etude.pretrain(
        table_config(pretrain={"objective": objective, "epochs": 8}, backbone=small, optimizer={"lr": 5e-3})
    )
    assert result.losses["after"]["loss"] < result.losses["before"]["loss"] * 0.85
    main = parse_config(table_config(backbone=small | {"path": "run"}, run={"dir": "second"}))
    begun = build(main)
    saved = load_file(result.path / "model.safetensors")
    found = begun.backbone.network.state_dict()
    assert all(torch.equal(value, saved[f"network.{name}"]) for name, value in found.items())


def test_the_main_job_reads_its_columns_as_the_pre_training_did(project: Path) -> None:
    etude.pretrain(table_config(pretrain={"epochs": 1}))
    told = json.loads(Path("run/model/etude.json").read_text())
    lines = Path("rows.csv").read_text().splitlines()
    few = [lines[0], *lines[1:41]]
    Path("few.csv").write_text("\n".join(few).replace("low", "lowest") + "\n")
    data = {"train": "few.csv"}
    config = table_config(data=data, backbone={"path": "run/model"}, run={"dir": "second"})
    run = build(parse_config(config))
    assert json.loads(json.dumps(run.data.fitted.to_json())) == told["input"]["columns"]
    result = etude.train(config)
    again = json.loads((result.folder / "model" / "etude.json").read_text())
    assert again["input"]["columns"] == told["input"]["columns"]
    Path("lacking.csv").write_text("a,b,job,label\n" + "1,2,low,yes\n2,3,high,no\n" * 10)
    with pytest.raises(EtudeError, match=r"'c'"):
        build(parse_config(config | {"data": {"train": "lacking.csv"}}))


def test_a_stopped_pre_training_ends_with_the_same_bits(project: Path) -> None:
    config = table_config(pretrain={"epochs": 3}, train={"save_every": "4st", "log_every": "1st"})
    whole = etude.pretrain(config)

    class Stop(Reporter):
        def line(self, text: str) -> None:
            if text.startswith("validation after step 20"):
                raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        etude.pretrain(config | {"run": config["run"] | {"dir": "stopped"}}, reporter=Stop())
    resumed = etude.resume("stopped")
    assert resumed.losses == whole.losses
    weights = [load_file(result.path / "model.safetensors") for result in (whole, resumed)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_bad_input_is_one_sentence(project: Path) -> None:
    Path("one.csv").write_text("a,label\n" + "".join(f"{i},x\n{i + 0.5},y\n" for i in range(20)))
    with pytest.raises(EtudeError, match=r"exchanges cells of columns and the table has 1 column"):
        etude.pretrain(table_config(data={"train": "one.csv"}))
    with pytest.raises(EtudeError, match=r"'mlm' does not fit, and backbone\.kind = 'table'"):
        etude.pretrain(table_config(pretrain={"objective": "mlm"}))
    with pytest.raises(EtudeError, match=r"backbone\.path = 'nowhere' holds no saved table model"):
        etude.pretrain(table_config(backbone={"path": "nowhere"}))
    with pytest.raises(EtudeError, match=r"kind = 'trees' learns without labels by: there is none"):
        make_objective(PretrainConfig(), "trees")
