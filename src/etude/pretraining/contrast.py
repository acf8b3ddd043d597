"""Momentum contrast: know an image again among many others.

Idea: two views of one image should have features that are nearer to each other than to those of any other
image. What does not change from view to view, and tells images apart, is what they show.

Formula, with a query q and a key k of two views, unit vectors of an encoder and of its momentum copy, keys
n_1 ... n_K of earlier images in a queue, and temperature τ = 0.2:

* the loss is -log exp(q·k / τ) / (exp(q·k / τ) + Σ_i exp(q·n_i / τ))
* after the step the copy's weights are θ' ← m θ' + (1 - m) θ with m = 0.99, and its keys join the queue

Paper: He et al. 2020 (1911.05722), section 3; head and temperature of Chen et al. 2020 (2003.04297).

NOTE[DIFF]: small, for a processor: a queue of 1,024 keys and m = 0.99, where the paper has 65,536 and 0.999.
NOTE[DIFF]: views are crops, shifts of brightness and contrast, and noise; none is mirrored, since digits and
signs are not what they are in a mirror. Keys are not shuffled between devices.

Shapes: B images, E numbers of an embedding, K keys in the queue.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etude.backbones.image.model import ImageBackbone
from etude.core.backbone import Backbone
from etude.core.batch import Batch
from etude.core.phases import AUGMENT, OBSERVE
from etude.core.plan import Plan
from etude.core.predict import evaluation_mode
from etude.core.rng import Moment, key, numpy_generator
from etude.data.load import Data
from etude.pretraining.pretext import Inputs, Objective, Pretext, save_under_fresh_head

D_EMBEDDING, N_QUEUE, TEMPERATURE, MOMENTUM = 128, 1024, 0.2, 0.99
SMALLEST, CHANGE, NOISE = 0.4, 0.4, 0.03
"""Of a view: its smallest share of the image's area, how far brightness and contrast go, and its noise."""

N_FIRST, TOGETHER = 256, 64
"""Images whose keys are in the queue at first, again and again, and how many pass the network at once."""

OTHER_VIEW, KEYS = "other_view", "keys"


def info_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the loss of each query (B,), and whether its own key is the nearest (B,).

    Args:
        queries: (B, E), unit vectors.
        keys: (B, E), unit vectors.
        queue: (K, E), unit vectors of other images.
        temperature: above 0.

    >>> eye = torch.eye(2)
    >>> losses, nearest = info_nce(eye[:1], eye[:1], eye[1:], temperature=1.0)
    >>> round(float(losses[0]), 4), nearest.tolist()
    (0.3133, [True])
    """
    own = (queries * keys).sum(dim=1, keepdim=True)
    logits = torch.cat([own, queries @ queue.T], dim=1) / temperature
    first = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    return F.cross_entropy(logits, first, reduction="none"), logits.argmax(dim=1) == 0


def random_view(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Return a view of each image: a crop at the old size, brighter or darker, of another contrast, noisy.

    Args:
        pixels: (B, C, H, W) from 0 to 1.
        rng: the source of all draws.

    >>> view = random_view(torch.rand(2, 1, 8, 8), np.random.default_rng(0))
    >>> tuple(view.shape), bool((view >= 0).all() and (view <= 1).all())
    ((2, 1, 8, 8), True)
    """
    n = len(pixels)
    scale = np.sqrt(rng.uniform(SMALLEST, 1.0, (n, 1))) * np.exp(rng.uniform(-0.15, 0.15, (n, 2)))
    scale = scale.clip(0.1, 1.0)
    shift = rng.uniform(-1.0, 1.0, (n, 2)) * (1.0 - scale)
    theta = np.zeros((n, 2, 3), dtype=np.float32)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale[:, 0], scale[:, 1], shift
    grid = F.affine_grid(torch.from_numpy(theta), list(pixels.shape), align_corners=False)
    view = F.grid_sample(pixels.float(), grid, padding_mode="border", align_corners=False)
    factors = torch.from_numpy(rng.uniform(1 - CHANGE, 1 + CHANGE, (2, n, 1, 1, 1)).astype(np.float32))
    mean = view.mean(dim=(1, 2, 3), keepdim=True)
    view = ((view - mean) * factors[0] + mean) * factors[1]
    noise = rng.standard_normal(tuple(view.shape), dtype=np.float32) * NOISE
    return (view + torch.from_numpy(noise)).clamp(0.0, 1.0).to(pixels.dtype)


def as_buffers(module: nn.Module) -> nn.Module:
    """Turn a module's parameters into buffers, which no optimizer moves and every checkpoint holds.

    >>> layer = as_buffers(nn.Linear(2, 1))
    >>> len(list(layer.parameters())), sorted(layer.state_dict())
    (0, ['bias', 'weight'])
    """
    for inner in module.modules():
        for name, value in list(inner.named_parameters(recurse=False)):
            delattr(inner, name)
            inner.register_buffer(name, value.detach().clone())
    return module


