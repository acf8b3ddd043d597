"""Stochastic depth: leave whole layers out of a training step, later ones more often.

Idea: a layer that may be missing cannot be relied on. The network trained is a different and shallower one
at every step, and the whole one at evaluation is like a mean over all of them.

Formula, with layers l = 1 … L, the last one's drop rate p, one draw b_l ∈ {0, 1} for each step:

* drop rate of layer l: p_l = p l / L; b_l = 0 with probability p_l
* h_l = h_{l-1} + b_l / (1 - p_l) · (f_l(h_{l-1}) - h_{l-1}) in training
* h_l = f_l(h_{l-1}) in evaluation, the mean of the above

where f_l(h) - h is what layer l adds to its input, the residual branch.

Paper: Huang et al. 2016 (1603.09382), sections 3 and 4; on transformers: Fan et al. 2019 (1909.11556).

When it helps: deep networks, long runs, training from scratch.
When not: few layers; few epochs of fine-tuning; underfitting.

Suggested values: p = 0.1 for fine-tuning, from 0.05 to 0.3; 0.5 for the paper's deep residual networks.

Cost: 1 pass; no memory. A layer that is left out is computed all the same, with a gradient of zero, so
that no time is spared.

Clashes: none; frozen layers are never left out.

NOTE[DIFF]: the paper scales by 1 - p_l in evaluation, this by its inverse in training, with the same mean;
a saved model is then an ordinary one. Where a layer ends in a norm, as BERT's do, what it adds to its input
is taken as its residual branch. All rows of a step lose the same layers, as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from etude.config.fields import SearchRange, setting
from etude.core.backbone import Backbone
from etude.core.phases import ADJUST, GRADIENT, MODEL
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConflictError

Hook = Callable[[nn.Module, tuple[Any, ...], Mapping[str, Any], Any], Any]


class StochasticDepthConfig(TechniqueConfig):
    """Settings of stochastic depth."""

    name: Literal["stochastic_depth"] = "stochastic_depth"
    rate: float = setting(
        0.1, help="drop rate of the last layer", ge=0.0, lt=1.0, search=SearchRange(0.0, 0.5)
    )


def drop_rates(n_layers: int, last: float) -> list[float]:
    """Return the drop rate of each layer, rising to the last one's.

    Raises:
        ValueError: ``last`` is out of [0, 1).

    >>> drop_rates(4, 0.2)
    [0.05, 0.1, 0.15000000000000002, 0.2]
    """
    if not 0.0 <= last < 1.0:
        raise ValueError(f"last is {last} and must lie in [0, 1)")
    return [last * (layer / n_layers) for layer in range(1, n_layers + 1)]


def branch_factors(rates: Sequence[float], draws: Sequence[float]) -> list[float]:
    """Return what each layer's residual branch is multiplied by: 0, or one over its rate of survival.

    Args:
        rates: drop rates.
        draws: in [0, 1), one for each layer; below its rate a layer is left out.

    >>> branch_factors([0.2, 0.5], [0.1, 0.7])
    [0.0, 2.0]
    """
    return [0.0 if u < rate else 1.0 / (1.0 - rate) for rate, u in zip(rates, draws, strict=True)]


def scale_branch(before: Tensor, after: Tensor, factor: float) -> Tensor:
    """Return ``before + factor * (after - before)``.

    Args:
        before: (B, L, D), a layer's input.
        after: (B, L, D), its output.
        factor: 0 or more.

    >>> import torch
    >>> scale_branch(torch.ones(2), torch.tensor([2.0, 5.0]), 0.5)
    tensor([1.5000, 3.0000])
    """
    # With a factor of 0 too: weights whose gradient is zero and not absent suit every optimizer.
    return before + factor * (after - before)


def residual_layers(backbone: Backbone) -> list[nn.Module]:
    """Return the layers that map features (B, L, D) to features of that shape, in their order.

    Raises:
        ConflictError: there are fewer than two, so that there is nothing to leave out.
    """
    # A last layer may come together with the norm behind it, which always acts.
    layers = [
        module[0] if isinstance(module, nn.ModuleList) else module
        for name, module in backbone.blocks()
        if name.startswith("layer.")
    ]
    if len(layers) < 2:
        raise ConflictError(
            f"stochastic_depth needs a backbone of at least 2 layers and {type(backbone).__name__} has "
            f"{len(layers)}; remove stochastic_depth"
        )
    return layers


def scaling_hook(factors: list[float], layer: int) -> Hook:
    """Return a hook for the n-th layer that scales its branch in training; a factor of 1 leaves it."""

    def hook(module: nn.Module, args: tuple[Any, ...], named: Mapping[str, Any], output: Any) -> Any:
        factor = factors[layer]
        if factor == 1.0 or not module.training:
            return output
        before = args[0] if args else named["hidden_states"]
        if isinstance(output, tuple):
            return (scale_branch(before, output[0], factor), *output[1:])
        return scale_branch(before, output, factor)

    return hook


class StochasticDepth(Technique[StochasticDepthConfig]):
    """Hooks every layer, and says before each step which of them are left out."""

    Config = StochasticDepthConfig
    facts = Facts(
        family="regularisation",
        phase=ADJUST,
        paper="Huang et al. 2016, arXiv 1603.09382; Fan et al. 2019, arXiv 1909.11556",
        needs=frozenset({"parts"}),
        neutral={"rate": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        last = self.config.rate
        if last == 0.0:
            return
        n_layers = len(residual_layers(plan.context.backbone))
        rates, rest = drop_rates(n_layers, last), [1.0] * n_layers
        factors = list(rest)

        def edit(backbone: Backbone) -> Backbone:
            for i, layer in enumerate(residual_layers(backbone)):
                layer.register_forward_hook(scaling_hook(factors, i), with_kwargs=True)
            return backbone

        def draw(model: nn.Module, moment: Moment) -> None:
            draws: Sequence[float] = moment.numpy("stochastic_depth").random(n_layers).tolist()
            factors[:] = branch_factors(rates, draws)

        def let_all_act(parameters: Sequence[nn.Parameter], moment: Moment) -> None:
            """The step's passes are over: whoever runs the model between steps has all of it."""
            factors[:] = rest

        plan.add(MODEL, edit)
        plan.add(ADJUST, draw)
        plan.add(GRADIENT, let_all_act)
