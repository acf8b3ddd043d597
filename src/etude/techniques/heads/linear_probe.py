"""Linear probe: start the head from logistic regression on the untouched features.

Idea: a random head spoils pretrained layers while it learns. Logistic regression on the features of
the untouched backbone finds the best linear head in seconds; fine-tuning then begins from there.

Formula, with features z (N, D) standardised by column, targets y (N, C), weights w (N,) and λ:

* one label for each example: min over W, b of Σ_i w_i CE(softmax(z_i W + b), y_i) / Σ w + λ/2 ||W||²
* any subset of labels: the same with the sum of C binary cross-entropies of sigmoids
* the standardisation z = (x - μ) / σ is folded back: W' = W / σ and b' = b - (μ / σ) W

Paper: Kumar et al. 2022 (2202.10054), the method LP-FT.

When it helps: fine-tuning any pretrained backbone with a linear head, above all with many labels,
little data or few epochs; and where test data differ from training data.
When not: a backbone from scratch, whose features mean nothing yet.

Suggested values: C = 0.1, from 0.01 to 1; with n rows, λ = 1 / (C · n) as in scikit-learn.

Cost: one forward pass over at most ``max_rows`` training rows and a few seconds, once: 77 classes on
10,000 rows of 384 features take about 100 iterations of 20 ms on two CPU cores.

Clashes: another technique that gives the head its first weights; a head that is not linear; a fresh
network between backbone and head, whose features mean nothing yet.

NOTE[DIFF]: the paper trains the probe by gradient descent on augmented data; here L-BFGS solves it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from etude.config.fields import SearchRange, setting
from etude.core.backbone import Backbone
from etude.core.phases import START, Rows
from etude.core.plan import Plan
from etude.core.rng import numpy_generator
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConflictError
from etude.parts.base import StackedHead


class LinearProbeConfig(TechniqueConfig):
    """Settings of the linear probe."""

    name: Literal["linear_probe"] = "linear_probe"
    C: float = setting(
        0.1,
        help="inverse of the penalty's strength, as scikit-learn has it",
        gt=0.0,
        search=SearchRange(1e-3, 10.0, "log"),
    )
    max_rows: int = setting(20000, help="fit on at most this many training rows", unit="rows", ge=1)


def fit_logistic(
    features: Tensor, targets: Tensor, weights: Tensor, l2: float, *, multilabel: bool
) -> tuple[Tensor, Tensor]:
    """Return the weight (C, D) and bias (C,) of L2-regularised logistic regression.

    Args:
        features: (N, D) float32 or float64; the result has its type and device.
        targets: (N, C) in [0, 1]; rows sum to one unless ``multilabel``.
        weights: (N,) 0 or more, not all 0.
        l2: λ above 0; the penalty is on weights for standardised features.
        multilabel: one sigmoid for each label instead of a softmax.

    Raises:
        ValueError: the numbers of rows differ, or all weights are 0.

    >>> x, y = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    >>> weight, bias = fit_logistic(x, y, torch.ones(4), 0.1, multilabel=True)
    >>> [round(p, 2) for p in torch.sigmoid(x @ weight.T + bias).flatten().tolist()]
    [0.11, 0.34, 0.66, 0.89]
    """
    if not len(features) == len(targets) == len(weights):
        raise ValueError(f"{len(features)} features, {len(targets)} targets, {len(weights)} weights differ")
    targets, weights = targets.to(features), weights.to(features)
    if not bool(weights.sum() > 0):
        raise ValueError("all weights are 0 and at least one must be above it")
    shares = (weights / weights.sum()).unsqueeze(1)
    mean = (shares * features).sum(dim=0)
    spread = (shares * (features - mean).square()).sum(dim=0).sqrt()
    # A constant column tells nothing, and what rounding leaves of its spread must not be blown up:
    # MiniLM has one of spread 1e-32, and bfloat16 rounds to 1/256 of a column's mean.
    constant = (spread <= 1e-3 * spread.max()) | (spread <= mean.abs() / 512)
    standard = ((features - mean) / spread).masked_fill(constant, 0.0)
    # A column of ones carries the bias, so that one product gives the logits and one the gradient.
    design = torch.cat([standard, torch.ones_like(shares)], dim=1)
    solution = _minimise(design, targets, shares, l2, multilabel)
    weight = (solution[:-1] / spread.masked_fill(constant, 1.0).unsqueeze(1)).T.contiguous()
    return weight, solution[-1] - weight @ mean


def _minimise(design: Tensor, targets: Tensor, shares: Tensor, l2: float, multilabel: bool) -> Tensor:
    """Solve by L-BFGS; the gradient is written out, which spares autograd's copies."""
    solution = design.new_zeros(design.shape[1], targets.shape[1])
    penalty = torch.full_like(solution[:, :1], l2)
    penalty[-1] = 0.0
    optimizer = torch.optim.LBFGS(
        [solution], max_iter=200, tolerance_grad=1e-4, history_size=10, line_search_fn="strong_wolfe"
    )  # fmt: skip

    def loss() -> Tensor:
        logits = design @ solution
        if multilabel:
            terms = nn.functional.softplus(logits) - targets * logits
            slope = torch.sigmoid(logits) - targets
        else:
            log_p = logits.log_softmax(dim=1)
            terms = -targets * log_p
            slope = log_p.exp() * targets.sum(dim=1, keepdim=True) - targets
        solution.grad = design.T @ (shares * slope) + penalty * solution
        return (shares * terms).sum() + (penalty * solution.square()).sum() / 2

    optimizer.step(loss)
    return solution


