"""Token cutout: what may be replaced, how often, and that draws are keyed."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from etude.core.batch import Batch
from etude.core.phases import AUGMENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context
from etude.techniques.augment.token_cutout import TokenCutout, TokenCutoutConfig, cut_out


@pytest.fixture
def batch() -> Batch:
    ids = torch.randint(4, 30, (200, 50), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[:, 40], ids[:, 41:] = 1, 2, 0
    inputs = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    return Batch(inputs, torch.ones(200, 1), torch.ones(200), torch.arange(200))


def cutout(context: Context, share: float) -> Callable[[Batch, Moment], Batch]:
    plan = Plan(context)
    plan.attach(TokenCutout(TokenCutoutConfig(share=share)))
    return plan.many(AUGMENT)[0]


def test_a_share_of_the_real_tokens_is_masked(
    batch: Batch, moment: Moment, tiny_context: Callable[..., Context]
) -> None:
    before = batch.inputs["input_ids"].clone()
    after = cutout(tiny_context(), 0.25)(batch, moment).inputs["input_ids"]
    changed = after != before
    assert set(after[changed].tolist()) == {3}
    assert not changed[:, 0].any()
    assert not changed[:, 40:].any()
    # 7800 draws: five standard errors are 0.025.
    assert abs(changed[:, 1:40].float().mean() - 0.25) < 0.025
    assert torch.equal(batch.inputs["input_ids"], before)


def test_share_one_masks_all_of_them_and_padding_stays(
    batch: Batch, moment: Moment, tiny_context: Callable[..., Context]
) -> None:
    padded = batch.with_inputs(input_ids=batch.inputs["input_ids"].masked_fill(
        batch.inputs["attention_mask"] == 0, 9))  # fmt: skip
    after = cutout(tiny_context(), 1.0)(padded, moment).inputs["input_ids"]
    assert (after[:, 1:40] == 3).all()
    assert (after[:, 41:] == 9).all()


def test_same_step_same_draws_and_next_step_others(
    batch: Batch, moment: Moment, tiny_context: Callable[..., Context]
) -> None:
    augment = cutout(tiny_context(), 0.1)
    first = augment(batch, moment).inputs["input_ids"]
    assert torch.equal(first, augment(batch, moment).inputs["input_ids"])
    assert not torch.equal(first, augment(batch, replace(moment, step=8)).inputs["input_ids"])


def test_share_zero_is_absent(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(TokenCutout(TokenCutoutConfig(share=0.0)))
    assert plan.entries() == []


def test_bounds_name_the_value() -> None:
    ids = torch.ones(1, 1, dtype=torch.long)
    with pytest.raises(ValueError, match=r"share is 1.5 and must lie in \[0, 1\]"):
        cut_out(ids, ids.bool(), torch.zeros(1, 1), 1.5, 0)