class ContrastPretext(Pretext):
    """An image backbone under a projection, its momentum copy, and the queue.

    Attributes:
        momentum, projection: the copies of backbone and head, which follow them.
        queue: (K, E).
        next_key: where the next key goes.
    """

    inner: ImageBackbone
    queue: Tensor
    next_key: Tensor

    def __init__(self, inner: ImageBackbone, d_head: int, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(key(seed, "pretext"))
            head = nn.Sequential(
                nn.Linear(inner.network.d_out, d_head), nn.ReLU(), nn.Linear(d_head, D_EMBEDDING)
            )
        super().__init__(inner, head)
        self.momentum = cast("ImageBackbone", as_buffers(copy.deepcopy(inner)))
        self.projection = as_buffers(copy.deepcopy(head))
        self.register_buffer("queue", torch.zeros(N_QUEUE, D_EMBEDDING))
        self.register_buffer("next_key", torch.zeros((), dtype=torch.int64))

    def judge(self, layers: tuple[Tensor, ...], inputs: Inputs) -> Tensor:
        queries = F.normalize(self.head(layers[-1]).float(), dim=1)
        keys = inputs[KEYS] if KEYS in inputs else self.keys_of(inputs[OTHER_VIEW])
        losses, nearest = info_nce(queries, keys, self.queue, TEMPERATURE)
        return torch.stack([losses, torch.ones_like(losses), nearest.to(losses.dtype)], dim=1)

    @torch.no_grad()
    def keys_of(self, pixels: Tensor) -> Tensor:
        """The keys (B, E) of images by the momentum copy."""
        features = self.momentum.features({"pixels": pixels})
        return F.normalize(self.projection(features).float(), dim=1)

    @torch.no_grad()
    def follow(self, keys: Tensor) -> None:
        """Let the copy follow the weights, and the keys (B, E) join the queue in the place of the oldest."""
        for copied, module in ((self.momentum, self.inner), (self.projection, self.head)):
            theirs = dict(copied.named_buffers())
            for name, value in module.named_parameters():
                theirs[name].lerp_(value.detach(), 1.0 - MOMENTUM)
        keys = keys[-N_QUEUE:]
        at = (self.next_key + torch.arange(len(keys), device=keys.device)) % N_QUEUE
        self.queue[at] = keys
        self.next_key.copy_((self.next_key + len(keys)) % N_QUEUE)

    def save(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        save_under_fresh_head(self.inner, self.inner.network.d_out, folder, metadata)


class Contrast(Objective):
    """Momentum contrast on an image backbone."""

    name: ClassVar[str] = "contrast"

    def wrap(self, backbone: Backbone, data: Data, seed: int) -> Pretext:
        self._pretext = ContrastPretext(cast("ImageBackbone", backbone), self.settings.head, seed)
        self._keys = torch.zeros(0, D_EMBEDDING)
        self._fill_queue(data, seed)
        return self._pretext

    def _fill_queue(self, data: Data, seed: int) -> None:
        """Begin with keys of training images, so that the first losses are comparable with later ones."""
        rng = numpy_generator(seed, self.name, "queue")
        rows = rng.permutation(len(data.pool))[:N_FIRST]
        with evaluation_mode(self._pretext):
            keys = [
                self._pretext.keys_of(random_view(data.pool.inputs(some)["pixels"], rng))
                for some in np.array_split(rows, -(-len(rows) // TOGETHER))
            ]
            self._pretext.queue.copy_(torch.cat(keys).repeat(-(-N_QUEUE // len(rows)), 1)[:N_QUEUE])

    def spoil(self, inputs: Inputs, rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        pixels = inputs["pixels"]
        views = {"pixels": random_view(pixels, rng), OTHER_VIEW: random_view(pixels, rng)}
        return {**inputs, **views}, torch.ones(len(pixels))

    def attach(self, plan: Plan) -> None:
        super().attach(plan)

        def with_keys(batch: Batch, moment: Moment) -> Batch:
            # Once for each step: the same keys when it is replayed, and one forward pass of the copy.
            pretext = self._pretext
            pretext.momentum.key_randomness(key(moment.seed, self.name, moment.step))
            found = pretext.keys_of(batch.inputs[OTHER_VIEW].to(pretext.queue.device))
            self._keys = found
            rest = {name: value for name, value in batch.inputs.items() if name != OTHER_VIEW}
            return Batch({**rest, KEYS: found.cpu()}, batch.targets, batch.weights, batch.index)

        plan.add(AUGMENT, with_keys, rank=1)
        plan.add(OBSERVE, _Follow(self))


class _Follow:
    """Lets the copy and the queue follow after each step that counted."""

    def __init__(self, objective: Contrast) -> None:
        self._objective = objective

    def on_start(self, run: Any) -> None:
        """Do nothing."""

    def on_step(self, run: Any) -> None:
        """Follow, unless the step was skipped."""
        if run.skipped == 0:
            self._objective._pretext.follow(self._objective._keys)

    def on_epoch(self, run: Any) -> None:
        """Do nothing."""

    def on_evaluation(self, run: Any, scores: Mapping[str, float]) -> None:
        """Do nothing."""

    def on_end(self, run: Any) -> None:
        """Do nothing."""
