"""First weights by layer type: He, Glorot, truncated normal or orthogonal draws.

Idea: the variance of the first weights decides whether signals and gradients grow, shrink or keep their
size from layer to layer, and the right one depends on the kind of layer and on what follows it.

Formula, for a weight W with n_in inputs and n_out outputs of each unit:

* ``xavier_uniform``, ``xavier_normal``: variance 2 / (n_in + n_out)
* ``kaiming_uniform``, ``kaiming_normal``: variance 2 / n_in, for units that are followed by a ReLU
* ``normal``, ``trunc_normal``: N(0, s²), the latter cut off at ±2 s
* ``orthogonal``: W Wᵀ = I or Wᵀ W = I
* ``keep``: as it is; biases become 0 unless they are kept

Paper: Glorot and Bengio 2010 (AISTATS), equation 16; He et al. 2015 (1502.01852), equation 10; Saxe et al.
2014 (1312.6120), section 3.

When it helps: networks from scratch: tables, images, models of your own.
When not: a pretrained network, which ``scope = "all"`` erases; use ``scope = "head"`` there.

Suggested values: kaiming_normal for convolutions and with ReLU, xavier_uniform for other linear layers,
trunc_normal with s = 0.02 for transformers, orthogonal for the recurrent weights of an RNN.

Cost: none.

Clashes: none. It acts first of all that set first weights: ``init_embeddings``, ``reinit_layers`` and
``zero_head`` have the last word on what they are for.

NOTE[DIFF]: each gate of an LSTM or GRU is drawn as a matrix of its own. Norms and parameters that belong
to no layer of these types keep their values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from etude.config.fields import SearchRange, setting
from etude.core.backbone import Backbone
from etude.core.phases import MODEL
from etude.core.plan import Plan
from etude.core.rng import torch_generator
from etude.core.technique import Facts, Technique, TechniqueConfig

Scheme = Literal[
    "keep", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "normal", "trunc_normal",
    "orthogonal",
]  # fmt: skip
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class InitWeightsConfig(TechniqueConfig):
    """Settings of the first weights."""

    name: Literal["init_weights"] = "init_weights"
    scope: Literal["head", "all"] = setting(help="the head alone, or the whole network, pretrained or not")
    linear: Scheme = setting("xavier_uniform", help="for linear layers, and the inputs of an RNN")
    conv: Scheme = setting("kaiming_normal", help="for convolutions")
    recurrent: Scheme = setting("orthogonal", help="for the recurrent weights of an RNN")
    embedding: Scheme = setting("keep", help="for embeddings; init_embeddings knows their usual draws")
    bias: Literal["zero", "keep"] = setting("zero", help="for the biases of these layers")
    std: float = setting(
        0.02, help="standard deviation of normal and trunc_normal", gt=0.0,
        search=SearchRange(0.005, 0.2, "log"),
    )  # fmt: skip


def draw(weight: Tensor, scheme: Scheme, generator: torch.Generator, std: float = 0.02) -> None:
    """Draw a weight by a scheme, in place.

    Args:
        weight: (n_out, n_in) or a kernel (n_out, n_in, ..).
        scheme: how.
        generator: what is drawn from.
        std: standard deviation, for the schemes that need it.

    Raises:
        ValueError: the weight has fewer than two dimensions.

    >>> weight = torch.empty(3, 3)
    >>> draw(weight, "orthogonal", torch.Generator().manual_seed(0))
    >>> torch.allclose(weight @ weight.T, torch.eye(3), atol=1e-6)
    True
    """
    if weight.ndim < 2:
        raise ValueError(f"the weight has the shape {tuple(weight.shape)} and schemes need two dimensions")
    with torch.no_grad():
        match scheme:
            case "xavier_uniform":
                nn.init.xavier_uniform_(weight, generator=generator)
            case "xavier_normal":
                nn.init.xavier_normal_(weight, generator=generator)
            case "kaiming_uniform":
                nn.init.kaiming_uniform_(weight, nonlinearity="relu", generator=generator)
            case "kaiming_normal":
                nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
            case "normal":
                nn.init.normal_(weight, std=std, generator=generator)
            case "trunc_normal":
                nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)
            case "orthogonal":
                nn.init.orthogonal_(weight, generator=generator)


def weights_of(module: nn.Module, config: InitWeightsConfig) -> Iterator[tuple[str, Tensor, Scheme]]:
    """Yield the name, the tensor and the scheme of each weight of one module, not of those inside it."""
    if isinstance(module, nn.RNNBase):
        gates = {"LSTM": 4, "GRU": 3}.get(module.mode, 1)
        for name, value in module.named_parameters(recurse=False):
            if name.startswith("weight"):
                scheme = config.recurrent if "_hh" in name else config.linear
                for gate, part in enumerate(value.chunk(gates)):
                    yield f"{name} {gate}", part, scheme
    elif isinstance(module, (nn.Linear, nn.Embedding, *CONVOLUTIONS)):
        kinds: dict[type, Scheme] = {nn.Linear: config.linear, nn.Embedding: config.embedding}
        scheme = next((s for kind, s in kinds.items() if isinstance(module, kind)), config.conv)
        yield "weight", module.weight, scheme


def initialise(module: nn.Module, config: InitWeightsConfig, seed: int) -> None:
    """Draw every weight inside a module and set its biases, in place.

    Args:
        module: a network or a part of it.
        config: the scheme of each kind of layer.
        seed: with the name of each weight it decides the draws.
    """
    for place, layer in module.named_modules():
        drawn = list(weights_of(layer, config))
        for name, value, scheme in drawn:
            if scheme != "keep":
                draw(value, scheme, torch_generator(seed, "init_weights", place, name), config.std)
        if drawn and config.bias == "zero":
            with torch.no_grad():
                for name, value in layer.named_parameters(recurse=False):
                    if name.startswith("bias"):
                        value.zero_()


class InitWeights(Technique[InitWeightsConfig]):
    """Draws the first weights before the run's groups are made."""

    Config = InitWeightsConfig
    facts = Facts(
        family="initialisation",
        phase=MODEL,
        paper="Glorot and Bengio 2010, AISTATS; He et al. 2015, arXiv 1502.01852",
        neutral={"scope": "head", "linear": "keep", "conv": "keep", "recurrent": "keep", "bias": "keep"},
        example={"scope": "all"},
    )

    def attach(self, plan: Plan) -> None:
        config, seed = self.config, plan.context.seed
        schemes = {config.linear, config.conv, config.recurrent, config.embedding}
        if schemes == {"keep"} and config.bias == "keep":
            return

        def edit(backbone: Backbone) -> Backbone:
            initialise(backbone if config.scope == "all" else backbone.head, config, seed)
            return backbone

        # Poolers and heads stand already (ranks -20 and -10); what the card names comes later, and LoRA last.
        plan.add(MODEL, edit, rank=-5)
