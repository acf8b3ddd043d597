"""Averages of weights against torch's swa_utils and formulae written out, in float64."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_avg_fn

from etude.core.rng import Moment
from etude.techniques.averaging import mean_of
from etude.techniques.averaging.ema import EMA, EMAConfig
from etude.techniques.averaging.lawa import Latest
from etude.techniques.averaging.soup import greedy_soup
from etude.techniques.averaging.swa import update_mean

N_POINTS, K = 20, 5


def rows() -> Iterator[tuple[str, str, float]]:
    """Yield technique, reference, and the largest absolute difference in float64."""
    points = walk()
    plain, warmed = ema(points, warmup=False), ema(points, warmup=True)
    yield "ema", "torch.optim.swa_utils.AveragedModel with a decay of 0.9", apart(plain, torchs(points, 0.9))
    yield "ema", "the weighted sum of all points, with the decay's warm-up", apart(warmed, summed(points))
    mean = [points[0].clone()]
    for n, point in enumerate(points[1:], start=1):
        update_mean(mean, [point], n)
    yield "swa", "torch.optim.swa_utils.AveragedModel", apart(mean[0], torchs(points, None))
    yield "swa", "the mean of all points", apart(mean[0], torch.stack(points).mean(dim=0))
    latest = Latest(K)
    for point in points:
        latest.take({"w": point})
    yield (
        "lawa",
        f"the mean of the last {K} points",
        apart(latest.mean()["w"], torch.stack(points[-K:]).sum(0) / K),
    )
    yield "soup", "the sources' running mean of the best and the next", apart(*soups(points))


def walk() -> list[Tensor]:
    """Points of a noisy walk, (4, 3) each."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(N_POINTS, 4, 3, generator=generator, dtype=torch.float64)
    return list(steps.cumsum(dim=0))


def ema(points: list[Tensor], *, warmup: bool) -> Tensor:
    """Our moving average after all points."""
    model, technique = holder(points[0]), EMA(EMAConfig(decay=0.9, warmup=warmup))
    for step, point in enumerate(points):
        model.weight.data.copy_(point)
        technique.update(model, Moment(0, step, 0, N_POINTS, N_POINTS))
    with technique.lend(model):
        return model.weight.detach().clone()


def summed(points: list[Tensor]) -> Tensor:
    """Every point with its own weight, the product of what later steps keep."""
    decays = [0.0, *(min(0.9, (1 + t) / (10 + t)) for t in range(1, len(points)))]
    total = torch.zeros_like(points[0])
    for t, point in enumerate(points):
        kept = torch.tensor(decays[t + 1 :], dtype=torch.float64).prod()
        total += (1 - decays[t]) * kept * point
    return total


def torchs(points: list[Tensor], decay: float | None) -> Tensor:
    """Torch's average: moving with a decay, or plain."""
    model = holder(points[0])
    if decay is None:  # torch's rule for many tensors at once rounds 1 / (n + 1) to float32
        average = AveragedModel(model, avg_fn=get_swa_avg_fn())
    else:
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    for point in points:
        model.weight.data.copy_(point)
        average.update_parameters(model)
    return average.module.weight.detach()


def soups(points: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Our greedy soup, and one that is cooked by the running mean."""
    target = points[-1] * 0.9

    def score(weights: Tensor) -> float:
        return -float((weights - target).square().sum())

    ranked = sorted(points, key=score, reverse=True)
    ingredients = [{"w": point} for point in ranked]
    kept = greedy_soup(ingredients, lambda weights: score(weights["w"]))
    ours = mean_of([ingredients[i] for i in kept])["w"]
    theirs, k = ranked[0], 1
    for point in ranked[1:]:
        trial = k / (k + 1) * theirs + point / (k + 1)
        if score(trial) >= score(theirs):
            theirs, k = trial, k + 1
    return ours, theirs


def holder(weights: Tensor) -> nn.Linear:
    """A layer that holds weights (4, 3)."""
    layer = nn.Linear(3, 4, bias=False).double()
    layer.weight.data.copy_(weights)
    return layer


def apart(ours: Tensor, reference: Tensor) -> float:
    """The largest absolute difference."""
    return float((ours - reference).abs().max())
