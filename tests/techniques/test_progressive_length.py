"""Progressive length: cut texts keep their ends, padding stays on its side, and stages follow the time."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny_contexts import make_context

from etude.core.batch import Batch
from etude.core.phases import AUGMENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.techniques.curriculum.progressive_length import (
    ProgressiveLength,
    ProgressiveLengthConfig,
    cut,
    kept_tokens,
)

PAD, CLS, SEP = 0, 1, 2
SPECIAL = torch.tensor([PAD, CLS, SEP])


def batch_of(texts: list[list[int]], *, left: bool = False) -> Batch:
    """Texts padded on one side, with types that are ten times the tokens."""
    longest = max(map(len, texts))
    pads = [[PAD] * (longest - len(text)) for text in texts]
    ids = torch.tensor([pad + text if left else text + pad for text, pad in zip(texts, pads, strict=True)])
    inputs = {"input_ids": ids, "attention_mask": (ids != PAD).long(), "token_type_ids": ids * 10}
    n = len(texts)
    return Batch(inputs, torch.ones(n, 3), torch.ones(n), torch.arange(n))


def text_of(n: int, *, ends: bool = True) -> list[int]:
    """[CLS], n words, [SEP]; or n words alone."""
    words = list(range(10, 10 + n))
    return [CLS, *words, SEP] if ends else words


def one_by_one(texts: list[list[int]], length: int) -> list[list[int]]:
    """Each text cut for itself."""
    found = []
    for text in texts:
        if len(text) <= length:
            found.append(text)
        elif text[-1] == SEP:
            found.append([*text[: length - 1], SEP])
        else:
            found.append(text[:length])
    return found


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize("ends", [True, False], ids=["with [SEP]", "without"])
@pytest.mark.parametrize("length", [2, 3, 5, 8, 20])
def test_equals_cutting_each_text_for_itself(length: int, ends: bool, left: bool) -> None:
    rng = np.random.default_rng(length)
    texts = [text_of(int(n), ends=ends) for n in rng.integers(1, 12, 20)]
    found, expected = (
        cut(batch_of(texts, left=left), SPECIAL, length),
        batch_of(one_by_one(texts, length), left=left),
    )
    assert found.inputs.keys() == expected.inputs.keys()
    for name, value in expected.inputs.items():
        assert torch.equal(found.inputs[name], value), name


def test_texts_of_one_length_have_no_padding_to_go_by() -> None:
    for left in (False, True):
        found = cut(batch_of([text_of(6), text_of(6)], left=left), SPECIAL, 4).inputs
        assert found["input_ids"].tolist() == [[CLS, 10, 11, SEP]] * 2
        assert found["attention_mask"].tolist() == [[1] * 4] * 2


def test_short_batches_are_untouched_and_long_ones_not_written_to() -> None:
    batch = batch_of([text_of(3), text_of(1)])
    assert cut(batch, SPECIAL, 5) is batch
    before = batch.inputs["input_ids"].clone()
    cut(batch, SPECIAL, 3)
    assert torch.equal(batch.inputs["input_ids"], before)


def test_numbers_beside_the_text_are_no_tokens() -> None:
    batch = batch_of([text_of(3), text_of(2)])
    beside = torch.rand(batch.inputs["input_ids"].shape)
    assert cut(batch.with_inputs(numbers=beside), SPECIAL, 3).inputs["numbers"] is beside


def test_a_special_token_inside_is_cut_like_any_other() -> None:
    pair = torch.tensor([[CLS, 10, 11, SEP, 12, 13, SEP]])
    kept = kept_tokens(pair, torch.ones_like(pair), SPECIAL, 4)
    assert pair[kept].tolist() == [CLS, 10, 11, SEP]


def widths(steps: list[int], **settings: object) -> list[int]:
    plan = Plan(make_context())
    plan.attach(ProgressiveLength(ProgressiveLengthConfig(**settings)))
    (augment,) = plan.many(AUGMENT)
    batch = batch_of([text_of(18)])
    moments = [Moment(0, step, step // 10, 10, 40) for step in steps]
    return [augment(batch, moment).inputs["input_ids"].shape[1] for moment in moments]


def test_stages_are_equal_parts_of_the_time() -> None:
    assert widths([0, 9, 10, 19, 20, 39], lengths=[4, 8]) == [4, 4, 8, 8, 20, 20]
    assert widths([0, 3, 4, 6, 7, 9, 10], lengths=[4, 8, 12], over="1ep") == [4, 4, 8, 8, 12, 12, 20]


def test_no_time_is_absent_and_features_are_never_cached_while_texts_grow() -> None:
    plan = Plan(make_context())
    plan.attach(ProgressiveLength(ProgressiveLengthConfig(lengths=[4], over="0ep")))
    assert plan.entries() == []
    plan.attach(ProgressiveLength(ProgressiveLengthConfig(lengths=[4])))
    assert plan.changes_inputs()


@pytest.mark.parametrize("lengths", [[], [8, 4], [4, 4]], ids=str)
def test_lengths_must_rise(lengths: list[int]) -> None:
    with pytest.raises(ValidationError, match="must name one length or more, in rising order"):
        ProgressiveLengthConfig(lengths=lengths)


def test_a_length_of_one_leaves_no_text() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        ProgressiveLengthConfig(lengths=[1, 4])
