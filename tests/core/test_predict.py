"""Prediction: rows come back in their order, and the model in its mode."""

import numpy as np
import pytest
import torch

from etude.core.predict import CachedFeatures, Subset, batches_by_length, evaluation_mode, predict
from etude.testing.tiny import TinyTransformer, cpu_accelerator, tiny_examples, tiny_task

TASK = tiny_task("multiclass")
EXAMPLES = tiny_examples("text", TASK, n=40)


def row_by_row(model: TinyTransformer, what: str) -> torch.Tensor:
    with evaluation_mode(model):
        found = [getattr(model(EXAMPLES.inputs(np.array([i]))), what) for i in range(len(EXAMPLES))]
    return torch.cat(found)


@pytest.mark.parametrize("what", ["logits", "features"])
def test_rows_come_back_in_their_order(what: str) -> None:
    model = TinyTransformer(3, dropout=0.5)
    found = predict(model, EXAMPLES, cpu_accelerator(), features=what == "features")
    assert found.shape == (40, 3 if what == "logits" else 8)
    assert torch.allclose(found, row_by_row(model, what), atol=1e-6)


@pytest.mark.parametrize("max_tokens", [1, 9, 20, 1000])
def test_each_row_is_in_one_batch_and_batches_are_small(max_tokens: int) -> None:
    batches = list(batches_by_length(EXAMPLES.lengths, max_tokens, max_rows=7))
    assert sorted(np.concatenate(batches).tolist()) == list(range(40))
    for rows in batches:
        longest = EXAMPLES.lengths[rows].max()
        assert len(rows) == 1 or len(rows) * longest <= max_tokens
        assert len(rows) <= 7


def test_nothing_gives_no_batch() -> None:
    assert list(batches_by_length(np.array([], dtype=np.int64))) == []


def test_a_batch_is_sorted_so_that_the_first_needs_the_most_memory() -> None:
    batches = list(batches_by_length(EXAMPLES.lengths, max_tokens=27))
    longest = [EXAMPLES.lengths[rows].max() for rows in batches]
    assert longest == sorted(longest, reverse=True)


def test_the_mode_of_every_module_is_restored() -> None:
    model = TinyTransformer(3, dropout=0.5).train()
    model.layers[0].eval()
    before = {name: module.training for name, module in model.named_modules()}
    predict(model, EXAMPLES, cpu_accelerator())
    assert {name: module.training for name, module in model.named_modules()} == before
    assert set(before.values()) == {True, False}


def test_the_mode_is_restored_after_an_error() -> None:
    model = TinyTransformer(3).train()
    with pytest.raises(KeyError), evaluation_mode(model):
        model({})
    assert model.training
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_a_subset_is_its_rows() -> None:
    rows = np.array([7, 3, 30])
    part = Subset(EXAMPLES, rows)
    assert len(part) == 3
    assert torch.equal(part.targets, EXAMPLES.targets[[7, 3, 30]])
    model = TinyTransformer(3)
    whole = predict(model, EXAMPLES, cpu_accelerator())
    assert torch.allclose(predict(model, part, cpu_accelerator()), whole[[7, 3, 30]], atol=1e-6)


def test_cached_features_give_the_same_logits() -> None:
    model = TinyTransformer(3)
    features = predict(model, EXAMPLES, cpu_accelerator(), features=True)
    cached = CachedFeatures(EXAMPLES, features)
    assert len(cached) == 40
    found = predict(model, cached, cpu_accelerator())
    assert torch.allclose(found, predict(model, EXAMPLES, cpu_accelerator()), atol=1e-6)
