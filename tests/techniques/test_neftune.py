"""NEFTune: the size of the noise, where it is, and that it is the same in any micro-batch."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from etude.core.backbone import Output, Transform
from etude.core.batch import Batch
from etude.core.phases import FORWARD
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context
from etude.techniques.regularisation.neftune import Neftune, NeftuneConfig, add_noise, draw_noise


@pytest.fixture
def batch() -> Batch:
    ids = torch.randint(4, 30, (20, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(12)[None] < torch.arange(1, 21).clamp(max=12)[:, None]
    inputs = {"input_ids": ids * mask, "attention_mask": mask.long()}
    return Batch(inputs, torch.eye(20), torch.ones(20), torch.arange(100, 120))


def noise_of(context: Context, alpha: float, batch: Batch, moment: Moment) -> Tensor:
    """What is added to the embeddings, read off the transform that reaches the model."""
    plan, seen = Plan(context), []
    plan.attach(Neftune(NeftuneConfig(alpha=alpha)))

    def call(inner: Batch, transform: Transform | None = None) -> Output:
        assert transform is not None
        embedding = context.backbone.embed(inner.inputs)
        seen.append(transform(context.backbone, embedding, inner.inputs) - embedding)
        return context.backbone(inner.inputs, transform)

    plan.many(FORWARD)[0](call, batch, moment)
    return seen[0].detach()


def test_noise_is_uniform_and_as_large_as_the_paper_says(
    batch: Batch, moment: Moment, tiny_context: Callable[..., Context]
) -> None:
    noise = noise_of(tiny_context(), 5.0, batch, moment)
    lengths = batch.inputs["attention_mask"].sum(1)
    bound = 5.0 / (lengths * 8).sqrt()
    unit = noise / bound[:, None, None]
    real = batch.inputs["attention_mask"].bool()
    assert (unit[~real] == 0).all()
    assert unit.abs().max() <= 1.0 + 1e-5
    drawn = unit[real]
    # 1,392 draws of variance 1/3: four standard errors are 0.06.
    assert abs(float(drawn.mean())) < 0.06
    assert abs(float(drawn.var()) - 1 / 3) < 0.04
    # E ||noise||² = α² / 3, whatever the length: the mean of 20 rows.
    assert float(noise.square().sum((1, 2)).mean()) == pytest.approx(25 / 3, rel=0.15)


def test_micro_batches_have_the_same_noise(
    batch: Batch, moment: Moment, tiny_context: Callable[..., Context]
) -> None:
    context = tiny_context()
    whole = noise_of(context, 5.0, batch, moment)
    parts = torch.cat([noise_of(context, 5.0, part, moment) for part in batch.split(3)])
    assert torch.equal(whole, parts)
    assert not torch.equal(whole, noise_of(context, 5.0, batch, replace(moment, step=8)))
    same_tokens = batch.select(torch.tensor([19, 19])).replace(index=torch.tensor([1, 2]))
    one, other = noise_of(context, 5.0, same_tokens, moment)
    assert not torch.equal(one, other), "rows have noise of their own"


def test_a_text_without_tokens_stays_finite(moment: Moment) -> None:
    embedding = torch.zeros(2, 3, 4)
    noisy = add_noise(embedding, torch.zeros(2, 3), draw_noise(embedding, [0, 1], moment), 5.0)
    assert torch.equal(noisy, embedding)


def test_alpha_zero_is_absent(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(Neftune(NeftuneConfig(alpha=0.0)))
    assert plan.entries() == []


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"alpha is -1.0 and must be at least 0"):
        add_noise(torch.zeros(1, 1, 1), torch.ones(1, 1), torch.zeros(1, 1, 1), -1.0)
