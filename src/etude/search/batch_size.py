"""The batch-size finder: the largest micro-batch that fits in memory, and the batch size worth its rows.

A step's rows are worth their cost up to the gradient's noise scale; how many of them go through the model at
once is a matter of memory alone, and changes no result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from etude.config.run import Config
from etude.core.feed import make_batch
from etude.core.memory import out_of_memory
from etude.core.observe import Reporter
from etude.core.phases import OPTIMIZER, View
from etude.core.rng import Moment
from etude.errors import ConfigError, RunError
from etude.runs.build import Run, build
from etude.search.memory import (
    SHARE,
    free_memory,
    largest,
    peak_memory,
    read_size,
    resident_memory,
    show_size,
)
from etude.search.noise_scale import PARTS, REPEATS, SMALL, NoiseScale, measure_noise_scale
from etude.search.probe import Probe, refuse_without_steps, untouched

MOST = 1024
"""Rows of a micro-batch beyond which no device gains speed."""
TRAINED = 30
"""Steps in front of the gradient's noise: at random weights it is smaller than during the training."""
SMALLEST, STEPS_PER_EPOCH = 8, 20
"""Batch sizes that are suggested leave so many rows to a step, and so many steps to an epoch."""


@dataclass(frozen=True)
class Fit:
    """What fits in memory.

    Attributes:
        rows: of the largest micro-batch that fits.
        limit: bytes that may be held; None on a GPU whose own memory is the limit.
        peaks: bytes at the peak of a step by the rows that were tried.
        most: the largest micro-batch that was looked for.
        tokens: the length of the rows, the longest of the training part.
        device: where.
    """

    rows: int
    limit: int | None
    peaks: dict[int, int]
    most: int
    tokens: int
    device: str


@dataclass(frozen=True)
class FoundBatch:
    """What the finder suggests for a run.

    Attributes:
        batch_size: of an optimizer step.
        micro_batch_size: rows of a forward pass on one device.
        n_devices: processes that share a step.
        noise: the gradient's noise scale.
        fit: what fits in memory.
        now: the batch size that the config has.
        lr: the learning rate that it has.
        n_rows: training rows.
    """

    batch_size: int
    micro_batch_size: int
    n_devices: int
    noise: NoiseScale
    fit: Fit
    now: int
    lr: float
    n_rows: int

    @property
    def accumulation(self) -> int:
        """Forward passes of a step on each device."""
        return math.ceil(self.batch_size / (self.micro_batch_size * self.n_devices))

    @property
    def linear_lr(self) -> float:
        """The learning rate by the linear rule: in proportion to the batch size."""
        return float(f"{self.lr * self.batch_size / self.now:.3g}")

    def toml(self) -> str:
        """The advice as a table that can be pasted into the config."""
        return f"[train]\nbatch_size = {self.batch_size}\nmicro_batch_size = {self.micro_batch_size}\n"

    def sentences(self) -> list[str]:
        """What was found, in words."""
        noise, fit = self.noise, self.fit
        high = "no upper bound" if math.isinf(noise.high) else f"{noise.high:,.0f}"
        value = "unknown" if math.isinf(noise.value) else f"{noise.value:,.0f} rows"
        limit = "the GPU's memory" if fit.limit is None else show_size(fit.limit)
        full = " or more" if fit.rows >= fit.most else ""
        at = f", {show_size(fit.peaks[fit.rows])} at the peak" if fit.rows in fit.peaks else ""
        devices = f"{self.n_devices} device{'s' if self.n_devices > 1 else ''}"
        return [
            f"gradient noise scale: {value} ({noise.low:,.0f} to {high}, 95 %); rows beyond it gain little",
            f"micro-batch: {fit.rows:,}{full} rows of length {fit.tokens} fit in {limit}{at}",
            f"effective batch size: {self.batch_size} rows = {self.micro_batch_size} in a forward pass x "
            f"{devices} x {self.accumulation} of accumulation",
            f"now it is {self.now}; by the linear rule lr = {self.lr:g} becomes {self.linear_lr:g}"
            if self.now != self.batch_size
            else "this is the batch size that the config has",
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "batch_size": self.batch_size,
            "micro_batch_size": self.micro_batch_size,
            "accumulation": self.accumulation,
            "n_devices": self.n_devices,
            "noise_scale": vars(self.noise),
            "fits": {**vars(self.fit), "peaks": {str(n): peak for n, peak in self.fit.peaks.items()}},
            "config_batch_size": self.now,
            "linear_lr": self.linear_lr,
        }


