"""The learning-rate finder: a sweep of rates on the run that would be trained, and what it suggests.

A few dozen steps are taken while the rate rises by equal ratios (Smith 2017, 1506.01186; fastai's
``lr_find``). They are the run's own: its batches, its techniques, its groups of parameters, whose rates keep
their ratios. Warm-up, schedule and whatever else moves the rate stand aside; momentum and weight decay stay
as the techniques set them. Afterwards the model, the optimizer and the techniques are as they were.

NOTE[DIFF]: the same batches, with the same draws, are first seen at a rate of zero. What they lose there
above its mean is taken off, so that a falling curve is the rate's doing and no luck of the batches; this
matters where training starts near its end, as from a linear probe.

A curve of the training loss cannot say when a model overfits. ``choose = "best"`` therefore trains with each
rate that is read off it, to the end, and takes the one with the lowest validation loss.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from etude.config.run import Config
from etude.core.observe import Bar, Reporter
from etude.core.phases import OPTIMIZER, TUNE
from etude.errors import ConfigError, RunError
from etude.runs.build import Run, build
from etude.runs.shared import Shared
from etude.search.curve import FEWEST, SUGGESTIONS, Numbers, readable, smoothed, sweep_rates
from etude.search.probe import Probe, refuse_without_steps, untouched
from etude.search.space import with_params
from etude.search.trial import TrialFailed, quiet, run_trial

LOW, HIGH, STEPS, BETA = 1e-7, 10.0, 100, 0.98
DIVERGED = 4.0
"""The smoothed loss that is so many times its minimum ends the sweep."""
CHOSEN, BEST = "between", "best"
"""The reading that counts where none is named; the name that stands for a training with each of them."""


@dataclass(frozen=True)
class Sweep:
    """N steps of a sweep.

    Attributes:
        rates: (N,) as ``optimizer.lr`` would be set.
        losses: (N,) of each step's batch, with the techniques' targets, weights and extra losses, less what
            the untouched weights lose on this batch above their mean.
        smooth: (N,) their exponential mean.
        planned: the steps that the sweep would have had.
        diverged: whether it ended before.
    """

    rates: Numbers
    losses: Numbers
    smooth: Numbers
    planned: int
    diverged: bool

    def suggestions(self) -> dict[str, float]:
        """The rates that are read off the curve, by the name of the reading, to two digits."""
        rates, losses = readable(self.rates, self.smooth, self.planned)
        return {name: float(f"{read(rates, losses):.2g}") for name, read in SUGGESTIONS.items()}


@dataclass(frozen=True)
class FoundRate:
    """What a sweep suggests for a run.

    Attributes:
        sweep: its steps.
        suggestions: rates by the name of the reading.
        chosen: the name of the reading that counts.
        optimizer: the optimizer's name.
        lr: the rate that the config has now.
        stage, n_stages: how much of the model trained, counted from 1.
        seconds: how long it took.
        tried: the validation loss at the end of a training with each reading, where they were tried.
    """

    sweep: Sweep
    suggestions: Mapping[str, float]
    chosen: str
    optimizer: str
    lr: float
    stage: int
    n_stages: int
    seconds: float
    tried: Mapping[str, float] = field(default_factory=dict)

    @property
    def suggestion(self) -> float:
        """The chosen rate."""
        return self.suggestions[self.chosen]

    def toml(self) -> str:
        """The advice as a table that can be pasted into the config."""
        table = f'[optimizer]\nname = "{self.optimizer}"\n'
        if self.stage == 1:
            return f"{table}lr = {self.suggestion!r}\n"
        factor = float(f"{self.suggestion / self.lr:.2g}")
        return (
            f"{table}lr = {self.lr!r}\n# stage {self.stage} of {self.n_stages} wants {self.suggestion!r}, "
            f"which is a factor of {factor!r}\n"
        )

    def to_json(self) -> dict[str, Any]:
        """The suggestions and the curve as plain values."""
        return {
            "lr": self.suggestion,
            "chosen": self.chosen,
            "suggestions": dict(self.suggestions),
            "tried": dict(self.tried),
            "config_lr": self.lr,
            "optimizer": self.optimizer,
            "stage": self.stage,
            "n_stages": self.n_stages,
            "diverged": self.sweep.diverged,
            "rates": self.sweep.rates.tolist(),
            "losses": self.sweep.losses.tolist(),
            "smooth": self.sweep.smooth.tolist(),
            "seconds": self.seconds,
        }


def find_lr(
    config: Config,
    *,
    low: float = LOW,
    high: float = HIGH,
    steps: int = STEPS,
    stage: int = 1,
    choose: str = CHOSEN,
    reporter: Reporter | None = None,
) -> FoundRate:
    """Sweep the learning rate of the run that a config describes.

    Args:
        config: the run.
        low: where the sweep begins.
        high: where it ends at the latest.
        steps: optimizer steps of the whole sweep.
        stage: which stage of a gradual unfreezing, from 1; those before it are trained first, as in the run.
        choose: which reading of the curve counts: ``"between"``, ``"steepest"``, ``"minimum/10"`` or
            ``"valley"``; ``"best"`` trains with each, and takes the one with the lowest validation loss.
        reporter: who tells of progress.

    Raises:
        ConfigError: a bound, the number of steps, the stage or the reading cannot be used.
        RunError: the loss diverges before the curve says anything, or in every training that is tried.
    """
    refuse_without_steps(config, "find-lr")
    if not 0 < low < high:
        raise ConfigError(f"a sweep from {low:g} to {high:g} is none; give two rates above 0 that rise")
    if steps < FEWEST:
        raise ConfigError(f"a sweep of {steps} steps says nothing; give {FEWEST} or more")
    if choose not in (*SUGGESTIONS, BEST):
        known = ", ".join((*SUGGESTIONS, BEST))
        raise ConfigError(f"'{choose}' is no reading of the curve; choose from {known}")
    if choose == BEST and stage != 1:
        raise ConfigError(f"'{BEST}' trains whole runs and stage {stage} is a part of one; choose a reading")
    reporter, shared = reporter or Reporter(), Shared()
    run = build(config, reporter=reporter, shared=shared)
    if choose == BEST and run.data.validation is None:
        raise ConfigError(f"'{BEST}' compares validation losses and there is no validation part; set one")
    begun = time.perf_counter()
    sweep, n_stages = sweep_run(run, low=low, high=high, steps=steps, stage=stage, reporter=reporter)
    optimizer = next(entry for entry in run.plan.entries() if entry.phase is OPTIMIZER)
    suggestions, tried = sweep.suggestions(), {}
    if choose == BEST:
        tried = _try(quiet(config, run.plan), suggestions, shared, reporter)
        choose = min(tried, key=lambda name: tried[name])
    return FoundRate(
        sweep=sweep,
        suggestions=suggestions,
        chosen=choose,
        optimizer=optimizer.technique,
        lr=optimizer.contribution.lr,
        stage=stage,
        n_stages=n_stages,
        seconds=time.perf_counter() - begun,
        tried=tried,
    )


def _try(
    config: Config, suggestions: Mapping[str, float], shared: Shared, reporter: Reporter
) -> dict[str, float]:
    """The validation loss of a training with each rate; infinite where it left the finite numbers."""
    losses: dict[float, float] = {}
    for name, rate in suggestions.items():
        if rate in losses:
            continue
        try:
            outcome = run_trial(with_params(config, {"optimizer.lr": rate}), metric="loss", shared=shared)
            losses[rate] = outcome.value
            reporter.line(
                f"{name}: a training with {rate:.2g} ends at a validation loss of {outcome.value:.4f}"
            )
        except TrialFailed as error:
            losses[rate] = math.inf
            reporter.warn(f"{name}: a training with {rate:.2g} came to nothing: {error}")
    if not any(map(math.isfinite, losses.values())):
        raise RunError("no training with a rate of the curve came to an end; look at the data and the loss")
    return {name: losses[rate] for name, rate in suggestions.items()}


def sweep_run(
    run: Run,
    *,
    low: float = LOW,
    high: float = HIGH,
    steps: int = STEPS,
    stage: int = 1,
    reporter: Reporter | None = None,
) -> tuple[Sweep, int]:
    """Sweep the learning rate of a run that is built and not trained; it is left as it was.

    Returns:
        The sweep, and how many stages the run has.

    Raises:
        ConfigError: the run has no such stage.
        RunError: the loss diverges before the curve says anything.
    """
    reporter, probe = reporter or Reporter(), Probe(run.engine)
    starts = probe.stage_starts()
    if not 1 <= stage <= len(starts):
        known = f"stages 1 to {len(starts)}" if len(starts) > 1 else "one stage, since nothing thaws later"
        raise ConfigError(f"stage {stage} is asked for and the run has {known}; choose one of them")
    first = starts[stage - 1]
    with untouched(run.engine):
        probe.start()
        if first:
            reporter.line(f"training {first} steps to the start of stage {stage}")
            probe.train(first)
            probe.thaw(first)
        sweep = _sweep(probe, first, sweep_rates(low, high, steps), reporter)
    return sweep, len(starts)


def _sweep(probe: Probe, first: int, rates: Numbers, reporter: Reporter) -> Sweep:
    """Take one step at each of the rates, until the loss is far above its minimum."""
    with untouched(probe.engine), reporter.bar("losses before", len(rates), "steps") as bar:
        before = _losses(probe, first, np.zeros(len(rates)), bar)
    _refuse_few(before, rates, "before any training")
    # What a batch loses that the untouched weights lose as well is no news of the rate.
    luck = np.array(before) - np.mean(before)
    with reporter.bar("learning rates", len(rates), "steps") as bar:
        losses = _losses(probe, first, rates[: len(before)], bar, luck)
    _refuse_few(losses, rates, "while the rate rose")
    smooth = smoothed(losses, BETA)
    n = len(losses)
    return Sweep(rates[:n], np.array(losses), smooth, len(rates), _too_high(smooth) or n < len(rates))


def _losses(probe: Probe, first: int, rates: Numbers, bar: Bar, luck: Numbers | None = None) -> list[float]:
    """The loss of each step, less the luck of its batch, up to one that is not finite or has diverged."""
    spec, tunes = probe.engine.plan.one(OPTIMIZER), probe.engine.plan.many(TUNE)
    assert spec is not None  # noqa: S101 - an engine is not made without one
    found: list[float] = []
    for rate, (batch, moment) in zip(rates.tolist(), probe.batches(first), strict=False):
        for tune in tunes:
            tune(probe.groups, moment)
        for group in probe.groups:
            group["lr"] = group["base_lr"] * rate / spec.lr
        result = probe.step(batch, moment)
        loss = float(result.loss)
        if not (result.done and math.isfinite(loss)):
            break
        found.append(loss if luck is None else loss - float(luck[len(found)]))
        smooth = smoothed(found, BETA)
        bar.advance(1, f"lr {rate:.1e}, loss {smooth[-1]:.4f}")
        if luck is not None and _too_high(smooth):
            break
    return found


def _too_high(smooth: Numbers) -> bool:
    """Whether the last loss is so many times the minimum; one near zero counts as a tenth of the first."""
    least = max(abs(float(smooth.min())), abs(float(smooth[0])) / 10)
    return bool(smooth[-1] - smooth.min() > (DIVERGED - 1) * least)


def _refuse_few(losses: list[float], rates: Numbers, when: str) -> None:
    if len(losses) < FEWEST:
        raise RunError(
            f"the loss {when} was not finite or {DIVERGED:g} times its minimum after {len(losses)} of "
            f"{len(rates)} steps, at a learning rate of {rates[len(losses)]:.1e}; begin the sweep lower, or "
            "look at the data and the loss"
        )
