"""Word edits: each edit by hand, special tokens untouched, lengths and masks that fit, keyed draws."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from etude.core.batch import Batch
from etude.core.phases import AUGMENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context
from etude.techniques.augment.word_edits import (
    WordEdits,
    WordEditsConfig,
    deleted,
    inserted,
    nearest,
    swapped,
    vocabulary_size,
)
from etude.testing.tiny import TinyTransformer

CLS, SEP = 1, 2
EDITS = ("replace", "insert", "swap", "delete")


def edit(context: Context, only: str, **settings: Any) -> Callable[[Batch, Moment], Batch]:
    plan = Plan(context)
    switches = {name: name == only for name in EDITS}
    plan.attach(WordEdits(WordEditsConfig(**{"texts": 1.0, **switches, **settings})))
    return plan.many(AUGMENT)[0]


def batch_of(rows: list[list[int]]) -> Batch:
    n, length = len(rows), max(map(len, rows))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    inputs = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    return Batch(inputs, torch.ones(n, 1), torch.ones(n), torch.arange(n))


def texts(batch: Batch) -> list[list[int]]:
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"].bool()
    return [row[real].tolist() for row, real in zip(ids, mask, strict=True)]


LONG = [CLS, *range(10, 20), SEP]
"""Ten words; with a share of 0.2, two are edited."""


def test_swap_exchanges_words_and_keeps_all(moment: Moment, tiny_context: Callable[..., Context]) -> None:
    found = texts(edit(tiny_context(), "swap", share=0.1)(batch_of([LONG] * 50), moment))
    for row in found:
        assert (row[0], row[-1], sorted(row)) == (CLS, SEP, sorted(LONG))
        assert sum(a != b for a, b in zip(row, LONG, strict=True)) == 2


def test_delete_takes_the_share_and_never_all(moment: Moment, tiny_context: Callable[..., Context]) -> None:
    found = texts(edit(tiny_context(), "delete", share=0.2)(batch_of([LONG] * 400), moment))
    for row in found:
        assert (row[0], row[-1]) == (CLS, SEP)
        assert row[1:-1] == [word for word in LONG[1:-1] if word in row]
    # 4,000 draws: four standard errors are 0.025.
    assert abs(sum(12 - len(row) for row in found) / 4000 - 0.2) < 0.025
    everything = texts(edit(tiny_context(), "delete", share=1.0)(batch_of([LONG] * 20), moment))
    assert {len(row) for row in everything} == {3}


def test_insert_repeats_the_texts_own_words(moment: Moment, tiny_context: Callable[..., Context]) -> None:
    batch = batch_of([LONG] * 50 + [[CLS, *range(4, 26), SEP]])
    found = texts(edit(tiny_context(), "insert", share=0.2)(batch, moment))
    for row in found[:50]:
        assert (len(row), row[0], row[-1], set(row)) == (14, CLS, SEP, set(LONG))
        rest = iter(row)
        assert all(word in rest for word in LONG), "the old words stand in their order"
    # The longest text has no room: its last words go, its special tokens stay.
    assert (len(found[50]), found[50][0], found[50][-1]) == (24, CLS, SEP)


def test_replace_takes_near_neighbours(moment: Moment, tiny_context: Callable[..., Context]) -> None:
    context = tiny_context()
    table = torch.nn.functional.normalize(context.backbone.embeddings.weight.detach(), dim=1).double()
    cosines = table @ table.T
    found = texts(edit(context, "replace", share=0.2, neighbours=3)(batch_of([LONG] * 50), moment))
    for row in found:
        changed = [(old, new) for old, new in zip(LONG, row, strict=True) if old != new]
        assert len(changed) == 2
        for old, new in changed:
            closer = [w for w in range(4, 30) if w != old and cosines[old, w] > cosines[old, new]]
            assert new >= 4
            assert len(closer) < 3


def test_a_longer_table_of_positions_is_not_the_vocabulary() -> None:
    model = TinyTransformer(3)
    model.places = nn.Embedding(90, 8)
    assert vocabulary_size(model) == 50


def test_neighbours_do_not_move_with_training(moment: Moment, tiny_context: Callable[..., Context]) -> None:
    """A resumed run, whose backbone is fresh when techniques are attached, finds the same ones."""
    context = tiny_context()
    augment, batch = edit(context, "replace", share=1.0), batch_of([LONG] * 8)
    first = texts(augment(batch, moment))
    with torch.no_grad():
        context.backbone.embeddings.weight.normal_()
    assert texts(augment(batch, moment)) == first


def test_half_of_the_texts_are_edited_by_default(
    moment: Moment, tiny_context: Callable[..., Context]
) -> None:
    batch = batch_of([LONG] * 400)
    found = texts(edit(tiny_context(), "swap", texts=0.5)(batch, moment))
    assert abs(sum(row != LONG for row in found) / 400 - 0.5) < 0.1


def test_all_four_edits_occur_and_masks_fit(moment: Moment, tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(WordEdits(WordEditsConfig(texts=1.0, share=0.2)))
    batch = batch_of([[*LONG[:-1], *range(20, 24), SEP], *[LONG] * 100, [CLS, SEP]])
    batch = batch.with_inputs(extra=torch.ones(102, 3))
    new = plan.many(AUGMENT)[0](batch, moment)
    found = texts(new)
    kinds = {
        "delete": any(len(row) < 12 for row in found[1:101]),
        "insert": any(len(row) == 14 for row in found[1:101]),
        "swap": any(sorted(row) == sorted(LONG) and row != LONG for row in found[1:101]),
        "replace": any(len(row) == 12 and set(row) - set(LONG) for row in found[1:101]),
    }
    assert all(kinds.values()), kinds
    assert found[101] == [CLS, SEP]
    assert torch.equal(new.inputs["input_ids"] == 0, new.inputs["attention_mask"] == 0)
    assert new.inputs["input_ids"].shape[1] == max(map(len, found)) <= 16
    assert torch.equal(new.inputs["extra"], batch.inputs["extra"])


def test_single_edits_by_hand() -> None:
    row, words = np.arange(6), np.array([1, 2, 3, 4])
    draws = np.random.default_rng(0)
    assert swapped(row, np.array([3]), 5, draws).tolist() == row.tolist()
    assert deleted(row, words, 0.0, draws).tolist() == row.tolist()
    assert inserted(row, words, 3, 6, draws).tolist()[0] == 0
    assert len(inserted(row, words, 3, 6, draws)) == 6
    table = torch.nn.functional.normalize(
        torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]), dim=1
    )
    assert nearest(table, torch.tensor([0, 3]), 1, never=torch.tensor([], dtype=torch.long)).tolist() == [
        [1],
        [2],
    ]


def test_same_step_same_draws_and_next_step_others(
    moment: Moment, tiny_context: Callable[..., Context]
) -> None:
    plan, batch = Plan(tiny_context()), batch_of([LONG] * 20)
    plan.attach(WordEdits(WordEditsConfig()))
    augment, before = plan.many(AUGMENT)[0], batch.inputs["input_ids"].clone()
    first = texts(augment(batch, moment))
    assert first == texts(augment(batch, moment))
    assert first != texts(augment(batch, replace(moment, step=8)))
    assert torch.equal(batch.inputs["input_ids"], before)


@pytest.mark.parametrize("settings", [{"share": 0.0}, {"texts": 0.0}, dict.fromkeys(EDITS, False)])
def test_nothing_to_do_is_absent(settings: dict[str, Any], tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(WordEdits(WordEditsConfig(**settings)))
    assert plan.entries() == []