def linear_layer(head: nn.Module) -> nn.Linear:
    """Return the one linear layer of a head that is otherwise only dropout.

    Raises:
        ConflictError: the head is something else.

    >>> linear_layer(nn.Sequential(nn.Dropout(0.1), nn.Linear(8, 3)))
    Linear(in_features=8, out_features=3, bias=True)
    """
    # What labels say of each other stands on top, and begins with saying nothing.
    head = head.base if isinstance(head, StackedHead) else head
    parts = [module for module in head.modules() if not list(module.children())]
    layers = [module for module in parts if isinstance(module, nn.Linear)]
    others = [m for m in parts if not isinstance(m, (nn.Linear, nn.Dropout, nn.Identity))]
    if len(layers) != 1 or others or layers[0].bias is None:
        found = ", ".join(type(module).__name__ for module in parts)
        raise ConflictError(
            f"linear_probe needs a head of one linear layer with a bias and this one is made of {found}; "
            'use backbone.head = "linear" without pooling = "native", or remove linear_probe'
        )
    return layers[0]


class LinearProbe(Technique[LinearProbeConfig]):
    """Writes the probe's solution into the head before the first step."""

    Config = LinearProbeConfig
    facts = Facts(
        family="heads",
        phase=START,
        paper="Kumar et al. 2022, arXiv 2202.10054",
        needs=frozenset({"linear_head"}),
    )

    def attach(self, plan: Plan) -> None:
        config, seed = self.config, plan.context.seed
        multilabel = plan.context.task.kind == "multilabel"
        linear_layer(plan.context.backbone.head)

        def start(
            backbone: Backbone, features_of: Callable[[Rows], Tensor], targets: Tensor, weights: Tensor
        ) -> None:
            order = numpy_generator(seed, "linear_probe").permutation(len(targets))
            rows = np.sort(order[: config.max_rows])
            taken = torch.from_numpy(rows)
            l2 = 1.0 / (config.C * len(rows))
            weight, bias = fit_logistic(
                features_of(rows).float(), targets[taken], weights[taken], l2, multilabel=multilabel
            )
            layer = linear_layer(backbone.head)
            with torch.no_grad():
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)

        plan.add(START, start)
