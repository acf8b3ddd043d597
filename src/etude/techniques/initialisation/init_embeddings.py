"""Small embeddings: the tables of embeddings start at N(0, 0.02²).

Idea: torch draws embeddings at a standard deviation of 1, and many scripts at 0.1. Sums over them are then
large beside what the layers add, and the first steps are spent on shrinking them; 0.02 is what BERT and GPT
start from.

Formula, for each row e of a table: e ~ N(0, s² I), and 0 for the row of the padding.

Paper: Radford et al. 2018, Improving Language Understanding by Generative Pre-Training, section 4.1, and
Devlin et al. 2019 (1810.04805), whose code has s = 0.02.

When it helps: transformers from scratch; tables with categories of many values.
When not: a pretrained model, whose embeddings it erases.

Suggested values: s = 0.02, from 0.01 to 0.05.

Cost: none.

Clashes: none. It acts after ``init_weights``, whose word on embeddings it takes back.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from etude.config.fields import SearchRange, setting
from etude.core.backbone import Backbone
from etude.core.phases import MODEL
from etude.core.plan import Plan
from etude.core.rng import torch_generator
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConflictError


class InitEmbeddingsConfig(TechniqueConfig):
    """Settings of the embeddings' first values."""

    name: Literal["init_embeddings"] = "init_embeddings"
    std: float = setting(
        0.02, help="standard deviation of the draws", gt=0.0, search=SearchRange(0.005, 0.2, "log")
    )


def normal_rows(
    n_rows: int, width: int, std: float, generator: torch.Generator, padding: int | None
) -> Tensor:
    """Return a table (n_rows, width) of N(0, std²), with zeros in the row of the padding.

    Args:
        n_rows: rows of the table.
        width: D.
        std: standard deviation, above 0.
        generator: what is drawn from.
        padding: the row of the padding, or ``None``.

    Raises:
        ValueError: ``std`` is not above 0.

    >>> table = normal_rows(500, 40, 0.02, torch.Generator().manual_seed(0), padding=3)
    >>> round(float(table.std()), 3), float(table[3].abs().sum())
    (0.02, 0.0)
    """
    if std <= 0.0:
        raise ValueError(f"std is {std} and must be above 0")
    table = torch.randn(n_rows, width, generator=generator) * std
    if padding is not None:
        table[padding] = 0.0
    return table


def tables_of(backbone: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the modules that are tables of embeddings."""
    return [
        (name, module)
        for name, module in backbone.named_modules()
        if type(module).__name__.endswith("Embedding") and getattr(module, "weight", None) is not None
    ]


def draw_table(module: nn.Module, std: float, generator: torch.Generator) -> None:
    """Draw a table of embeddings, in place.

    One that trains only some of its rows holds them in ``weight``, with their numbers in ``kept``, beside a
    whole ``table`` of all rows.
    """
    weight: Tensor = module.get_parameter("weight")
    buffers = dict(module.named_buffers(recurse=False))
    whole = buffers.get("table", weight)
    padding = getattr(module, "padding_idx", None)
    with torch.no_grad():
        drawn = normal_rows(len(whole), whole.shape[1], std, generator, padding)
        whole.copy_(drawn)
        if whole is not weight:
            weight.copy_(drawn[buffers["kept"].cpu()])


class InitEmbeddings(Technique[InitEmbeddingsConfig]):
    """Draws every table of embeddings before the run's groups are made."""

    Config = InitEmbeddingsConfig
    facts = Facts(family="initialisation", phase=MODEL, paper="Devlin et al. 2019, arXiv 1810.04805")

    def attach(self, plan: Plan) -> None:
        std, seed = self.config.std, plan.context.seed
        if not tables_of(plan.context.backbone):
            raise ConflictError(
                f"init_embeddings needs embeddings and {type(plan.context.backbone).__name__} has none; "
                "remove init_embeddings"
            )

        def edit(backbone: Backbone) -> Backbone:
            for name, module in tables_of(backbone):
                draw_table(module, std, torch_generator(seed, "init_embeddings", name))
            return backbone

        plan.add(MODEL, edit, rank=-4)
