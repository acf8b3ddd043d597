"""Learning from inputs alone: what is hidden or exchanged, and the head that has to find it out.

An *objective* is placed into the plan like a technique: it spoils the inputs of a step (``augment``) and
gives their loss (``loss``). A *pretext* stands around the backbone in the engine: its head reconstructs.
Optimizer, schedule, clipping, averages, checkpoints and resuming are those of every run.
"""

from __future__ import annotations

import importlib

from etude.config.pretrain import PretrainConfig
from etude.errors import ConfigError
from etude.pretraining.pretext import Objective

OBJECTIVES = {
    "text": ("mlm",),
    "table": ("replaced_tokens", "denoise"),
    "image": ("masked_patches", "contrast"),
}
"""The objectives of each kind of data; the first one is what ``auto`` means."""

__all__ = ["OBJECTIVES", "Objective", "make_objective"]


def make_objective(config: PretrainConfig, kind: str) -> Objective:
    """Return the objective that a config names, for a kind of data.

    Raises:
        ConfigError: that kind of data has no such objective, or none at all.
    """
    fitting = OBJECTIVES.get(kind, ())
    name = (fitting[0] if fitting else "") if config.objective == "auto" else config.objective
    if name not in fitting:
        known = ", ".join(fitting) if fitting else "there is none"
        asked = "" if config.objective == "auto" else f"pretrain.objective = {name!r} does not fit, and "
        raise ConfigError(
            f"{asked}backbone.kind = {kind!r} learns without labels by: {known}; choose another objective or "
            "another backbone"
        )
    return _class_of(name)(config)


def _class_of(name: str) -> type[Objective]:
    """The class of an objective; nothing is imported before it is asked for."""
    module, found = _PLACES[name]
    loaded: type[Objective] = getattr(importlib.import_module(f"{__name__}.{module}"), found)
    return loaded


_PLACES = {
    "mlm": ("masked_tokens", "MaskedTokens"),
    "replaced_tokens": ("swapped_cells", "ReplacedTokens"),
    "denoise": ("swapped_cells", "Denoise"),
    "masked_patches": ("masked_patches", "MaskedPatches"),
    "contrast": ("contrast", "Contrast"),
}
