"""Masked language modelling: the masking, the head, and a backbone that has learned."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

import etude
from etude.config.load import parse_config
from etude.core import phases
from etude.core.batch import Batch
from etude.core.engine import Engine
from etude.core.observe import Reporter
from etude.core.rng import Moment
from etude.errors import ConfigError, EtudeError, Interrupted, RunError
from etude.pretraining.masked_tokens import NOT_ASKED, ORIGINAL, mask_tokens
from etude.pretraining.pretext import mean_losses
from etude.runs.folder import find_model, read_metadata
from etude.runs.pretrain import acts, as_pretraining, build_pretraining
from tiny_texts import text_config, write_texts


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


def test_shares_of_masked_random_and_kept_tokens() -> None:
    ids = np.full((400, 50), 7)
    words = np.ones_like(ids, dtype=bool)
    words[:, 0] = False
    changed, original = mask_tokens(
        ids, words, 0.15, mask_id=4, allowed=np.arange(90, 99), rng=np.random.default_rng(0)
    )
    asked = original != NOT_ASKED
    assert not asked[:, 0].any()
    assert asked[:, 1:].mean() == pytest.approx(0.15, abs=0.01)
    assert (original[asked] == 7).all()
    assert (changed[~asked] == 7).all()
    found = changed[asked]
    assert (found == 4).mean() == pytest.approx(0.8, abs=0.02)
    assert np.isin(found, np.arange(90, 99)).mean() == pytest.approx(0.1, abs=0.02)
    assert (found == 7).mean() == pytest.approx(0.1, abs=0.02)


def test_the_loss_is_that_of_transformers(project: Path) -> None:
    config = as_pretraining(parse_config(text_config(pretrain={"share": 0.4})))
    run = build_pretraining(config)
    moment = Moment(0, 3, 0, 6, 12)
    rows = np.arange(16)
    batch = phases_batch(run.engine, rows)
    for augment in run.plan.many(phases.AUGMENT):
        batch = augment(batch, moment)
        again = augment(phases_batch(run.engine, rows), moment)
    assert torch.equal(batch.inputs["input_ids"], again.inputs["input_ids"])
    run.backbone.eval()
    with torch.no_grad():
        output = run.backbone(batch.inputs)
    losses = mean_losses(output, batch, moment).sum(dim=1)
    run.backbone.save(project / "saved", {"pretrained": []})
    reference = AutoModelForMaskedLM.from_pretrained(project / "saved").eval()
    inputs = {name: batch.inputs[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        theirs = reference(**inputs, labels=batch.inputs[ORIGINAL]).loss
    assert (losses * batch.weights).sum() / batch.weights.sum() == pytest.approx(float(theirs), rel=1e-5)


def phases_batch(engine: Engine, rows: np.ndarray) -> Batch:
    ids = torch.from_numpy(rows)
    return Batch(engine.train.inputs(rows), engine.train.targets[ids], engine.train.weights[ids], ids)


def test_the_head_shares_the_embeddings(project: Path) -> None:
    run = build_pretraining(as_pretraining(parse_config(text_config())))
    names = [name for name, _ in run.backbone.named_parameters()]
    embedding = run.backbone.inner.network.get_input_embeddings().weight
    assert sum(p is embedding for p in run.backbone.parameters()) == 1
    assert not [name for name in names if "decoder.weight" in name]
    decoder = run.backbone.head.classifier.get_output_embeddings()
    features = torch.randn(2, 32)
    expected = features @ embedding.T + decoder.bias
    assert torch.allclose(decoder(features), expected)


def test_it_learns_and_the_main_job_goes_on_from_it(project: Path) -> None:
    result = etude.pretrain(text_config(train={"save_every": "1dur"}))
    before, after = result.losses["before"], result.losses["after"]
    assert after["loss"] < before["loss"] - 1.0
    assert {"config.toml", "plan.txt", "environment.json", "metrics.jsonl", "summary.json", "model"} <= {
        file.name for file in result.folder.iterdir()
    }
    assert "augment:mlm -> loss:mlm" in (result.folder / "plan.txt").read_text()
    summary = json.loads((result.folder / "summary.json").read_text())
    assert summary["rows"] == {"train": 96, "held_out": 24}
    reference = AutoModelForMaskedLM.from_pretrained(result.path)
    saved, first = reference.state_dict(), load_file(project / "tiny" / "model.safetensors")
    assert not torch.equal(
        saved["bert.embeddings.word_embeddings.weight"], first["embeddings.word_embeddings.weight"]
    )
    pooler = load_file(result.path / "model.safetensors")["bert.pooler.dense.weight"]
    assert torch.equal(pooler, first["pooler.dense.weight"])

    trained = etude.train(
        text_config(backbone={"path": str(result.path)}, run={"dir": "second"}, train={"epochs": 8})
    )
    assert trained.scores["validation"]["accuracy"] > 0.9
    with pytest.raises(RunError, match=r"knows no labels yet; train it with backbone\.path"):
        read_metadata(find_model(result.folder))
    # Pre-training goes on where it was: head and all.
    on = build_pretraining(as_pretraining(parse_config(text_config(backbone={"path": str(result.path)}))))
    assert on.engine.evaluate()["loss"] == pytest.approx(after["loss"], abs=1e-4)


def test_a_stopped_pre_training_ends_with_the_same_bits(project: Path) -> None:
    short = {"epochs": 2, "lr": 3e-3}
    config = text_config(pretrain=short, train={"log_every": "1st"})
    whole = etude.pretrain(config)
    run = {"dir": "stopped"}
    stopped = as_pretraining(parse_config(config | {"run": config["run"] | run}))

    class Stop(Reporter):
        def line(self, text: str) -> None:
            if text.startswith("validation after step 6"):
                raise KeyboardInterrupt

    reporter = Stop()
    with pytest.raises(Interrupted, match="go on with: etude resume stopped"):
        etude.pretrain(stopped, reporter=reporter)
    resumed = etude.resume("stopped")
    assert resumed.losses == whole.losses
    weights = [load_file(result.path / "model.safetensors") for result in (whole, resumed)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    logs = [(result.folder / "metrics.jsonl").read_text() for result in (whole, resumed)]
    assert logs[0] == logs[1]


def test_micro_batches_change_nothing(project: Path) -> None:
    settings = {"pretrain": {"epochs": 1, "lr": 3e-3}, "backbone": {"dropout": 0.0}}
    found = []
    for size in (16, 5):
        train = {"micro_batch_size": size, "log_every": "1st"}
        run = build_pretraining(as_pretraining(parse_config(text_config(**settings, train=train))))
        run.engine.fit()
        found.append(run.backbone.state_dict())
    assert all(torch.allclose(value, found[1][name], atol=1e-5) for name, value in found[0].items())


def test_rows_without_labels_join_and_a_file_needs_no_label(project: Path) -> None:
    lines = (project / "messages.csv").read_text().splitlines()
    alone = [line.split(",")[0] for line in lines]
    Path("alone.csv").write_text("\n".join(alone) + "\n")
    both = build_pretraining(as_pretraining(parse_config(text_config(data={"unlabelled": "alone.csv"}))))
    assert len(both.engine.train) == 96 + 120
    inputs = {"train": "alone.csv", "validation": False}
    only = build_pretraining(as_pretraining(parse_config(text_config(data=inputs))))
    assert (len(only.engine.train), len(only.engine.validation)) == (108, 12)


def test_techniques_of_labels_rest() -> None:
    assert [name for name in ("ema", "warmup", "sam", "no_decay", "length_buckets") if not acts(name)] == []
    labelled = ("focal", "label_smoothing", "mixup", "linear_probe", "head_lr", "training_dynamics", "soup")
    assert [name for name in labelled if acts(name)] == []


def test_averages_and_perturbations_compose(project: Path) -> None:
    techniques = {"ema": {}, "sam": {}, "label_smoothing": {}, "freeze": {"until": "1dur"}}
    config = text_config(techniques=techniques, pretrain={"epochs": 1}, schedule={"name": "one_cycle"})
    result = etude.pretrain(config)
    assert "perturb:sam" in result.plan
    assert "average:ema" in result.plan
    assert "label_smoothing" not in result.plan
    assert result.losses["after"]["loss"] < result.losses["before"]["loss"]


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"pretrain": {"objective": "denoise"}}, r"pretrain.objective = 'denoise' does not fit"),
        ({"pretrain": {"share": 1.5}}, r"pretrain.share"),
        ({"pretrain": {"lr": 0.0}}, r"pretrain.lr"),
        ({"pretrain": {"shar": 0.1}}, r"shar.*did you mean.*share"),
        ({"data": {"train": "absent.csv"}}, r"absent\.csv"),
        ({"data": {"labels": "absent", "test": 0.2}}, r"data\.test = 0\.2 takes rows out of messages\.csv"),
    ],
)
def test_bad_input_is_one_sentence(sections: dict[str, dict[str, object]], words: str, project: Path) -> None:
    with pytest.raises(EtudeError, match=words) as raised:
        etude.pretrain(text_config(**sections))
    assert "\n" not in str(raised.value)
    assert not Path("run").exists()


def test_a_tokenizer_without_a_mask_token_is_refused(project: Path) -> None:
    shutil.copytree("tiny", "maskless")
    file = Path("maskless/tokenizer_config.json")
    said = json.loads(file.read_text())
    del said["mask_token"]
    file.write_text(json.dumps(said))
    assert AutoTokenizer.from_pretrained("maskless").mask_token is None
    with pytest.raises(
        ConfigError, match="hides tokens behind a mask token and the tokenizer of BertModel has none"
    ):
        etude.pretrain(text_config(backbone={"path": "maskless"}))


def test_a_run_that_pre_trains_is_not_trained(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.job = 'pretrain' learns no label"):
        etude.train(text_config(run={"job": "pretrain"}))
