"""Tiny real backbones and examples, so that every pair of techniques can train in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from etude.core.backbone import Backbone
from etude.core.examples import Examples
from etude.core.rng import numpy_generator, torch_generator
from etude.core.task import Kind, Task, make_task
from etude.parts.prefix import SLOT, AttentionSizes, Prefix, PrefixSlot

N_TOKENS, MASK, PAD = 50, 1, 0


class TinyTransformer(Backbone):
    """Token embeddings, pre-norm attention blocks, masked mean pooling, a linear head.

    Args:
        n_classes: C.
        d_model: width D.
        n_blocks: attention blocks.
        dropout: probability of every dropout layer.
        seed: the weights' seed.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"embed", "tokens", "dropout", "linear_head", "parts", "prompt", "prefix"}
    )
    mask_token_id, pad_token_id, special_ids = MASK, PAD, (PAD, MASK)
    vocabulary_size = N_TOKENS

    def __init__(
        self, n_classes: int, d_model: int = 8, n_blocks: int = 2, dropout: float = 0.0, seed: int = 0
    ) -> None:
        super().__init__()
        self.fingerprint = f"tiny-{N_TOKENS}"
        self.embedding = nn.Embedding(N_TOKENS, d_model)
        self.layers = nn.ModuleList(_Block(d_model, dropout) for _ in range(n_blocks))
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(d_model, n_classes))
        # Real models have buffers, which several processes keep alike by talking to each other.
        self.register_buffer("positions", torch.arange(9), persistent=False)
        initialise(self, seed)

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Map token ids (B, L) to embeddings (B, L, D)."""
        embedded: Tensor = self.embedding(inputs["input_ids"])
        return embedded

    def layers_from(self, embedding: Tensor, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Map embeddings (B, L, D) to the features (B, L, D) after each block."""
        mask = inputs["attention_mask"]
        n_tokens = mask.shape[1]
        if self.prompt is not None:
            embedding, mask = self.prompt(embedding, mask)
        mask = mask.to(embedding.dtype).unsqueeze(-1)
        hidden = [embedding]
        for layer in self.layers:
            hidden.append(layer(hidden[-1], mask))
        return tuple(features[:, -n_tokens:] for features in hidden[1:])  # without the prompt's

    def put_prefix(self, prefix: nn.Module) -> None:
        """Let each block's attention look at its part of the prefix."""
        if isinstance(prefix, Prefix):
            for i, layer in enumerate(self.layers):
                setattr(layer, SLOT, PrefixSlot(prefix, i))
        super().put_prefix(prefix)

    def attention_sizes(self) -> AttentionSizes:
        """One head as wide as the model in every block."""
        return AttentionSizes(len(self.layers), 1, self.embedding.embedding_dim)

    def pool(self, layers: tuple[Tensor, ...], inputs: Mapping[str, Tensor]) -> Tensor:
        """Map features (B, L, D) to masked means (B, D), or to what the pooler makes of them."""
        if self.pooler is not None:
            pooled: Tensor = self.pooler(layers, inputs["attention_mask"])
            return pooled
        mask = inputs["attention_mask"].to(layers[-1].dtype).unsqueeze(-1)
        return (layers[-1] * mask).sum(1) / mask.sum(1)

    def blocks(self) -> list[tuple[str, nn.Module]]:
        """The embedding, each attention block, the pooler where there is one, the head."""
        front = [module for module in (self.prompt, self.prefix) if module is not None]
        first = nn.ModuleList([self.embedding, *front]) if front else self.embedding
        layers = [(f"layer.{i}", layer) for i, layer in enumerate(self.layers)]
        pooler = [] if self.pooler is None else [("pooler", self.pooler)]
        return [("embedding", first), *layers, *pooler, ("head", self.head)]


