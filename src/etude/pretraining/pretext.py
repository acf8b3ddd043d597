"""What all objectives share: the pretext around the backbone, the loss, the held-out rows.

A pretext's "logits" are what its head found out about each row, (B, 3): the sum of the losses of the row's
predictions, how many predictions there were, and how many were right. A row then weighs as many as its
predictions, so that the loss of a step is the mean over all predictions of the macro-batch, however it is
split.

Shapes: B rows of a batch, N rows of a part.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from etude.backbones.dropout import DropoutKeys
from etude.backbones.heads import LinearHead
from etude.config.pretrain import PretrainConfig
from etude.core.backbone import Backbone, Output, Transform
from etude.core.batch import Batch
from etude.core.examples import Examples
from etude.core.phases import AUGMENT, LOSS, Rows
from etude.core.plan import Plan
from etude.core.rng import Moment, numpy_generator
from etude.core.task import Multilabel
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.data.load import Data

Inputs = Mapping[str, Tensor]


class PretextTask(Multilabel):
    """The task of a run without labels: any number of predictions for a row, scored by their loss."""

    main_metric = "loss"

    def __init__(self) -> None:
        super().__init__(["prediction"])


class Pretext(Backbone):
    """A backbone whose head reconstructs inputs.

    Attributes:
        inner: the backbone that learns; its own head is taken off.
        head: what reconstructs.
    """

    inner: Backbone

    def __init__(self, inner: Backbone, head: nn.Module) -> None:
        super().__init__()
        inner.put_head(nn.Identity())
        self.inner, self.head = inner, head
        self.capabilities = inner.capabilities - {"linear_head"}  # type: ignore[misc]  # of this one only
        self.mixable, self.fingerprint = inner.mixable, inner.fingerprint

    def forward(self, inputs: Inputs, transform: Transform | None = None) -> Output:
        embedding = self.inner.embed(inputs)
        if transform is not None:
            embedding = transform(self.inner, embedding, inputs)
        layers = self.inner.layers_from(embedding, inputs)
        return Output(self.judge(layers, inputs), layers[-1], layers if self.keep_hidden else ())

    @abstractmethod
    def judge(self, layers: tuple[Tensor, ...], inputs: Inputs) -> Tensor:
        """Map the backbone's layers to what the head found out, (B, 3); see the module."""

    def key_randomness(self, key: int) -> None:
        self.inner.key_randomness(key)

    def embed(self, inputs: Inputs) -> Tensor:
        return self.inner.embed(inputs)

    def layers_from(self, embedding: Tensor, inputs: Inputs) -> tuple[Tensor, ...]:
        return self.inner.layers_from(embedding, inputs)

    def pool(self, layers: tuple[Tensor, ...], inputs: Inputs) -> Tensor:
        return self.inner.pool(layers, inputs)

    def blocks(self) -> list[tuple[str, nn.Module]]:
        return [*self.inner.blocks()[:-1], ("head", self.head)]

    @abstractmethod
    def save(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        """Write the backbone into a folder that ``backbone.path`` may name, whole or not at all."""


def save_under_fresh_head(
    backbone: Backbone, d_features: int, folder: Path, metadata: Mapping[str, Any]
) -> None:
    """Save a backbone without a head: a form with a head needs one, and a later run puts its own there.

    Args:
        backbone: whose head is taken off.
        d_features: the width of its features.
        folder: see :meth:`Backbone.save`.
        metadata: see :meth:`Backbone.save`.

    Raises:
        RunError: the folder cannot be written.
    """
    bare = backbone.head
    with torch.random.fork_rng(devices=[]):
        backbone.head = LinearHead(d_features, 1, 0.0, DropoutKeys())
    try:
        backbone.save(folder, metadata)
    finally:
        backbone.head = bare


class ObjectiveConfig(TechniqueConfig):
    """Settings of an objective as a plan shows them."""

    share: float


class Objective(Technique[Any]):
    """What is learned without labels; one instance for one run.

    Class attributes:
        name: what ``pretrain.objective`` calls it.
        default_share: of an input's pieces, how many are hidden where the config does not say.
    """

    Config = ObjectiveConfig
    facts = Facts(family="pretraining", phase=LOSS, paper="", changes_inputs=True)
    name: ClassVar[str]
    default_share: ClassVar[float] = 0.15

    def __init__(self, config: PretrainConfig) -> None:
        self.share = config.share or self.default_share
        super().__init__(ObjectiveConfig(name=self.name, share=self.share))
        self.settings = config

    @classmethod
    def key(cls) -> str:
        return cls.name

    @abstractmethod
    def wrap(self, backbone: Backbone, data: Data, seed: int) -> Pretext:
        """Put the pretext around a backbone.

        Args:
            backbone: whose own head is not used.
            data: the rows, with what was learned from them.
            seed: what the fresh head's weights depend on, and nothing else.

        Raises:
            ConfigError: the backbone cannot learn so.
        """

    @abstractmethod
    def spoil(self, inputs: Inputs, rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Return spoilt inputs that hold what was there, and how many predictions each row asks for, (B,)."""

    def attach(self, plan: Plan) -> None:
        def augment(batch: Batch, moment: Moment) -> Batch:
            inputs, counts = self.spoil(batch.inputs, moment.numpy(self.name))
            return Batch(inputs, batch.targets, batch.weights * counts, batch.index)

        plan.add(AUGMENT, augment)
        plan.add(LOSS, mean_losses)

    def held_out(self, examples: Examples, seed: int) -> Spoilt:
        """Rows that are spoilt in the same way whenever they are looked at."""
        return Spoilt(examples, self, seed)


def mean_losses(output: Output, batch: Batch, moment: Moment) -> Tensor:
    """The mean loss of each row's predictions, as terms (B, 1); zero for a row without any.

    >>> found = torch.tensor([[6.0, 3.0, 1.0], [0.0, 0.0, 0.0]])
    >>> mean_losses(Output(found, found), None, None).tolist()
    [[2.0], [0.0]]
    """
    return (output.logits[:, 0] / output.logits[:, 1].clamp_min(1.0))[:, None]


def scores(found: Tensor) -> dict[str, float]:
    """The loss over all predictions of N rows (N, 3), and the share of those that were right.

    >>> scores(torch.tensor([[6.0, 3.0, 1.0], [2.0, 1.0, 1.0]]))
    {'loss': 2.0, 'accuracy': 0.5}
    """
    losses, counts, right = found.double().sum(dim=0).tolist()
    n_predictions = max(counts, 1.0)
    return {"loss": losses / n_predictions, "accuracy": right / n_predictions}


def by_row(rows: Tensor, losses: Tensor, right: Tensor, n_rows: int) -> Tensor:
    """Sum up predictions by their rows: (B, 3).

    Args:
        rows: (M,) the row of each prediction.
        losses: (M,) its loss.
        right: (M,) whether it was right.
        n_rows: B.

    >>> by_row(torch.tensor([0, 0, 2]), torch.tensor([1.0, 2.0, 4.0]), torch.tensor([True, False, True]), 3)
    tensor([[3., 2., 1.],
            [0., 0., 0.],
            [4., 1., 1.]])
    """
    each = torch.stack([losses, torch.ones_like(losses), right.to(losses.dtype)], dim=1)
    return losses.new_zeros(n_rows, 3).index_add(0, rows, each)


class Spoilt:
    """N examples spoilt by an objective, a function of the seed and the rows that are asked for together."""

    def __init__(self, examples: Examples, objective: Objective, seed: int) -> None:
        self.targets, self.weights, self.lengths = examples.targets, examples.weights, examples.lengths
        self._examples, self._objective, self._seed = examples, objective, seed

    def __len__(self) -> int:
        return len(self._examples)

    def inputs(self, rows: Rows) -> dict[str, Tensor]:
        """Return the spoilt inputs of some rows."""
        first = int(rows[0]) if len(rows) else -1
        rng = numpy_generator(self._seed, self._objective.name, "held out", first, len(rows))
        return self._objective.spoil(self._examples.inputs(rows), rng)[0]
