"""The simple noise scale: the batch size from which on larger batches stop paying off.

McCandlish et al. 2018 (1812.06162), section 2.2 and appendix A.1. With G the true gradient and Σ the
covariance of single examples' gradients, a batch of B rows has a gradient whose expected squared norm is
|G|² + tr(Σ)/B. Two batch sizes give both numbers without bias, and B_simple = tr(Σ)/|G|².
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from etude.core import phases
from etude.core.engine import Engine
from etude.core.feed import make_batch
from etude.core.observe import Reporter
from etude.core.phases import View
from etude.core.rng import Moment, numpy_generator
from etude.errors import RunError
from etude.search.probe import PartOf, Probe

SMALL, PARTS, REPEATS = 8, 8, 12
"""Rows of a small batch, small batches in a large one, and large ones: 768 rows in all."""
Z = 1.959964


@dataclass(frozen=True)
class NoiseScale:
    """An estimate with its uncertainty.

    Attributes:
        value: B_simple, tr(Σ)/|G|², in rows; infinite where no gradient was found in the noise.
        low, high: its 95 % interval.
        trace: tr(Σ).
        squared_norm: |G|².
        n: estimates that it was made of.
    """

    value: float
    low: float
    high: float
    trace: float
    squared_norm: float
    n: int


def two_sizes(
    small: NDArray[np.float64], large: NDArray[np.float64], b_small: int, b_large: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return unbiased estimates of tr(Σ) and of |G|² (n,), equations A.2 and A.3.

    Args:
        small: (n,) squared norms of gradients of ``b_small`` rows, or means of several of them.
        large: (n,) squared norms of gradients of ``b_large`` rows.
        b_small: rows of a small batch.
        b_large: rows of a large batch, more than ``b_small``.

    Raises:
        ValueError: the two sizes do not differ in this order.

    >>> trace, squared_norm = two_sizes(np.array([5.0]), np.array([2.0]), 1, 4)
    >>> trace.tolist(), squared_norm.tolist()
    ([4.0], [1.0])
    """
    if not 0 < b_small < b_large:
        raise ValueError(f"the batches have {b_small} and {b_large} rows; the second must be the larger one")
    trace = (small - large) / (1 / b_small - 1 / b_large)
    squared_norm = (b_large * large - b_small * small) / (b_large - b_small)
    return trace, squared_norm


def noise_scale(trace: NDArray[np.float64], squared_norm: NDArray[np.float64]) -> NoiseScale:
    """Return the ratio of the means of n estimates, with Fieller's 95 % interval.

    The estimates of |G|² may be negative, so that ratios of single ones mean nothing. Fieller's interval of a
    ratio is unbounded above where |G|² itself cannot be told from zero.

    Raises:
        ValueError: there are fewer than two estimates.

    >>> found = noise_scale(np.array([9.0, 11.0, 10.0, 10.0]), np.array([1.0, 1.1, 0.9, 1.0]))
    >>> round(found.value, 2), found.low < 10 < found.high
    (10.0, True)
    """
    n = len(trace)
    if n < 2:
        raise ValueError(f"{n} estimate has no uncertainty; two are the fewest")
    a, b = float(trace.mean()), float(squared_norm.mean())
    (v_a, v_ab), (_, v_b) = (np.cov(trace, squared_norm) / n).tolist()
    value = max(a, 0.0) / b if b > 0 else math.inf
    # The ratios r for which a - r b does not differ from zero: a quadratic in r.
    c2, c1, c0 = b * b - Z * Z * v_b, a * b - Z * Z * v_ab, a * a - Z * Z * v_a
    inner = c1 * c1 - c2 * c0
    if c2 <= 0 or inner < 0:
        low = (c1 - math.sqrt(inner)) / c2 if c2 < 0 <= inner else 0.0
        return NoiseScale(value, max(min(low, value), 0.0), math.inf, a, b, n)
    root = math.sqrt(inner)
    return NoiseScale(value, max((c1 - root) / c2, 0.0), (c1 + root) / c2, a, b, n)


class _Keeper:
    """In the place of an optimizer: it keeps the gradient and changes nothing."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = parameters
        self.gradient: list[Tensor] = []

    def zero_grad(self, set_to_none: bool = True) -> None:
        for value in self._parameters:
            value.grad = None

    def step(self) -> None:
        self.gradient = [value.grad for value in self._parameters if value.grad is not None]


def measure_noise_scale(
    engine: Engine, step: int, *, small: int, parts: int, repeats: int, reporter: Reporter
) -> NoiseScale:
    """Measure the noise scale of a run's loss at the weights as they are.

    Rows are drawn independently. Augmentation, dropout and the loss act as in the run; what makes a
    gradient depend on the batch as a whole is left out: mixing, contrastive losses, perturbed weights and
    clipping.

    Args:
        engine: of a built run.
        step: the step of the run whose moment techniques see.
        small: rows of a small batch.
        parts: small batches of a large one.
        repeats: large batches.
        reporter: who tells of progress.

    Raises:
        RunError: a loss is not finite.
    """
    left_out = (phases.MIX, phases.BATCH_LOSS, phases.PERTURB, phases.GRADIENT, phases.AVERAGE)
    keeper = _Keeper(list(engine.backbone.parameters()))
    probe = Probe(engine, plan=PartOf(engine.plan, *left_out), optimizer=keeper)
    probe.thaw(step)
    context, n_rows = engine.plan.context, engine.plan.context.n_rows
    train, seed = engine.train, context.seed
    view = View(np.arange(n_rows), train.targets[:n_rows], train.weights[:n_rows], train.lengths[:n_rows])
    norms = np.zeros((2, repeats))
    with reporter.bar("gradient noise", repeats * parts, "batches") as bar:
        for i in range(repeats):
            mean: list[Tensor] = []
            for part in range(parts):
                rows = numpy_generator(seed, "noise scale", i, part).integers(0, n_rows, small)
                moment = Moment(seed, step, 0, context.steps_in(0), engine.settings.total_steps)
                result = probe.step(make_batch(train, view, rows), moment)
                if not result.done:
                    raise RunError(
                        f"the loss of {small} rows is {float(result.loss)} and has no gradient; look at the "
                        "data and the loss before choosing a batch size"
                    )
                found = keeper.gradient
                norms[0, i] += _squared(found) / parts
                mean = (
                    [g / parts for g in found]
                    if not mean
                    else [m.add_(g, alpha=1 / parts) for m, g in zip(mean, found, strict=True)]
                )
                bar.advance(1)
            norms[1, i] = _squared(mean)
    return noise_scale(*two_sizes(norms[0], norms[1], small, small * parts))


def _squared(gradients: Sequence[Tensor]) -> float:
    return float(sum(g.double().square().sum() for g in gradients))
