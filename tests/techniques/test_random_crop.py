"""Random crop: the window by hand, special tokens in their places, pairs, and keyed draws."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from etude.core.batch import Batch
from etude.core.phases import AUGMENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context
from etude.techniques.augment.random_crop import RandomCrop, RandomCropConfig, window

CLS, SEP = 1, 2


def crop(context: Context, smallest: float) -> Callable[[Batch, Moment], Batch]:
    plan = Plan(context)
    plan.attach(RandomCrop(RandomCropConfig(smallest=smallest)))
    return plan.many(AUGMENT)[0]


def batch_of(rows: list[list[int]], types: list[list[int]] | None = None) -> Batch:
    n, length = len(rows), max(map(len, rows))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    inputs = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    if types is not None:
        inputs["token_type_ids"] = torch.tensor([row + [0] * (length - len(row)) for row in types])
    return Batch(inputs, torch.ones(n, 1), torch.ones(n), torch.arange(n))


def texts(batch: Batch) -> list[list[int]]:
    """The real tokens of each row."""
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"].bool()
    return [row[real].tolist() for row, real in zip(ids, mask, strict=True)]


@pytest.mark.parametrize(
    ("n_words", "smallest", "size", "place", "expected"),
    [
        (10, 0.5, 0.0, 0.0, (0, 5)),
        (10, 0.5, 0.999, 0.999, (0, 10)),
        (10, 0.7, 0.0, 0.75, (3, 10)),
        (1, 0.1, 0.0, 0.9, (0, 1)),
        (3, 0.1, 0.0, 0.5, (1, 2)),
    ],
)
def test_window_by_hand(
    n_words: int, smallest: float, size: float, place: float, expected: tuple[int, int]
) -> None:
    assert window(n_words, smallest, size, place) == slice(*expected)


def test_what_stays_is_contiguous_between_its_special_tokens(
    moment: Moment, tiny_context: Callable[..., Context]
) -> None:
    words = list(range(4, 24))
    batch = batch_of([[CLS, *words, SEP]] * 200 + [[CLS, 9, SEP]])
    found = texts(crop(tiny_context(), 0.5)(batch, moment))
    assert found[-1] == [CLS, 9, SEP]
    lengths = set()
    for row in found[:-1]:
        assert (row[0], row[-1]) == (CLS, SEP)
        kept = row[1:-1]
        assert kept == list(range(kept[0], kept[0] + len(kept)))
        lengths.add(len(kept))
    assert lengths == set(range(10, 21))


def test_each_text_of_a_pair_has_a_window_and_types_follow(
    moment: Moment, tiny_context: Callable[..., Context]
) -> None:
    rows = [[CLS, 4, 5, 6, 7, SEP, 14, 15, 16, 17, SEP]] * 50
    batch = batch_of(rows, [[0] * 6 + [1] * 5] * 50)
    new = crop(tiny_context(), 0.5)(batch, moment)
    seen = set()
    for row, types in zip(texts(new), new.inputs["token_type_ids"], strict=True):
        middle = row.index(SEP)
        assert (row[0], row[-1], row.count(SEP)) == (CLS, SEP, 2)
        assert all(token < 10 for token in row[1:middle])
        assert types.tolist()[: len(row)] == [0] * (middle + 1) + [1] * (len(row) - middle - 1)
        seen.add((middle - 1, len(row) - middle - 2))
    assert len(seen) > 4


def test_the_batch_is_as_long_as_its_longest_text(
    moment: Moment, tiny_context: Callable[..., Context]
) -> None:
    batch = batch_of([[CLS, *range(4, 24), SEP], [CLS, 4, SEP]])
    new = crop(tiny_context(), 0.3)(batch, replace(moment, step=8))
    longest = max(map(len, texts(new)))
    assert longest < 22
    assert new.inputs["input_ids"].shape == new.inputs["attention_mask"].shape == (2, longest)
    assert torch.equal(new.inputs["input_ids"] == 0, new.inputs["attention_mask"] == 0)


def test_padding_in_front_stays_in_front(moment: Moment, tiny_context: Callable[..., Context]) -> None:
    ids = torch.tensor([[0, 0, 0, 4, 5, 6], [4, 5, 6, 7, 8, 9]])
    batch = Batch({"input_ids": ids, "attention_mask": (ids != 0).long()},
                  torch.ones(2, 1), torch.ones(2), torch.arange(2))  # fmt: skip
    new = crop(tiny_context(), 0.9)(batch, moment)
    assert new.inputs["attention_mask"][:, -1].tolist() == [1, 1]
    assert new.inputs["attention_mask"][0, 0] == 0


def test_same_step_same_draws_and_next_step_others(
    moment: Moment, tiny_context: Callable[..., Context]
) -> None:
    augment, batch = crop(tiny_context(), 0.5), batch_of([[CLS, *range(4, 24), SEP]] * 8)
    before = batch.inputs["input_ids"].clone()
    first = texts(augment(batch, moment))
    assert first == texts(augment(batch, moment))
    assert first != texts(augment(batch, replace(moment, step=8)))
    assert torch.equal(batch.inputs["input_ids"], before)


def test_smallest_one_is_absent(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(RandomCrop(RandomCropConfig(smallest=1.0)))
    assert plan.entries() == []


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"smallest is 0.0 and must lie in \(0, 1\]"):
        window(3, 0.0, 0.5, 0.5)
