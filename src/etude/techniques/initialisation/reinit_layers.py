"""Re-initialised top layers: the layers nearest to the head forget their pretraining.

Idea: the top layers of a pretrained model have specialised in guessing its pretraining task. Drawn afresh,
as before that, they learn the new one sooner than they would unlearn the old one.

Formula, for the top k layers, with the architecture's standard deviation s:

* matrices and embeddings ~ N(0, s²), biases 0
* norms: scale 1, shift 0

Paper: Zhang et al. 2021 (2006.05987), Revisiting Few-sample BERT Fine-tuning, section 5.

When it helps: fine-tuning BERT and its kin on few examples, of up to some thousands; unstable fine-tuning.
When not: small models and tasks near to the pretraining, where each layer is missed; models that were
trained for sentences already, whose top layers are what one wants.

Suggested values: k = 1 to 3 of 12 layers, up to 6 of 24, with the pooler; together with ``layerwise_lr``.

Cost: none.

Clashes: none. It acts after ``init_weights`` and ``init_embeddings``, and before ``zero_head``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from etude.config.fields import SearchRange, setting
from etude.core.backbone import Backbone
from etude.core.phases import MODEL
from etude.core.plan import Plan
from etude.core.rng import torch_generator
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConflictError


class ReinitLayersConfig(TechniqueConfig):
    """Settings of the re-initialisation."""

    name: Literal["reinit_layers"] = "reinit_layers"
    layers: int = setting(1, help="layers from the top", unit="layers", ge=0, search=SearchRange(0, 6))
    pooler: bool = setting(True, help="also what lies between them and the last linear layer")
    std: float | None = setting(
        None, help="standard deviation of the draws; absent: the architecture's, or 0.02", gt=0.0
    )


def draw_afresh(module: nn.Module, std: float, seed: int, place: str = "") -> None:
    """Draw a module's parameters as before a pretraining, in place; other 1-dimensional ones stay.

    Args:
        module: a layer, or anything else.
        std: standard deviation of matrices, embeddings and kernels.
        seed: with the name of each parameter it decides the draws.
        place: the module's own name.

    Raises:
        ValueError: ``std`` is not above 0.

    >>> dense, norm = nn.Linear(64, 64), nn.LayerNorm(2)
    >>> draw_afresh(nn.Sequential(dense, norm), 0.02, seed=0)
    >>> round(dense.weight.std().item(), 3), dense.bias.any().item(), norm.weight.tolist()
    (0.02, False, [1.0, 1.0])
    """
    if std <= 0.0:
        raise ValueError(f"std is {std} and must be above 0")
    with torch.no_grad():
        for owner_name, owner in module.named_modules():
            for name, value in owner.named_parameters(recurse=False):
                if value.ndim > 1:
                    generator = torch_generator(seed, "reinit_layers", place, owner_name, name)
                    value.copy_(torch.randn(value.shape, generator=generator) * std)
                elif name.endswith("bias"):
                    value.zero_()
                elif "Norm" in type(owner).__name__:
                    value.fill_(1.0)


def layers_of(backbone: Backbone) -> list[tuple[str, nn.Module]]:
    """Return the blocks between the embedding and the head, from the input on."""
    return [
        (name, block)
        for name, block in backbone.blocks()[:-1]
        if name != "pooler" and not any("Embedding" in type(m).__name__ for m in block.modules())
    ]


def poolers_of(backbone: Backbone) -> list[tuple[str, nn.Module]]:
    """Return what lies between the layers and the last linear layer: a pooler, and the head's own layers."""
    linear = [module for module in backbone.head.modules() if isinstance(module, nn.Linear)]
    own = [] if backbone.pooler is None else [("pooler", backbone.pooler)]
    return own + [(f"head {i}", layer) for i, layer in enumerate(linear[:-1])]


def usual_std(backbone: Backbone) -> float:
    """Return the standard deviation that the architecture names, or 0.02."""
    settings = getattr(getattr(backbone, "network", None), "config", None)
    return float(getattr(settings, "initializer_range", 0.02))


class ReinitLayers(Technique[ReinitLayersConfig]):
    """Draws the top layers afresh before the run's groups are made."""

    Config = ReinitLayersConfig
    facts = Facts(
        family="initialisation",
        phase=MODEL,
        paper="Zhang et al. 2021, arXiv 2006.05987",
        neutral={"layers": 0, "pooler": False},
    )

    def attach(self, plan: Plan) -> None:
        config, seed = self.config, plan.context.seed
        if config.layers == 0 and not config.pooler:
            return
        n_layers = len(layers_of(plan.context.backbone))
        if config.layers > n_layers:
            raise ConflictError(
                f"reinit_layers.layers is {config.layers} and the backbone has {n_layers} layers between its "
                "embedding and its head; lower it"
            )

        def edit(backbone: Backbone) -> Backbone:
            std = usual_std(backbone) if config.std is None else config.std
            layers = layers_of(backbone)
            chosen = layers[len(layers) - config.layers :]
            for name, module in [*chosen, *(poolers_of(backbone) if config.pooler else [])]:
                draw_afresh(module, std, seed, name)
            return backbone

        plan.add(MODEL, edit, rank=-3)
