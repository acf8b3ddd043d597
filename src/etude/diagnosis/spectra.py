"""Spectra of weight matrices: how heavy their tails are, without a single row of data.

Martin, Peng and Mahoney 2020 (2002.06716): the eigenvalues of WᵀW of well-trained layers follow a power law
in their tail, with an exponent α of 2 to 6; the smaller α, the more has been learned, and below 2 too much.
What stands here is what the package ``weightwatcher`` computes by default, which a test holds it to: its own
import sets the root logger and brings matplotlib, pandas and parts of IPython along.

M is the number of a matrix's eigenvalues, its smaller side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 50
"""Eigenvalues below which the fit of a tail says nothing."""
NOUGHT = 1e-5
"""Eigenvalues up to this count as zero."""
OVER, UNDER = 2.0, 6.0
"""Exponents below the first are over-trained, above the second hardly trained."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Spectrum:
    """What the eigenvalues of one layer's WᵀW say.

    Attributes:
        name: the parameter.
        shape: its shape.
        alpha: exponent of the tail.
        xmin: where the tail begins.
        distance: Kolmogorov-Smirnov distance of the tail from its power law.
        log_norm: log10 of the squared Frobenius norm.
        log_spectral_norm: log10 of the largest eigenvalue.
        alpha_weighted: alpha times the latter.
        stable_rank: the squared Frobenius norm over the largest eigenvalue.
    """

    name: str
    shape: tuple[int, ...]
    alpha: float
    xmin: float
    distance: float
    log_norm: float
    log_spectral_norm: float
    alpha_weighted: float
    stable_rank: float

    @property
    def verdict(self) -> str:
        """``"over-trained"``, ``"hardly trained"`` or ``"good"``."""
        return "over-trained" if self.alpha < OVER else "hardly trained" if self.alpha > UNDER else "good"


def power_law(values: Numbers) -> tuple[float, float, float]:
    """Return exponent, start and Kolmogorov-Smirnov distance of the tail of values (M,).

    For every start the exponent is the one of maximum likelihood, 1 + n / Σ ln(x / start); of all starts the
    one with the smallest distance is taken (Clauset, Shalizi and Newman 2009, 0706.1062).

    Raises:
        ValueError: there are fewer than two different values, or one is not positive.

    >>> rng = np.random.default_rng(0)
    >>> alpha, start, distance = power_law((1 - rng.random(5000)) ** (-1 / 1.5))
    >>> round(alpha, 1), distance < 0.02
    (2.5, True)
    """
    x = np.sort(values).astype(np.float64)
    if len(x) < 2 or x[0] <= 0 or x[0] == x[-1]:
        raise ValueError("a tail needs two different values, all of them positive")
    logs, m = np.log(x), len(x)
    best = (math.inf, math.inf, float(x[0]))
    sums = np.cumsum(logs[::-1])[::-1]
    for i in range(m - 1):
        n = m - i
        spread = sums[i] - n * logs[i]
        if spread <= 0:
            continue
        alpha = 1 + n / spread
        law = 1 - (x[i:] / x[i]) ** (1 - alpha)
        distance = float(np.abs(law - np.arange(n) / n).max())
        if distance < best[0]:
            best = (distance, float(alpha), float(x[i]))
    return best[1], best[2], best[0]


def eigenvalues(weight: NDArray[np.floating]) -> Numbers:
    """Return the eigenvalues of WᵀW (M,); of a convolution (out, in, ...) half those of every place together.

    The half is that of ``weightwatcher``; exponents do not depend on it.

    >>> eigenvalues(np.diag([3.0, 1.0])).tolist()
    [1.0, 9.0]
    """
    matrices = weight.astype(np.float64).reshape(*weight.shape[:2], -1).transpose(2, 0, 1)
    if matrices.shape[1] < matrices.shape[2]:
        matrices = matrices.transpose(0, 2, 1)
    found = np.linalg.eigvalsh(matrices.transpose(0, 2, 1) @ matrices).reshape(-1)
    return np.asarray(found, dtype=np.float64) * (0.5 if weight.ndim > 2 else 1.0)


def spectrum(name: str, weight: NDArray[np.floating]) -> Spectrum | None:
    """Return the spectrum of a weight, or None where it is too small for a fit, as a vector is."""
    if weight.ndim < 2 or min(weight.shape[:2]) * math.prod(weight.shape[2:]) < FEWEST:
        return None
    if not np.isfinite(weight).all():
        return None
    values = eigenvalues(weight)
    values = values[values > NOUGHT]
    if len(values) < FEWEST or values.min() == values.max():
        return None
    alpha, start, distance = power_law(values)
    largest, whole = float(values.max()), float(values.sum())
    return Spectrum(
        name=name,
        shape=weight.shape,
        alpha=alpha,
        xmin=start,
        distance=distance,
        log_norm=math.log10(whole),
        log_spectral_norm=math.log10(largest),
        alpha_weighted=alpha * math.log10(largest),
        stable_rank=whole / largest,
    )


def reading(found: Sequence[Spectrum], n_small: int) -> str:
    """Say in one sentence what the spectra of a model mean.

    Args:
        found: the spectra.
        n_small: matrices that were too small.
    """
    if not found:
        matrices = f"{n_small} weight matrices, all" if n_small else "no weight matrices"
        small = f" with fewer than {FEWEST} eigenvalues" if n_small else ""
        return f"This model has {matrices}{small}, so that spectra say nothing of it."
    alphas = [s.alpha for s in found]
    good = sum(s.verdict == "good" for s in found)
    over, under = (sum(s.verdict == word for s in found) for word in ("over-trained", "hardly trained"))
    rest = [f"{n} {words}" for n, words in ((over, f"below {OVER:g} (over-trained)"),
                                            (under, f"above {UNDER:g} (hardly trained)")) if n]  # fmt: skip
    return (
        f"The exponent of {good} of {len(found)} matrices lies between {OVER:g} and {UNDER:g}, as in "
        f"well-trained networks{''.join(f', of {part}' for part in rest)}; the median is "
        f"{np.median(alphas):.2f}; of models of one architecture a smaller one tends to generalise better."
    )
