"""What runs on the same data need not do twice: read and tokenize them, and compute frozen features.

A study, a tuner and folds build many runs whose data settings and seeds are equal. A run gives what it would
give alone: parts are never changed by a run, and features that a frozen backbone computes are the same in
every run that starts from the same weights.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from etude.config.run import Config
from etude.core.backbone import Backbone
from etude.core.engine import Engine
from etude.core.examples import Examples
from etude.core.predict import CachedFeatures, predict
from etude.data.load import Data, Part

if TYPE_CHECKING:
    from etude.core.plan import Plan

NOT_OF_THE_DATA = {"head", "head_dropout", "dropout", "pooling"}
"""Settings of a backbone that change nothing of how its inputs are prepared."""


def data_fingerprint(data: Data) -> str:
    """A hash of the rows, targets, weights and inputs of all parts that may be read while a run trains."""
    digest = hashlib.sha256()
    parts: dict[Part, Examples] = {"train": data.train}
    if data.validation is not None:
        parts["validation"] = data.validation
    for rows in (data.rows[name] for name in parts):
        digest.update(np.ascontiguousarray(rows).tobytes())
    for part in (parts | {"train": data.pool}).values():
        for _, value in sorted(vars(part).items()):
            if isinstance(value, Tensor | np.ndarray):
                digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def weights_fingerprint(module: nn.Module, *, without: nn.Module | None = None) -> str:
    """A hash of a module's parameters and buffers, names and values.

    Args:
        module: whose.
        without: a module inside of it that does not count.
    """
    inside = {} if without is None else without.state_dict(keep_vars=True)
    left_out = {id(value) for value in inside.values()}
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(module.state_dict(keep_vars=True).items()):
        if id(value) not in left_out:
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


class Shared:
    """The data and the features that several runs of one process share; the oldest are forgotten.

    Attributes:
        seconds: what was spent on features in all.
    """

    def __init__(self, keep: int = 2) -> None:
        self._keep = keep
        self._data: OrderedDict[str, Data] = OrderedDict()
        self._fingerprints: dict[str, tuple[Data, str]] = {}
        self._features: dict[tuple[int, str], tuple[Examples, Tensor, float]] = {}
        self.seconds = 0.0

    def data(self, config: Config, load: Callable[[], Data]) -> Data:
        """Return the data of a config, loaded by ``load`` where no run before it had the same."""
        key = self.key(config)
        if key not in self._data:
            self._data[key] = load()
            while len(self._data) > self._keep:
                old, forgotten = self._data.popitem(last=False)
                self._forget(old, forgotten)
        self._data.move_to_end(key)
        return self._data[key]

    @staticmethod
    def key(config: Config) -> str:
        """All settings that decide what the data of a run are."""
        settings = config.model_dump(mode="json", include={"task", "seed", "data", "columns", "backbone"})
        backbone = {k: v for k, v in settings["backbone"].items() if k not in NOT_OF_THE_DATA}
        return json.dumps(settings | {"backbone": backbone}, sort_keys=True)

    def _forget(self, key: str, data: Data) -> None:
        self._fingerprints.pop(key, None)
        gone = {id(part) for part in (data.train, data.validation, data.pool)}
        self._features = {k: v for k, v in self._features.items() if k[0] not in gone}

    def fingerprint(self, config: Config, data: Data) -> str:
        """The hash of a config's data, computed once; see :func:`data_fingerprint`."""
        key = self.key(config)
        known = self._fingerprints.get(key)
        if known is None or known[0] is not data:
            known = data, data_fingerprint(data)
            self._fingerprints[key] = known
        return known[1]

    def lend_features(self, engine: Engine, config: Config) -> float:
        """Let an engine train on known features, where nothing but its head ever trains.

        Returns:
            The seconds that the features cost when they were computed, by this run or by an earlier one; 0
            where the engine computes for itself.
        """
        if not (engine.settings.cache_features and only_the_head_trains(engine.plan, engine)):
            return 0.0
        body = engine.backbone
        about = [repr(body), config.backbone.model_dump(mode="json"), engine.plan.context.precision]
        weights = weights_fingerprint(body, without=body.head)
        key = hashlib.sha256(f"{json.dumps(about)} {weights}".encode()).hexdigest()
        engine.train, first = self._of(engine, engine.train, key)
        second = 0.0
        if engine.validation is not None:
            engine.validation, second = self._of(engine, engine.validation, key)
        return first + second

    def _of(self, engine: Engine, examples: Examples, key: str) -> tuple[Examples, float]:
        place = id(examples), key
        if place not in self._features:
            start = time.perf_counter()
            found = predict(
                engine.model,
                examples,
                engine.accelerator,
                reporter=engine.reporter,
                title="features",
                features=True,
            )
            spent = time.perf_counter() - start
            self.seconds += spent
            self._features[place] = examples, found, spent
        _, features, seconds = self._features[place]
        return CachedFeatures(examples, features), seconds


def only_the_head_trains(plan: Plan, engine: Engine) -> bool:
    """Whether all under the head is frozen from the first step to the last, and inputs stay as they are.

    Args:
        plan: the run's.
        engine: made from it and not yet trained.
    """
    if plan.changes_inputs() or not engine.groups:  # what one call fits has no groups, and no features yet
        return False
    backbone: Backbone = engine.backbone
    under: set[Any] = {id(p) for _, block in backbone.blocks()[:-1] for p in block.parameters()}
    return all(
        group.frozen_until >= engine.settings.total_steps or not any(id(p) in under for p in group.params)
        for group in engine.groups
    )
