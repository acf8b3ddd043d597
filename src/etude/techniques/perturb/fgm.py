"""FGM: train on each text, and on the same text moved a little to where the model does worst.

Idea: the gradient by a text's embeddings says which small change of them hurts most. A model that must
be right there as well is smoother around every example.

Formula, with embeddings e (B, L, D) and losses ℓ_i of the examples:

* g_i = ∂L/∂e_i (L, D) and r_i = ε g_i / ||g_i||, the norm over all numbers of the example
* the step is taken with ∇L(e) + ∇L(e + r), r being held constant

Paper: Miyato et al. 2017 (1605.07725), section 3.

When it helps: text classification with little or noisy data; it often pays where dropout alone does not.
When not: where time is short; inputs without an embedding.

Suggested values: ε = 1, from 0.1 to 5; it is the length of a whole text's change, so that short texts
move further at each token.

Cost: 2 passes; one copy of the gradients and of a batch's embeddings.

Clashes: precision fp16, which rescales gradients between the passes (use bf16); another technique of
the phase perturb.

NOTE[DIFF]: the paper normalises word embeddings to unit variance first; those of a pretrained network
stay as they are. A well-known short form of FGM moves the embedding table by one norm over all its rows;
here each example has a norm of its own, as in the paper, so that micro-batches change nothing. What
moves is the embedding as the layers get it: mixed, where embeddings are mixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from etude.config.fields import SearchRange, setting
from etude.core.backbone import Backbone, Output
from etude.core.batch import Batch
from etude.core.phases import FORWARD, PERTURB, Gradients, ModelCall
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.techniques.perturb import unless_broken

INNERMOST = 1000
"""Its rank in the phase forward: whatever else changes embeddings has done so before."""


class FGMConfig(TechniqueConfig):
    """Settings of FGM."""

    name: Literal["fgm"] = "fgm"
    epsilon: float = setting(
        1.0, help="length of the change of one example's embeddings", ge=0.0,
        search=SearchRange(0.1, 5.0, "log"),
    )  # fmt: skip


def worst_change(gradient: Tensor, epsilon: float) -> Tensor:
    """Return ``epsilon * g / ||g||`` for each example, and zero where an example's gradient is zero.

    Args:
        gradient: (B, ...) by the embeddings.
        epsilon: ε, 0 or more.

    Raises:
        ValueError: ``epsilon`` is below 0.

    >>> worst_change(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), 0.5)
    tensor([[0.3000, 0.4000],
            [0.0000, 0.0000]])
    """
    if epsilon < 0.0:
        raise ValueError(f"epsilon is {epsilon} and must be 0 or more")
    whole = gradient if gradient.dtype == torch.float64 else gradient.float()
    flat = whole.flatten(1)
    # Gradients of a mean over a large batch are tiny, and their squares would be zero.
    largest = flat.abs().amax(dim=1, keepdim=True)
    flat = torch.where(largest > 0, flat / largest, 0.0)
    change = epsilon * flat / flat.norm(dim=1, keepdim=True).clamp_min(1.0)
    return change.view_as(gradient).to(gradient.dtype)


class Attack:
    """The changes of one step's embeddings: listened to in the first pass, used in the second.

    Embeddings of a step are told apart by the order in which the model is called, which a replay keeps.
    Passes without gradients, which look ahead, have an order of their own.
    """

    def __init__(self, epsilon: float) -> None:
        self._epsilon = epsilon
        self._leaves: list[Tensor] = []
        self._changes: list[Tensor] = []
        self._calls = {True: 0, False: 0}

    def listen(self) -> None:
        """Begin the first pass."""
        self._leaves, self._changes = [], []

    def strike(self) -> None:
        """Begin the second pass."""
        heard = [leaf if leaf.grad is None else leaf.grad for leaf in self._leaves]
        self._changes = [worst_change(gradient, self._epsilon) for gradient in heard]
        self._leaves, self._calls = [], {True: 0, False: 0}

    def __call__(self, backbone: Backbone, embedding: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Change an embedding (B, ...)."""
        grad = torch.is_grad_enabled()
        if self._changes:
            self._calls[grad] += 1
            return embedding + self._changes[(self._calls[grad] - 1) % len(self._changes)]
        if not grad:
            return embedding
        self._leaves.append(torch.zeros_like(embedding, requires_grad=True))
        return embedding + self._leaves[-1]


def adversarial_gradients(gradients: Gradients, params: Sequence[nn.Parameter], attack: Attack) -> Tensor:
    """Leave in ``.grad`` the sum of the gradients at the embeddings and at the changed ones.

    Args:
        gradients: fills ``.grad`` anew, with embeddings that pass through the attack, and returns the loss.
        params: the weights.
        attack: changes embeddings.

    Returns:
        The loss of the unchanged embeddings, or nan where that of the changed ones is not finite.
    """
    attack.listen()
    loss = gradients()
    clean = [value.grad for value in params]
    attack.strike()
    try:
        there = gradients()
    finally:
        attack.listen()
    with torch.no_grad():
        for value, grad in zip(params, clean, strict=True):
            if value.grad is not None and grad is not None:
                value.grad.add_(grad)
    return unless_broken(loss, there)


class FGM(Technique[FGMConfig]):
    """Adds the gradient of each batch's worst neighbour to its own."""

    Config = FGMConfig
    facts = Facts(
        family="perturb",
        phase=PERTURB,
        paper="Miyato et al. 2017, arXiv 1605.07725",
        passes=2.0,
        needs=frozenset({"embed"}),
        changes_inputs=True,
        two_pass=True,
        neutral={"epsilon": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        if self.config.epsilon == 0.0:
            return
        attack = Attack(self.config.epsilon)

        def perturb(gradients: Gradients, params: Sequence[nn.Parameter], moment: Moment) -> Tensor:
            return adversarial_gradients(gradients, params, attack)

        def forward(call: ModelCall, batch: Batch, moment: Moment) -> Output:
            return call(batch, attack)

        plan.add(PERTURB, perturb)
        plan.add(FORWARD, forward, rank=INNERMOST)
