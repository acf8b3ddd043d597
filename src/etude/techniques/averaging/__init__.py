"""Averages of weights: when they are taken, how they are lent, and BatchNorm's statistics under them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from etude.config.fields import Time
from etude.core.rng import key
from etude.core.technique import Context

Weights = dict[str, Tensor]


def weights_of(model: nn.Module) -> Weights:
    """All floating parameters by name, frozen ones too, since they may begin to train later.

    Tied weights are one parameter with one name, and so are counted once.
    """
    return {name: value.detach() for name, value in model.named_parameters() if value.is_floating_point()}


def copied(tensors: Mapping[str, Tensor]) -> Weights:
    """Return copies of the tensors."""
    return {name: value.detach().clone() for name, value in tensors.items()}


def mean_of(several: Sequence[Mapping[str, Tensor]]) -> Weights:
    """Return the mean of several sets of weights.

    >>> mean_of([{"w": torch.tensor([1.0])}, {"w": torch.tensor([4.0])}])
    {'w': tensor([2.5000])}
    """
    if len(several) == 1:
        return dict(several[0])
    return {name: torch.stack([weights[name] for weights in several]).mean(dim=0) for name in several[0]}


@contextmanager
def lent(model: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Put tensors into the model's parameters and buffers; its own come back bit for bit on leaving.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> with lent(model, {"weight": torch.tensor([[2.0]])}):
    ...     print(model(torch.tensor([3.0])).item())
    6.0
    """
    places = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    own = copied({name: places[name] for name in tensors})
    try:
        for name, value in tensors.items():
            places[name].detach().copy_(value)
        yield
    finally:
        for name, value in own.items():
            places[name].detach().copy_(value)


def averaging_steps(context: Context, start: int, every: Time) -> frozenset[int]:
    """Return after which numbers of steps weights are taken, counted back from the end of the run.

    Args:
        context: knows where epochs end.
        start: no weights are taken before so many steps.
        every: whole epochs, which are taken at their ends, or any other time.
    """
    total = context.total_steps
    if every.whole_epochs:
        ends = accumulate(context.steps_in(epoch) for epoch in range(context.epochs))
        taken = sorted({min(end, total) for end in ends}, reverse=True)[:: every.whole_epochs]
    else:
        taken = list(range(total, 0, -max(context.steps(every), 1)))
    return frozenset(step for step in taken if step >= max(start, 1))


def batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """The BatchNorms that train and keep statistics, by name; those of frozen blocks keep what they have."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.training and module.running_mean is not None
    }


def statistics_for(run: Any, weights: Mapping[str, Tensor]) -> Weights:
    """Return BatchNorm's statistics over the training rows under other weights, as buffers by name.

    The statistics of an average's activations are not the average of statistics. They are the plain
    mean over all batches, as torch's ``update_bn`` takes them; the model itself stays as it is.

    Args:
        run: the engine.
        weights: parameters by name.
    """
    model, norms = run.backbone, batch_norms(run.backbone)
    if not norms:
        return {}
    buffers = {
        f"{name}.{own}".removeprefix("."): value
        for name, norm in norms.items()
        for own, value in norm.named_buffers(recurse=False)
    }
    momenta = {name: norm.momentum for name, norm in norms.items()}
    with lent(model, {**weights, **copied(buffers)}):
        try:
            for norm in norms.values():
                norm.reset_running_stats()
                norm.momentum = None
            model.key_randomness(key(run.plan.context.seed, "statistics", run.step))
            run.show_training_rows()
        finally:
            for name, norm in norms.items():
                norm.momentum = momenta[name]
        return copied(buffers)


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under longer names, for a state."""
    return {f"{prefix}{name}": value for name, value in tensors.items()}


def under_prefix(prefix: str, state: Mapping[str, Any]) -> Weights:
    """Return copies of a state's tensors whose names begin with the prefix, without it."""
    return copied({name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)})
