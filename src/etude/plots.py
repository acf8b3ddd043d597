"""Schedules and sweeps as pictures: learning rates over a run, losses over rates; in the terminal or a file.

A technique is put into a plan of its own, on a small transformer, and its learning rates are asked for
step by step as the engine does it; so a picture shows what a run would do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.text import Text

from etude.config.explain import validated
from etude.config.load import parse_overrides
from etude.core.backbone import Backbone
from etude.core.groups import make_groups
from etude.core.phases import GROUPS, OPTIMIZER, SCHEDULE, TUNE, WARMUP, OptimizerSpec
from etude.core.plan import Plan
from etude.core.rates import Rates
from etude.core.rng import Moment
from etude.core.technique import Context
from etude.errors import ConfigError
from etude.extras import require
from etude.search.lr_finder import FoundRate
from etude.techniques import technique_class
from etude.testing.tiny import tiny_backbone, tiny_task

MOST_POINTS = 2000
"""More points than a picture has columns are not computed."""
STYLES = ("cyan", "magenta", "yellow", "green", "red", "blue")
FORMATS = (".png", ".svg", ".pdf")

Cells = dict[tuple[int, int], tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Curves:
    """Learning rates over a run, as factors of the optimizer's.

    Attributes:
        title: what is drawn.
        steps: the steps that were asked for, rising.
        lines: a value for each of the steps, by the name of the parameter group.
        n_steps: steps of the run.
        n_epochs: its epochs.
    """

    title: str
    steps: Sequence[int]
    lines: Mapping[str, Sequence[float]]
    n_steps: int
    n_epochs: int

    @property
    def top(self) -> float:
        """The largest value, or 1 where all are 0."""
        return max((max(line) for line in self.lines.values()), default=0.0) or 1.0


def schedule_curves(
    name: str, overrides: Sequence[str] = (), *, n_epochs: int = 10, n_steps: int = 1000
) -> Curves:
    """Return the learning rates that a technique gives to each group of parameters.

    Args:
        name: a technique that sets learning rates: a schedule, a warm-up, or one of parameter groups.
        overrides: its settings as ``"KEY=VALUE"``.
        n_epochs: epochs of the run, 1 or more.
        n_steps: optimizer steps of the run, at least one for each epoch.

    Raises:
        ConfigError: it sets no learning rates, a setting is wrong, or there are fewer steps than epochs.

    >>> curves = schedule_curves("cosine", ["final=0.5"], n_epochs=1, n_steps=4)
    >>> [round(value, 3) for value in curves.lines["learning rate"]]
    [1.0, 0.927, 0.75, 0.573]
    """
    if not 1 <= n_epochs <= n_steps:
        raise ConfigError(
            f"a run of {n_epochs} epochs and {n_steps} steps cannot be drawn; give at least one epoch, and "
            "one step for each epoch"
        )
    context = _context(n_epochs, n_steps)
    kind = technique_class(name)
    settings = {**kind.facts.example, **parse_overrides(overrides), "name": name}
    plan = Plan(context)
    plan.attach(kind(validated(kind.Config, settings, name)))
    # A schedule whose settings let it do nothing is drawn flat.
    phases = {kind.facts.phase.name, *(entry.phase.name for entry in plan.entries())}
    if not phases & {phase.name for phase in (SCHEDULE, WARMUP, TUNE, GROUPS)}:
        raise ConfigError(
            f"{name} sets no learning rate, so that there is nothing to draw; 'etude techniques --family "
            "schedules' lists what can be drawn"
        )
    every = max(1, -(-n_steps // MOST_POINTS))
    steps = range(0, n_steps, every)
    return Curves(f"{name}: factor of the learning rate", steps, _lines(plan, steps), n_steps, n_epochs)


def _context(n_epochs: int, n_steps: int) -> Context:
    ends = [n_steps * (epoch + 1) // n_epochs for epoch in range(n_epochs)]
    epoch_steps = tuple(end - start for start, end in zip([0, *ends], ends, strict=False))
    task = tiny_task("multiclass")

    def no_model(path: str) -> Backbone:
        raise ConfigError(f"the model '{path}' is not opened for a picture")

    return Context(
        task, tiny_backbone("text", task), torch.ones(task.n_classes).numpy(), n_steps, 1, epoch_steps[0],
        n_steps, 0, no_model, epoch_steps=epoch_steps,
    )  # fmt: skip


def _lines(plan: Plan, steps: Sequence[int]) -> dict[str, list[float]]:
    """The rates of each group that differs from the others; of a rate of 1, so that they are factors."""
    context = plan.context
    spec = plan.one(OPTIMIZER) or OptimizerSpec(1.0, 0.0, torch.optim.AdamW)
    made = make_groups(context.backbone, plan.many(GROUPS), spec, context)
    groups = [{**group.for_optimizer(), "betas": (0.9, 0.999), "eps": 1e-8} for group in made]
    rates = Rates(plan, context.total_steps)
    lines: dict[str, list[float]] = {group["name"]: [] for group in groups}
    for step in steps:
        rates.set(groups, Moment(0, step, 0, context.steps_per_epoch, context.total_steps))
        for group, known in zip(groups, made, strict=True):
            lines[group["name"]].append(group["lr"] if step >= known.frozen_until else 0.0)
    different: dict[tuple[float, ...], str] = {}
    for name, line in lines.items():
        different.setdefault(tuple(line), name)
    if len(different) == 1:
        return {"learning rate": list(next(iter(different)))}
    return {name: list(line) for line, name in different.items()}


def draw(curves: Curves, *, width: int = 72, height: int = 15, braille: bool = True) -> Text:
    """Draw the curves with characters.

    Args:
        curves: what is drawn.
        width: columns of the plane between the axes, 40 or more.
        height: rows of it, 4 or more.
        braille: dots of braille, eight to a character, or stars where a terminal has no such letters.
    """
    cells = _cells(curves, width, height, (2, 4) if braille else (1, 1))
    # The middle of an odd number of rows is half of the top.
    middle = height // 2
    marks = {
        0: f"{curves.top:.3g}",
        middle: f"{curves.top * (1 - middle / (height - 1)):.3g}",
        height - 1: "0",
    }
    margin, line = max(map(len, marks.values())), "─" if braille else "-"
    text = Text(f"{curves.title}\n\n")
    text.append(_framed(cells, marks, (width, height), braille=braille))
    text.append(f"{'':>{margin + 2}}{_below(curves, width)}\n")
    if len(curves.lines) > 1:
        for i, (name, values) in enumerate(curves.lines.items()):
            text.append(f"{'':>{margin + 2}}{line * 3} ", style=STYLES[i % len(STYLES)])
            text.append(f"{name}: at most {max(values):.3g}\n")
    return text


def _framed(cells: Cells, marks: Mapping[int, str], size: tuple[int, int], *, braille: bool) -> Text:
    """The plane between its axes; ``marks`` are the labels of the vertical one by their rows."""
    width, height = size
    margin = max(map(len, marks.values()))
    bar, tick, corner, line = ("│", "┤", "└", "─") if braille else ("|", "+", "+", "-")
    text = Text()
    for row in range(height):
        text.append(f"{marks.get(row, ''):>{margin}} {tick if row in marks else bar}")
        for column in range(width):
            bits, style = cells.get((row, column), (0, ""))
            shown = chr(0x2800 + bits) if braille else "*"
            text.append(shown if bits else " ", style=style)
        text.append("\n")
    return text.append(f"{'':>{margin}} {corner}{line * width}\n")


def _below(curves: Curves, width: int) -> str:
    """The labels under the horizontal axis: the start, the middle and the end of the run."""
    epochs = f"{curves.n_epochs} epoch{'s' if curves.n_epochs > 1 else ''}"
    middle, end = f"{curves.n_steps // 2:,}", f"{curves.n_steps:,} steps, {epochs}"
    left = "0".ljust(width // 2 - len(middle) // 2) + middle
    return left + end.rjust(width - len(left))


# Unicode's dots of braille, by the column and the row inside a character.
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def _cells(curves: Curves, width: int, height: int, dots: tuple[int, int]) -> Cells:
    """The dots of each character by row and column; columns are joined, so that a jump is a line."""
    across, down = width * dots[0], height * dots[1]
    cells: Cells = {}
    for i, values in enumerate(curves.lines.values()):
        before: int | None = None
        for x in range(across):
            value = values[round(x * (len(values) - 1) / (across - 1))]
            y = round((1.0 - value / curves.top) * (down - 1))
            first, last = sorted((y, y if before is None else before))
            for dot in range(first, last + 1):
                place = (dot // dots[1], x // dots[0])
                bits = cells.get(place, (0, ""))[0] | DOTS[x % dots[0]][dot % dots[1]]
                cells[place] = (bits, STYLES[i % len(STYLES)])
            before = y
    return cells


def save(curves: Curves, path: str | Path) -> None:
    """Write the curves as a picture.

    Args:
        curves: what is drawn.
        path: a file whose name ends in .png, .svg or .pdf.

    Raises:
        ConfigError: the name ends otherwise, the file cannot be written, or matplotlib is missing.
    """
    figure, axes = _blank(path)
    for name, values in curves.lines.items():
        axes.plot(curves.steps, values, label=name)
    axes.set(title=curves.title, xlabel=f"steps ({curves.n_epochs} epochs)", ylabel="factor")
    axes.set(xlim=(0, curves.n_steps), ylim=(0, 1.05 * curves.top))
    axes.grid(alpha=0.3)
    if len(curves.lines) > 1:
        axes.legend()
    _write(figure, path)


def draw_sweep(found: FoundRate, *, width: int = 72, height: int = 15, braille: bool = True) -> Text:
    """Draw a sweep of learning rates with characters, its suggestions marked under the axis.

    Args:
        found: what the finder found.
        width: columns of the plane between the axes, 40 or more.
        height: rows of it, 4 or more.
        braille: as :func:`draw` takes it.
    """
    smooth = found.sweep.smooth
    lowest, highest = float(smooth.min()), _ceiling(smooth)
    lifted = [min(float(loss), highest) - lowest for loss in smooth]
    curves = Curves("", range(len(lifted)), {"loss": lifted}, len(lifted), 1)
    cells = _cells(curves, width, height, (2, 4) if braille else (1, 1))
    marks = {0: f"{highest:.4g}", height - 1: f"{lowest:.4g}"}
    text = Text(f"{_title(found)}\n\n").append(_framed(cells, marks, (width, height), braille=braille))
    indent = " " * (max(map(len, marks.values())) + 2)
    rates = found.sweep.rates
    first, last = f"{rates[0]:.1e}", f"{rates[-1]:.1e}"
    text.append(f"{indent}{first}{last:>{width - len(first)}}\n")
    for i, (name, rate) in enumerate(found.suggestions.items()):
        share = math.log(rate / rates[0]) / math.log(rates[-1] / rates[0])
        at = round(min(max(share, 0.0), 1.0) * (width - 1))
        said = f"{name} {rate:.2g}"
        placed = f"{'':>{at}}^ {said}" if at + 2 + len(said) <= width else f"{said:>{at - 1}} ^"
        text.append(f"{indent}{placed}\n", style=STYLES[(i + 1) % len(STYLES)])
    return text


def save_sweep(found: FoundRate, path: str | Path) -> None:
    """Write a sweep of learning rates as a picture; see :func:`save`.

    Raises:
        ConfigError: as :func:`save`.
    """
    figure, axes = _blank(path)
    rates, losses, smooth = found.sweep.rates, found.sweep.losses, found.sweep.smooth
    axes.plot(rates, losses, color="0.8", linewidth=1, label="loss of each batch")
    axes.plot(rates, smooth, linewidth=2, label="smoothed")
    for i, (name, rate) in enumerate(found.suggestions.items()):
        strong = name == found.chosen
        label = f"{name}: {rate:.2g}" + (" (chosen)" if strong else "")
        axes.axvline(rate, color=f"C{i + 1}", linestyle="-" if strong else "--", label=label)
    room = 0.05 * (_ceiling(smooth) - float(smooth.min()))
    axes.set(title=_title(found), xlabel="learning rate", ylabel="training loss", xscale="log")
    axes.set(ylim=(float(smooth.min()) - 2 * room, _ceiling(smooth) + room))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    _write(figure, path)


def _title(found: FoundRate) -> str:
    stage = f", stage {found.stage} of {found.n_stages}" if found.n_stages > 1 else ""
    return f"{found.optimizer}: training loss by learning rate{stage}"


def _ceiling(smooth: NDArray[np.float64]) -> float:
    """Where the picture ends above: a loss that explodes would press the rest into a line.

    It is a third of the fall above the highest loss before the minimum.
    """
    least = int(smooth.argmin())
    top, low = float(smooth[: least + 1].max()), float(smooth[least])
    return min(max(top + (top - low) / 3, low + 0.1 * abs(low)), float(smooth.max()))


def refuse_no_picture(path: str | Path) -> Any:
    """Return matplotlib's figures.

    Raises:
        ConfigError: the file's name ends in no format, or matplotlib is missing.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise ConfigError(f"a picture cannot be written to '{path}'; end its name in {', '.join(FORMATS)}")
    return require("matplotlib.figure", extra="plots", technique="a picture")


def _blank(path: str | Path) -> tuple[Any, Any]:
    """A figure and its axes, for a picture whose name is looked at first."""
    figure = refuse_no_picture(path).Figure(figsize=(7, 3.5), layout="constrained")
    return figure, figure.subplots()


def _write(figure: Any, path: str | Path) -> None:
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise ConfigError(f"the picture cannot be written to '{path}': {error.strerror}") from error
