"""Which weights a run keeps: the last ones, those of its best evaluation, or an average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numpy as np

from etude.config.run import Config
from etude.core.engine import Engine
from etude.core.phases import AVERAGE
from etude.errors import ConfigError
from etude.techniques import technique_class

Kept = Literal["last", "best", "average"]
KEEPS_BEST = "soup"
"""The technique that holds on to the weights of the best evaluations; of one, where k is 1."""


def techniques_for_final(config: Config, chosen: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings of the techniques that ``train.final`` needs beside the chosen ones.

    Args:
        config: the run's config.
        chosen: the settings of the techniques so far, by name.

    Raises:
        ConfigError: the chosen techniques, or a missing validation part, leave no such weights.
    """
    averages = [name for name in chosen if technique_class(name).facts.averages_weights]
    if config.train.final == "average" and not averages:
        raise ConfigError(
            'train.final = "average" needs a technique that averages weights and there is none; add '
            '[techniques.ema], or set train.final = "last"'
        )
    if config.train.final != "best":
        return {}
    if config.data.validation is False and config.data.folds is None:
        raise ConfigError(
            'train.final = "best" needs a validation part to tell which weights are best, and '
            'data.validation is false; set data.validation, or train.final = "last"'
        )
    for name in averages:
        if name != KEEPS_BEST or chosen[name].get("k") != 1:
            raise ConfigError(
                f'train.final = "best" keeps the weights of one evaluation and {name} a mean of several; '
                f'remove [techniques.{name}], or set train.final = "average"'
            )
    return {KEEPS_BEST: {"k": 1}}


def kept_weights(config: Config, engine: Engine) -> Kept:
    """Return which weights the run keeps, with ``"auto"`` resolved."""
    if config.train.final == "last" or engine.plan.one(AVERAGE) is None:
        return "last"
    return "best" if config.train.final == "best" else "average"


def final_weights(config: Config, engine: Engine) -> AbstractContextManager[None]:
    """Within this context the model has the weights that the run keeps."""
    return nullcontext() if kept_weights(config, engine) == "last" else engine.final_weights()


def final_scores(config: Config, engine: Engine, history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return which weights were kept, and what all that there are score on the validation part.

    An average's last evaluation stands in the history, so that only the raw weights are scored once
    more, by all processes.

    Args:
        config: the run's config.
        engine: at the end of its training.
        history: the records of ``metrics.jsonl``; empty in all processes but the first.
    """
    evaluations = [record["validation"] for record in history if "validation" in record]
    averaged = engine.plan.one(AVERAGE) is not None
    raw = engine.scores() if averaged else {}
    scores: dict[str, Mapping[str, float]] = {}
    if evaluations:
        scores["last"] = raw if averaged else evaluations[-1]
        metric = engine.plan.context.task.main_metric
        values = [evaluation.get(metric, np.nan) for evaluation in evaluations]
        if np.isfinite(values).any():
            scores["best"] = evaluations[int(np.nanargmax(values))]
        if averaged and config.train.final != "best":
            scores["average"] = evaluations[-1]
    return {"kept": kept_weights(config, engine), "scores": scores}
