"""Gradient checkpointing: forget the insides of each layer and compute them again for the gradient.

Idea: most memory of a step holds what layers computed on the way forward. With only the inputs of layers
kept, each layer is run a second time when its gradient is due.

Formula: none; the gradients are the same. Dropout draws the same masks the second time.

Paper: Chen et al. 2016 (1604.06174), section 4.

When it helps: a batch or a sequence length that memory does not hold otherwise.
When not: memory suffices; a smaller micro-batch costs less time where it is enough.

Suggested values: ``every = 1``: each layer on its own.

Cost: about one more forward pass, so 1.3 times the step's time; activations of one layer instead of all.

Clashes: none known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from etude.config.fields import setting
from etude.core.backbone import Backbone
from etude.core.phases import MODEL
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig


class GradientCheckpointingConfig(TechniqueConfig):
    """Settings of gradient checkpointing."""

    name: Literal["gradient_checkpointing"] = "gradient_checkpointing"
    every: int = setting(1, help="checkpoint each n-th layer", unit="layers", ge=1)


def checkpointed(forward: Callable[..., Any], backbone: Backbone) -> Callable[..., Any]:
    """Return a function that keeps only its inputs, and is run again for its gradient.

    Args:
        forward: a layer's forward pass.
        backbone: whose draws are replayed the second time.

    >>> from etude.testing.tiny import TinyMLP
    >>> backbone, x = TinyMLP(2), torch.ones(1, 6, requires_grad=True)
    >>> checkpointed(backbone.hidden.forward, backbone)(x).sum().backward()
    >>> again = torch.ones(1, 6, requires_grad=True)
    >>> backbone.hidden(again).sum().backward()
    >>> torch.equal(x.grad, again.grad)
    True
    """

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _replayed(backbone, backbone.replay_randomness())

    def run(*args: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **named)
        return checkpoint(
            forward, *args, use_reentrant=False, preserve_rng_state=False, context_fn=contexts, **named
        )

    return run


@contextmanager
def _replayed(backbone: Backbone, go_back: Callable[[], None]) -> Iterator[None]:
    """Draw within the context as at the time that ``go_back`` remembers, and go on as before after it."""
    resume = backbone.replay_randomness()
    go_back()
    try:
        yield
    finally:
        resume()


def layers_of(backbone: Backbone) -> list[nn.Module]:
    """Return the modules between the input's block and the pooler or head, in their order."""
    # A last layer may come together with the norm behind it; the list itself is never called.
    return [
        module[0] if isinstance(module, nn.ModuleList) else module
        for name, module in backbone.blocks()[:-1]
        if name not in ("embedding", "embeddings", "pooler")
    ]


class GradientCheckpointing(Technique[GradientCheckpointingConfig]):
    """Wraps the forward pass of layers."""

    Config = GradientCheckpointingConfig
    facts = Facts(
        family="efficient",
        phase=MODEL,
        paper="Chen et al. 2016, arXiv 1604.06174",
        passes=1.33,
        neutral={},
    )

    def attach(self, plan: Plan) -> None:
        every = self.config.every

        def edit(backbone: Backbone) -> Backbone:
            for layer in layers_of(backbone)[::every]:
                # A module must not hold its model as a child of itself, hence no method of a module here.
                layer.forward = checkpointed(layer.forward, backbone)
            return backbone

        # After whatever wraps or changes layers, so that all of it is computed again.
        plan.add(MODEL, edit, rank=20)