def find_batch_size(
    config: Config,
    *,
    memory: str | None = None,
    most: int = MOST,
    trained: int = TRAINED,
    reporter: Reporter | None = None,
) -> FoundBatch:
    """Find the batch size and the micro-batch size of the run that a config describes.

    Args:
        config: the run.
        memory: what the run may hold, as ``"4GiB"``; absent: on a processor what it holds and four fifths of
            what is free, on a GPU all of it.
        most: the largest micro-batch to look for.
        trained: steps of the run in front of the gradient's noise.
        reporter: who tells of progress.

    Raises:
        ConfigError: a number cannot be used.
        RunError: not even one row fits, or a loss is not finite.
    """
    refuse_without_steps(config, "find-batch-size")
    if most < 1 or trained < 0:
        raise ConfigError(f"most = {most} and trained = {trained} must be at least 1 and 0")
    reporter = reporter or Reporter()
    limit = None if memory is None else read_size(memory)
    if limit == 0:
        raise ConfigError("--memory is 0, in which nothing fits; give what the run may hold, as 4GiB")
    run = build(config, reporter=reporter)
    with untouched(run.engine):
        fit = fitting(run, limit, most, reporter)
    noise = noise_of(run, trained, reporter)
    now, spec = config.train.batch_size, run.plan.one(OPTIMIZER)
    assert spec is not None  # noqa: S101 - an engine is not made without one
    n_rows, n_devices = run.plan.context.n_rows, run.accelerator.num_processes
    batch = advised(noise.value, n_rows, now)
    return FoundBatch(
        batch_size=batch,
        micro_batch_size=min(fit.rows, math.ceil(batch / n_devices)),
        n_devices=n_devices,
        noise=noise,
        fit=fit,
        now=now,
        lr=spec.lr,
        n_rows=n_rows,
    )


def advised(noise: float, n_rows: int, now: int) -> int:
    """Return the power of two next to the noise scale with twenty steps to an epoch, or as many as now.

    >>> advised(90.0, 10_000, 32), advised(2.0, 10_000, 32), advised(math.inf, 1000, 32)
    (64, 8, 32)
    >>> advised(math.inf, 100, 12)
    8
    """
    most = max(n_rows / STEPS_PER_EPOCH, SMALLEST, now)
    exponent = round(math.log2(min(max(noise, SMALLEST), most)))
    return int(2 ** (exponent if 2**exponent <= most else math.floor(math.log2(most))))


def fitting(run: Run, limit: int | None, most: int, reporter: Reporter) -> Fit:
    """Find the largest micro-batch that fits, with the longest rows and with everything that ever trains.

    Raises:
        RunError: not even one row fits.
    """
    engine, device = run.engine, run.accelerator.device
    probe, context = Probe(engine), run.plan.context
    last = engine.settings.total_steps - 1
    probe.thaw(last)
    if limit is None and device.type != "cuda":
        limit = resident_memory() + int(SHARE * free_memory())
    train, n = engine.train, context.n_rows
    order = np.argsort(-train.lengths[:n], kind="stable")
    moment = Moment(context.seed, last, engine.settings.epochs - 1, context.steps_in(0), last + 1)
    for group in probe.groups:
        group["lr"] = 0.0

    def peak_of(size: int) -> int | None:
        rows = order[np.arange(size) % n]
        view = View(rows, train.targets[rows], train.weights[rows], train.lengths[rows])
        probe.step.micro_batch_size = size
        try:
            with peak_memory(device) as peak:
                probe.step(make_batch(train, view, np.arange(size)), moment)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return None
        finally:
            if device.type == "cuda":
                torch.cuda.empty_cache()
        bar.advance(1, f"{size} rows, {show_size(peak.bytes)}")
        return peak.bytes

    with reporter.bar("micro-batches", None, "steps") as bar:
        peak_of(1)  # the optimizer's memory is there from now on
        rows, peaks = largest(peak_of, limit, min(most, max(n, 1)))
    if rows == 0:
        needed = (
            f"{show_size(peaks[1])}, and the limit is {show_size(limit or 0)}"
            if peaks
            else "more than there is"
        )
        raise RunError(
            f"a step of one row takes {needed}; give more with --memory, lower backbone.max_length, or "
            "choose a smaller model"
        )
    return Fit(rows, limit, peaks, min(most, n), int(train.lengths[:n].max()), str(device))


def noise_of(run: Run, trained: int, reporter: Reporter) -> NoiseScale:
    """Measure the gradient's noise scale after some steps of the run, and put everything back."""
    steps = min(trained, run.engine.settings.total_steps - 1)
    with untouched(run.engine):
        probe = Probe(run.engine)
        probe.start()
        probe.train(steps)
        # While only the head trains, the noise is that of the head; what counts is the whole.
        step = max(steps, probe.stage_starts()[-1])
        return measure_noise_scale(
            run.engine, step, small=SMALL, parts=PARTS, repeats=REPEATS, reporter=reporter
        )
