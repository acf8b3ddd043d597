"""Interpretation: sums by hand, completeness, words of the original text, and what the commands print."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_project import etude, write_project

from etude.backbones.text import TextBackbone, load_text_backbone
from etude.config.run import BackboneConfig
from etude.core.task import Multiclass, Multilabel, Task
from etude.errors import ConfigError, DataError
from etude.evaluation.attribution import attribute, log_odds, words_of
from etude.runs.interpret import Question, interpret

LABELS = ["order", "refund", "other"]
TEXT = "give me my money back"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    write_project(folder)
    return folder


def make_backbone(folder: Path, task: Task, **settings: Any) -> TextBackbone:
    config = BackboneConfig(path=str(folder / "tiny"), pooling="mean", max_length=16, **settings)
    return load_text_backbone(config, task, seed=0).eval()


def save(backbone: TextBackbone, task: Task, folder: Path, **columns: Any) -> Path:
    """Save a model that nobody has trained."""
    columns = {"text": "text", "text_pair": None, "numeric": None, "max_length": 16} | columns
    several = task.kind == "multilabel"
    decision = {"kind": "fixed", "threshold": 0.5} if several else {"kind": "argmax"}
    metadata = {"task": task.kind, "labels": list(task.labels), "input": columns, "decision": decision}
    backbone.save(folder, {"format": 1, **metadata})
    return folder


def let_one_word_decide(backbone: TextBackbone, word: str) -> None:
    """Make all words alike but one, let layers hand on what they get, and let the head look for that word."""
    embeddings = backbone.network.embeddings
    number = backbone.tokenizer.get_vocab()[word]
    with torch.no_grad():
        for layer in backbone.network.encoder.layer:
            for dense in (layer.attention.output.dense, layer.output.dense):
                dense.weight.zero_()
                dense.bias.zero_()
        embeddings.position_embeddings.weight.zero_()
        table = embeddings.word_embeddings.weight
        table.copy_(table[:1].expand_as(table).clone())
        table[number] = torch.linspace(-1.0, 1.0, table.shape[1])
        features = [backbone.features({"input_ids": torch.tensor([[n]])})[0] for n in (number, 0)]
        backbone.head.out.weight.zero_()
        aim = features[0] - features[1]
        backbone.head.out.weight[1] = aim
        # One word in ten is enough.
        backbone.head.out.bias[1] = -aim @ (features[1] + 0.1 * aim)


@pytest.fixture(scope="module")
def money_model(folder: Path) -> Path:
    """A model for which only ``money`` speaks for ``refund``."""
    task = Multiclass(LABELS)
    backbone = make_backbone(folder, task)
    let_one_word_decide(backbone, "money")
    return save(backbone, task, folder / "money")


def double_precision(folder: Path, task: Task) -> tuple[TextBackbone, dict[str, torch.Tensor], torch.Tensor]:
    backbone = make_backbone(folder, task).double()
    with torch.no_grad():  # larger than at the start of training, so that the path bends
        for value in backbone.parameters():
            value.mul_(1.5)
    ids = torch.tensor([[2, 9, 10, 11, 12, 3]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return backbone, inputs, torch.tensor([[2, 0, 0, 0, 0, 3]])


@pytest.mark.parametrize("task", [Multiclass(LABELS), Multilabel(LABELS)])
def test_integrated_gradients_equal_a_riemann_sum_by_hand(folder: Path, task: Task) -> None:
    backbone, inputs, empty_ids = double_precision(folder, task)
    found = attribute(backbone, inputs, empty_ids, lambda logits: log_odds(task, logits, 1), steps=32)
    embedding, empty = (
        backbone.embed({"input_ids": ids}).detach() for ids in (inputs["input_ids"], empty_ids)
    )
    n = 500
    shares = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    points = (empty + shares[:, None, None] * (embedding - empty)).requires_grad_()
    given = {name: value.expand(n, -1) for name, value in inputs.items()}
    logits = backbone.head(backbone.features_from(points, given))
    odds = logits[:, 1] if task.kind == "multilabel" else logits[:, 1] - logits[:, [0, 2]].logsumexp(1)
    (slopes,) = torch.autograd.grad(odds.sum(), points)
    by_hand = (slopes.mean(dim=0) * (embedding - empty)[0]).sum(dim=-1)
    assert torch.allclose(found.values, by_hand, rtol=0, atol=1e-5 * float(by_hand.abs().max()))
    assert abs(found.error) < 1e-6 * abs(found.score - found.empty_score)
    assert found.values[[0, -1]].tolist() == [0.0, 0.0]


def test_gradient_x_input_equals_autograd_by_hand(folder: Path) -> None:
    task = Multiclass(LABELS)
    backbone, inputs, empty_ids = double_precision(folder, task)
    found = attribute(
        backbone, inputs, empty_ids, lambda logits: log_odds(task, logits, 2), method="gradient_x_input"
    )
    embedding = backbone.embed(inputs).detach().requires_grad_()
    probability = backbone.head(backbone.features_from(embedding, inputs)).softmax(dim=1)[0, 2]
    (slope,) = torch.autograd.grad((probability / (1 - probability)).log(), embedding)
    assert torch.allclose(found.values, (slope * embedding).sum(dim=-1)[0].detach(), atol=1e-12)


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_x_input"])
def test_the_word_that_decides_comes_first(money_model: Path, method: Any) -> None:
    (found,) = interpret(money_model, [TEXT], question=Question(["refund"], method))
    ranked = sorted(found.words, key=lambda word: -word.attribution)
    assert (ranked[0].text, ranked[0].start, ranked[0].end) == ("money", 11, 16)
    assert ranked[0].attribution > 0
    assert found.predicted == ["refund"]
    if method == "integrated_gradients":
        others = [abs(word.attribution) for word in ranked[1:]]
        assert max(others) < 1e-5 * ranked[0].attribution
        total = sum(word.attribution for word in found.words) + found.special
        assert total == pytest.approx(found.score - found.empty_score, rel=1e-3)
        assert found.error == pytest.approx(total - (found.score - found.empty_score), abs=1e-9)
    else:
        assert found.error is None


def test_more_steps_leave_less_error(folder: Path) -> None:
    task = Multiclass(LABELS)
    backbone, inputs, empty_ids = double_precision(folder, task)
    errors = [
        abs(attribute(backbone, inputs, empty_ids, lambda z: log_odds(task, z, 0), steps=steps).error)
        for steps in (1, 4, 16)
    ]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


def test_predicted_labels_are_explained_and_several_texts(money_model: Path) -> None:
    found = interpret(money_model, ["money", "where is my parcel"])
    assert [one.label for one in found] == ["refund", "order"]
    found = interpret(money_model, ["money", "parcel"], question=Question(["refund", "order"], steps=2))
    assert [one.label for one in found] == ["refund", "order"] * 2
    assert found[0].probability > 0.5 > found[1].probability


def test_a_long_text_is_cut_and_says_so(money_model: Path) -> None:
    text = "money " * 16_667
    (found,) = interpret(money_model, [text], question=Question(steps=2))
    (passage,) = found.passages
    assert len(text) > 100_000
    assert passage.n_cut == len(text) - passage.end
    assert (passage.start, passage.end) == (0, 16 * 6 - 1)  # the tiny tokenizer adds no special tokens
    assert len(passage.words) == 16


@pytest.mark.parametrize("text", ["😀👍🏽👩‍👩‍👧 🇩🇪", "אני רוצה את הכסף שלי בחזרה", "  money\n\tmoney  "])
def test_words_are_cut_out_of_the_original_text(money_model: Path, text: str) -> None:
    (found,) = interpret(money_model, [text], question=Question(steps=2))
    (passage,) = found.passages
    assert passage.n_cut == 0
    assert [word.text for word in passage.words] == [text[word.start : word.end] for word in passage.words]
    assert "".join(word.text for word in passage.words) == "".join(text.split())


def test_pieces_of_words_and_of_emoji_are_merged() -> None:
    text = "unbelievable don't 👩‍👧 我们 it's"
    spans = [(0, 2), (2, 7), (7, 12), (13, 16), (16, 17), (17, 18), (19, 20), (19, 20), (20, 21), (21, 22),
             (23, 24), (24, 25), (26, 28), (28, 30)]  # fmt: skip
    words = words_of(text, spans, [1.0] * len(spans))
    assert [(word.text, word.attribution) for word in words] == [
        ("unbelievable", 3.0), ("don't", 3.0), ("👩‍👧", 4.0), ("我", 1.0), ("们", 1.0), ("it's", 2.0)
    ]  # fmt: skip


def test_pairs_numbers_and_what_is_missing(folder: Path, money_model: Path) -> None:
    task = Multiclass(LABELS)
    pair_model = save(make_backbone(folder, task), task, folder / "pairs", text_pair="answer")
    (found,) = interpret(pair_model, ["give me"], ["money now"], Question(steps=2))
    assert [[word.text for word in passage.words] for passage in found.passages] == [
        ["give", "me"], ["money", "now"]
    ]  # fmt: skip
    with pytest.raises(DataError, match="reads pairs of texts and was given single texts"):
        interpret(pair_model, ["give me"])
    with pytest.raises(DataError, match="reads single texts and was given pairs"):
        interpret(money_model, ["give me"], ["money"])
    with pytest.raises(DataError, match="there are 2 texts and 1 second ones"):
        interpret(pair_model, ["give me", "b"], ["money"])
    with pytest.raises(DataError, match="text 2 is empty"):
        interpret(money_model, ["give me", "  "])
    with pytest.raises(ConfigError, match="no mask token; make the empty text of pad tokens"):
        interpret(money_model, ["give me"], question=Question(empty="mask"))


def test_questions_are_checked() -> None:
    with pytest.raises(
        ConfigError, match="'gradients_x_input' is no method; did you mean 'gradient_x_input'"
    ):
        Question(method="gradients_x_input")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'nothing' is no empty text; there are pad, mask"):
        Question(empty="nothing")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="steps is 0; a number from 1 to 1,000 is expected"):
        Question(steps=0)


def test_without_captum_it_says_how_to_get_it(money_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ConfigError, match=r"needs the package 'captum', .* pip install 'etude\[interpret\]'"):
        interpret(money_model, ["money"])


def test_the_command_prints_bars_and_json(money_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert etude("interpret", str(money_model), "--text", TEXT, "--label", "refund") == 0
    printed = capsys.readouterr().out
    assert TEXT in printed
    first = next(line for line in printed.splitlines() if line.startswith("  money"))
    assert re.search(r"money +\+\d+\.\d{3}  █{20}", first)
    assert "\x1b" not in printed
    assert "raise --steps" not in printed
    assert etude("interpret", str(money_model), "--text", "money", "--steps", "1") == 0
    assert "raise --steps for a smaller one" in capsys.readouterr().out
    assert etude("interpret", str(money_model), "--text", TEXT, "--text", "parcel", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["label"] for one in found] == ["refund", "order"]
    assert found[0]["passages"][0]["words"][3]["text"] == "money"


def test_the_command_says_what_is_wrong(money_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(money_model)
    assert etude("interpret", model, "--text", TEXT, "--label", "refnd") == 2
    assert "'refnd' does not occur in the training part; did you mean 'refund'?" in capsys.readouterr().err
    assert etude("interpret", model) == 2
    assert "from --text or from --file, and nothing was given" in capsys.readouterr().err


def test_a_file_becomes_a_page_with_nothing_but_text_in_it(
    money_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, page = tmp_path / "texts.jsonl", tmp_path / "why.html"
    texts = ["<script>alert(1)</script> money", "הכסף שלי money", "not shown"]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    arguments = ["interpret", str(money_model), "--file", str(file), "--rows", "2", "--output", str(page)]
    assert etude(*arguments) == 0
    printed = capsys.readouterr()
    assert "the first 2 rows" in printed.err
    html = page.read_text(encoding="utf-8")
    assert "alert" in html
    assert "<script>alert" not in html
    assert 'dir="auto"' in html
    assert "הכסף" in html
    assert "not shown" not in html
    assert etude(*arguments) == 2
    assert "exists already" in capsys.readouterr().err
