"""The command line from a data file to predictions, on a BERT of two tiny layers."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from etude import cli

SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
WORDS = ["where", "is", "my", "parcel", "give", "me", "money", "back", "please", "now", "a", "b", "c", "d"]
TEXTS = {"order": "where is my parcel", "refund": "give me my money back"}
CONFIG = """
[data]
train = "messages.csv"
test = "held_out.csv"
validation = 0.25

[backbone]
path = "tiny"
pooling = "mean"
max_length = 16

[train]
epochs = 2
batch_size = 8
precision = "fp32"

[run]
dir = "runs/tiny"
"""


def write_messages(file: Path, endings: str) -> None:
    rows = [f"{text} {ending},{label}" for ending in endings.split() for label, text in TEXTS.items()]
    file.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")


def write_backbone(folder: Path) -> None:
    vocabulary = {word: number for number, word in enumerate([*SPECIAL.values(), *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained(folder)


def etude(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(list(arguments))
    return int(left.value.code or 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, config and a finished run; the commands are run inside it."""
    folder = tmp_path_factory.mktemp("project")
    write_messages(folder / "messages.csv", "a b c d now please")
    write_messages(folder / "held_out.csv", "[MASK]")
    (folder / "run.toml").write_text(CONFIG, encoding="utf-8")
    write_backbone(folder / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert etude("train", "run.toml", "--quiet") == 0
    return folder


@pytest.fixture
def project(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    return trained


def test_train_prints_scores_and_what_comes_next(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert etude("train", "run.toml", "--set", "run.dir=runs/again") == 0
    out, _ = capsys.readouterr()
    assert out.splitlines()[0].split() == ["validation", "test"]
    assert "accuracy" in out
    assert "etude predict runs/again FILE --output labels.csv" in out


def test_train_gives_one_json_object(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert etude("train", "run.toml", "--set", "run.dir=runs/json", "--set", "train.epochs=1", "--json") == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["folder"] == "runs/json"
    assert set(result["scores"]) == {"validation", "test"}
    assert result["seconds"] > 0
    assert "loss:" in result["plan"]
    assert all("event" in json.loads(line) for line in err.splitlines())


def test_a_used_folder_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert etude("train", "run.toml") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "runs/tiny" in err


def test_evaluate_scores_another_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert etude("evaluate", "runs/tiny", "messages.csv", "--json") == 0
    scores = json.loads(capsys.readouterr().out)
    assert 0.0 <= scores["accuracy"] <= 1.0
    assert etude("evaluate", "runs/tiny", "--quiet") == 0
    assert capsys.readouterr().out.split()[0] == "test"


def test_predict_writes_a_file_in_the_given_order(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert etude("predict", "runs/tiny", "messages.csv", "--output", "labels.csv") == 0
    assert capsys.readouterr().out == "12 rows in labels.csv\n"
    given = Path("messages.csv").read_text(encoding="utf-8").splitlines()
    written = Path("labels.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in written] == [line.split(",")[0] for line in given]


def test_predict_reads_standard_input(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = io.TextIOWrapper(io.BytesIO(b"where is my parcel\ngive me my money back\n"))
    monkeypatch.setattr("sys.stdin", lines)
    assert etude("predict", "runs/tiny", "--quiet") == 0
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["text"] for row in rows] == ["where is my parcel", "give me my money back"]
    assert all(row["predicted"] in TEXTS for row in rows)
    assert err == ""


def test_a_missing_column_names_the_closest(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert etude("predict", "runs/tiny", "messages.csv", "--text", "texts") == 2
    assert "did you mean 'text'?" in capsys.readouterr().err


def test_validate_and_explain_train_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = sorted(Path("runs").iterdir())
    assert etude("validate", "run.toml", "--set", "run.dir=runs/new") == 0
    assert "run.toml is valid" in capsys.readouterr().out
    assert etude("explain", "run.toml", "--set", "run.dir=runs/new", "--json") == 0
    assert json.loads(capsys.readouterr().out)["task"] == "binary"
    assert etude("explain", "run.toml", "--set", "run.dir=runs/new") == 0
    assert "optimizer" in capsys.readouterr().out
    assert sorted(Path("runs").iterdir()) == there


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer.name=adamv", "adamv"),
        ("optimizer.lrr=1", "unknown key 'lrr' in [optimizer]; did you mean 'lr'?"),
        ("techniques.label_smoothin.smoothing=0.1", "did you mean 'label_smoothing'?"),
        ("techniques.label_smoothing.smoothing=2", "must be a number of at least 0 and below 1"),
        ("data.train=gone.csv", "gone.csv"),
        ("data.text=texts", "did you mean 'text'?"),
        ("backbone.path=nowhere/to-be-found", "nowhere/to-be-found"),
    ],
)
def test_validate_names_the_mistake(
    override: str, words: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert etude("validate", "run.toml", "--set", override) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1


def test_a_run_is_explained_on_one_page(trained: Path) -> None:
    run = trained / "runs" / "tiny"
    summary = json.loads((run / "summary.json").read_text())
    assert set(summary["baselines"]) == {"zero_rule", "tfidf_logistic", "frozen_logistic"}
    verdicts = json.loads((run / "diagnosis.json").read_text())
    assert [verdict["step"] for verdict in verdicts][:5] == [
        "convergence", "fit", "baselines", "failures", "confusion",
    ]  # fmt: skip
    page = (run / "report.html").read_text(encoding="utf-8")
    assert len(page) < 3_000_000
    assert "where is my parcel" in page
    assert (run / "losses.parquet").exists()