class _Block(nn.Module):
    def __init__(self, d_model: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.query_key = nn.Linear(d_model, 2 * d_model)
        self.out = nn.Linear(d_model, d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        normed = self.norm(hidden)
        query, keys = self.query_key(normed).chunk(2, dim=-1)
        values, sees = normed, mask.transpose(1, 2) != 0
        slot: PrefixSlot | None = getattr(self, SLOT, None)
        if slot is not None:
            found = slot.in_front(query[:, None], keys[:, None], values[:, None], sees[:, None], causal=False)
            keys, values, sees = (tensor[:, 0] for tensor in found if tensor is not None)
        scores = query @ keys.transpose(1, 2) / hidden.shape[-1] ** 0.5
        scores = scores.masked_fill(~sees, float("-inf"))
        mixed = scores.softmax(-1) @ values
        update: Tensor = self.dropout(torch.tanh(self.out(mixed)))
        return hidden + update


class TinyMLP(Backbone):
    """Numbers (B, D) through hidden layers; no embedding to mix, no tokens to mask."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"dropout", "linear_head", "mixable", "columns"})
    mixable = ("numbers",)

    def __init__(
        self, n_classes: int, d_in: int = 6, d_hidden: int = 8, dropout: float = 0.0, seed: int = 0
    ) -> None:
        super().__init__()
        self.fingerprint = f"mlp-{d_in}"
        self.hidden = nn.Sequential(nn.Linear(d_in, d_hidden), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Linear(d_hidden, n_classes)
        initialise(self, seed)

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The numbers themselves."""
        return inputs["numbers"]

    def layers_from(self, embedding: Tensor, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Map numbers (B, D) to the features (B, H) of the one hidden layer."""
        return (self.hidden(embedding),)

    def pool(self, layers: tuple[Tensor, ...], inputs: Mapping[str, Tensor]) -> Tensor:
        """The features of a row are those of its one part."""
        return layers[-1]

    def blocks(self) -> list[tuple[str, nn.Module]]:
        """The hidden layers and the head."""
        return [("hidden", self.hidden), ("head", self.head)]


class TinyConvNet(Backbone):
    """Images (B, 1, 8, 8) through one convolution with BatchNorm, global mean pooling, a linear head.

    Args:
        n_classes: C.
        channels: width D of the features.
        dropout: probability of the dropout layer.
        seed: the weights' seed.
        batch_norm: whether BatchNorm stands after the convolution; it makes rows of a micro-batch depend on
            each other.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"dropout", "linear_head", "mixable", "pixels"})
    mixable = ("pixels",)

    def __init__(
        self,
        n_classes: int,
        channels: int = 8,
        dropout: float = 0.0,
        seed: int = 0,
        *,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        self.fingerprint = "images-1x8x8"
        norm = nn.BatchNorm2d(channels) if batch_norm else nn.Identity()
        self.stem = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), norm, nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Linear(channels, n_classes)
        initialise(self, seed)

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The pixels themselves."""
        return inputs["pixels"]

    def layers_from(self, embedding: Tensor, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Map pixels (B, 1, 8, 8) to the means (B, D) of each channel."""
        return (self.stem(embedding).mean(dim=(2, 3)),)

    def pool(self, layers: tuple[Tensor, ...], inputs: Mapping[str, Tensor]) -> Tensor:
        """The features of an image are those of its one layer."""
        return layers[-1]

    def blocks(self) -> list[tuple[str, nn.Module]]:
        """The convolution with its norm, and the head."""
        return [("stem", self.stem), ("head", self.head)]


def initialise(module: nn.Module, seed: int) -> None:
    """Fill matrices with keyed normal numbers of standard deviation 0.3, and biases with zeros."""
    generator = torch_generator(seed, "tiny")
    for name, value in module.named_parameters():
        if value.dim() > 1:
            nn.init.normal_(value, std=0.3, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(value)


class TinyTokens:
    """N texts of 3 to 9 random tokens whose labels depend on the tokens."""

    def __init__(self, task: Task, n: int = 24, seed: int = 0, n_unlabelled: int = 0) -> None:
        rngs = [(numpy_generator(seed, "tiny tokens", size), size) for size in (n, n_unlabelled) if size]
        drawn = [(rng.integers(3, 10, size), rng.integers(2, N_TOKENS, (size, 9))) for rng, size in rngs]
        self.lengths: NDArray[np.int64] = np.concatenate([lengths for lengths, _ in drawn])
        self._ids = np.concatenate([ids for _, ids in drawn])
        self.targets = without_labels(tiny_targets(task, self._ids[:, 0]), n)
        self.weights = torch.ones(n + n_unlabelled)

    def __len__(self) -> int:
        return len(self.weights)

    def inputs(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Token ids and mask (n, L), padded to the longest of the rows."""
        lengths = self.lengths[rows]
        mask = np.arange(lengths.max())[None, :] < lengths[:, None]
        ids = np.where(mask, self._ids[rows][:, : lengths.max()], PAD)
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}


class TinyNumbers:
    """N rows of numbers whose labels depend on the first of them."""

    def __init__(self, task: Task, n: int = 24, d_in: int = 6, seed: int = 0, n_unlabelled: int = 0) -> None:
        self._numbers = _normal(seed, "tiny numbers", (n, n_unlabelled), (d_in,))
        self.lengths = np.ones(n + n_unlabelled, dtype=np.int64)
        source = (self._numbers[:, 0].numpy() * 10).astype(np.int64)
        self.targets = without_labels(tiny_targets(task, source), n)
        self.weights = torch.ones(n + n_unlabelled)

    def __len__(self) -> int:
        return len(self.weights)

    def inputs(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Numbers (n, D)."""
        return {"numbers": self._numbers[torch.from_numpy(rows)]}


class TinyImages:
    """N images (1, 8, 8) whose labels depend on their first pixel."""

    def __init__(self, task: Task, n: int = 24, seed: int = 0, n_unlabelled: int = 0) -> None:
        self._pixels = _normal(seed, "tiny images", (n, n_unlabelled), (1, 8, 8))
        self.lengths = np.ones(n + n_unlabelled, dtype=np.int64)
        source = (self._pixels[:, 0, 0, 0].numpy() * 10).astype(np.int64)
        self.targets = without_labels(tiny_targets(task, source), n)
        self.weights = torch.ones(n + n_unlabelled)

    def __len__(self) -> int:
        return len(self.weights)

    def inputs(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Pixels (n, 1, 8, 8)."""
        return {"pixels": self._pixels[torch.from_numpy(rows)]}


def _normal(seed: int, name: str, sizes: tuple[int, int], shape: tuple[int, ...]) -> Tensor:
    """Normal numbers for the labelled rows and, drawn apart, for those without labels behind them."""
    drawn = [
        numpy_generator(seed, name, size).standard_normal((size, *shape)).astype(np.float32)
        for size in sizes
        if size
    ]
    return torch.from_numpy(np.concatenate(drawn))


def without_labels(targets: Tensor, n: int) -> Tensor:
    """Targets (N, C) of which only the first ``n`` are left, the others being zeros."""
    return torch.cat([targets[:n], torch.zeros_like(targets[n:])])


def tiny_targets(task: Task, source: NDArray[np.int64]) -> Tensor:
    """Targets (N, C): one label by the remainder of the source, or several for multilabel tasks."""
    c = task.n_classes
    hard = np.eye(c, dtype=np.float32)[source % c]
    if task.kind == "multilabel":
        hard = np.maximum(hard, np.eye(c, dtype=np.float32)[source // c % c])
    return torch.from_numpy(hard)


def tiny_task(kind: Kind) -> Task:
    """A task of two or three labels."""
    return make_task(kind, ["no", "yes"] if kind == "binary" else ["a", "b", "c"])


def tiny_backbone(modality: str, task: Task, **settings: Any) -> Backbone:
    """The tiny backbone of a modality: ``"text"``, ``"table"`` or ``"image"``."""
    kinds: dict[str, Callable[..., Backbone]] = {
        "text": TinyTransformer,
        "table": TinyMLP,
        "image": TinyConvNet,
    }
    return kinds[modality](task.n_classes, **settings)


def tiny_examples(modality: str, task: Task, n: int = 24, seed: int = 0, n_unlabelled: int = 0) -> Examples:
    """The tiny data of a modality: ``n`` labelled rows and behind them some without labels."""
    kinds: dict[str, Callable[..., Examples]] = {
        "text": TinyTokens, "table": TinyNumbers, "image": TinyImages
    }  # fmt: skip
    return kinds[modality](task, n, seed=seed, n_unlabelled=n_unlabelled)


def cpu_accelerator() -> Any:
    """An accelerator on the processor in float32."""
    return Accelerator(cpu=True, mixed_precision="no")
