"""No decay: weight decay for matrices only, not for biases, norms and embeddings.

Idea: decay keeps matrices from growing; a bias, or the scale and shift of a norm, cannot overfit much
and is only pulled off its value by it. An embedding row that a step does not use would shrink all the
same.

Formula, with the optimizer's decay λ: λ' = 0 for biases, parameters of norms, other parameters of one
dimension, and embeddings; λ' = λ for the rest.

Paper: Devlin et al. 2019 (1810.04805), in its code; He et al. 2019 (1812.01187), section 3.1.

When it helps: whenever weight decay is on.
When not: without weight decay it changes nothing.

Suggested values: both settings on.

Cost: 1 pass; no memory.

Clashes: none; it merges with every other rule on groups.

NOTE[DIFF]: BERT's code decays the embeddings.
"""

from __future__ import annotations

from typing import Literal

from etude.config.fields import setting
from etude.core.phases import GROUPS, GroupRule, Parameter
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig


class NoDecayConfig(TechniqueConfig):
    """Settings of the decay-free parameters."""

    name: Literal["no_decay"] = "no_decay"
    vectors: bool = setting(True, help="no decay for biases, norms and others of one dimension")
    embeddings: bool = setting(True, help="no decay for embeddings")


def is_decay_free(parameter: Parameter, *, vectors: bool = True, embeddings: bool = True) -> bool:
    """Whether a parameter shall have no weight decay.

    Args:
        parameter: its name, tensor and owner.
        vectors: whether biases, norms and others of one dimension are free.
        embeddings: whether embeddings are free.

    >>> import torch
    >>> def parameter(name, *shape):
    ...     value = torch.nn.Parameter(torch.zeros(shape))
    ...     return Parameter(name, value, block=0, n_blocks=2, in_norm=False, in_embedding=False)
    >>> is_decay_free(parameter("dense.weight", 3, 3)), is_decay_free(parameter("dense.bias", 3))
    (False, True)
    """
    if parameter.in_embedding:
        return embeddings
    is_vector = parameter.in_norm or parameter.name.endswith(".bias") or parameter.value.ndim <= 1
    return vectors and is_vector


class NoDecay(Technique[NoDecayConfig]):
    """Takes weight decay off some parameters."""

    Config = NoDecayConfig
    facts = Facts(
        family="groups",
        phase=GROUPS,
        paper="Devlin et al. 2019, arXiv 1810.04805",
        neutral={"vectors": False, "embeddings": False},
    )

    def attach(self, plan: Plan) -> None:
        vectors, embeddings = self.config.vectors, self.config.embeddings
        if not vectors and not embeddings:
            return

        def rule(parameter: Parameter) -> GroupRule:
            return GroupRule(no_decay=is_decay_free(parameter, vectors=vectors, embeddings=embeddings))

        plan.add(GROUPS, rule)
