"""R-Drop, NEFTune, multi-sample dropout and stochastic depth against their formulae, in float64."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, kl_divergence

from etude.parts.multi_sample_dropout import MultiSampleDropoutHead
from etude.techniques.regularisation.neftune import add_noise
from etude.techniques.regularisation.r_drop import sigmoid_disagreement, softmax_disagreement
from etude.techniques.regularisation.stochastic_depth import branch_factors, drop_rates, scale_branch


def rows() -> Iterator[tuple[str, str, float]]:
    """Yield technique, reference and the largest absolute difference."""
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(64, 7, generator=generator, dtype=torch.float64) * 3 for _ in range(2))
    p, q = Categorical(logits=one), Categorical(logits=other)
    yield (
        "r_drop",
        "torch.distributions, both KL divergences of categories",
        _apart(softmax_disagreement(one, other).sum(1), (kl_divergence(p, q) + kl_divergence(q, p)) / 2),
    )
    coin, coin_too = Bernoulli(logits=one), Bernoulli(logits=other)
    both = kl_divergence(coin, coin_too) + kl_divergence(coin_too, coin)
    yield (
        "r_drop",
        "torch.distributions, both KL divergences of coins",
        _apart(sigmoid_disagreement(one, other), both / 2 / 7),
    )
    yield "neftune", "algorithm 1 of the paper, row by row without padding", _noise(generator)
    yield "multi_sample_dropout", "the mean of five linear layers' logits", _samples(generator)
    yield "stochastic_depth", "the mean over all draws is the whole layer", _depth(generator)


def _noise(generator: torch.Generator) -> float:
    embedding = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)
    noise = torch.rand(3, 5, 4, generator=generator, dtype=torch.float64) * 2 - 1
    mask = torch.arange(5)[None] < torch.tensor([[5], [2], [1]])
    found = add_noise(embedding, mask, noise, 5.0)
    expected = embedding.clone()
    for row, length in enumerate((5, 2, 1)):
        expected[row, :length] += 5.0 / (length * 4) ** 0.5 * noise[row, :length]
    return _apart(found, expected)


def _samples(generator: torch.Generator) -> float:
    features = torch.randn(6, 8, generator=generator, dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        head = MultiSampleDropoutHead(8, 3, [0.1, 0.2, 0.3, 0.4, 0.5]).double().train()
        torch.manual_seed(5)
        found = head(features)
        torch.manual_seed(5)
        each = [head.out(nn.functional.dropout(features, rate)) for rate in (0.1, 0.2, 0.3, 0.4, 0.5)]
    return _apart(found, torch.stack(each).mean(0))


def _depth(generator: torch.Generator) -> float:
    before, after = (torch.randn(4, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    apart = 0.0
    for rate in drop_rates(6, 0.5):
        dropped, kept = (scale_branch(before, after, branch_factors([rate], [u])[0]) for u in (0.0, 0.999))
        apart = max(apart, _apart(rate * dropped + (1 - rate) * kept, after), _apart(dropped, before))
    return apart


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).detach().abs().max())
