"""How a run went: losses, scores, learning rates, gradients and updates over its steps."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from etude.report.charts import SpecDict
from etude.report.line_charts import MOST_LINES, Line, band_chart, evenly, line_chart
from etude.report.page import number, score
from etude.report.record import RunRecord
from etude.report.words import metric_title

SMOOTH = 120
"""Points of the training loss: each is a mean, so that the course shows and not the noise of batches."""

History = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with what it says.

    Attributes:
        name: its key on the page.
        title: a few words over it.
        sentence: what is to be seen, for all who cannot or need not look.
        spec: its Vega-Lite form.
    """

    name: str
    title: str
    sentence: str
    spec: SpecDict


def learning_charts(record: RunRecord) -> list[Chart]:
    """Return the charts that the history has numbers for."""
    history = record.history
    made = (
        _losses(history),
        _scores(history, record.main_metric),
        _rates(history),
        _gradients(history),
        _updates(history),
    )
    return [chart for chart in made if chart is not None]


def line_of(history: History, name: str, *path: str) -> Line:
    """Return the numbers at the end of nested keys over the steps; what is no number counts as NaN."""
    steps: list[float] = []
    values: list[float] = []
    for record in history:
        value: Any = record
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, (int, float)) and not isinstance(value, bool) and "step" in record:
            steps.append(float(record["step"]))
            values.append(float(value))
    return Line(name, steps, values)


def _losses(history: History) -> Chart | None:
    train, validation = (
        line_of(history, "training", "train", "loss"),
        line_of(history, "validation", "validation", "loss"),
    )
    broken = sum(not math.isfinite(y) for y in train.y)
    train, validation = train.finite(), validation.finite()
    if not train.x and not validation.x:
        return None
    words = []
    if len(train.x) > 1:
        drawn = train.thinned(SMOOTH)
        verb = "fell" if drawn.y[-1] < drawn.y[0] else "rose"
        words.append(f"The training loss {verb} from {number(drawn.y[0])} to {number(drawn.y[-1])}")
        train = drawn
    if validation.x:
        best = int(np.argmin(validation.y))
        lowest = f"{validation.x[best]:,.0f} ({number(validation.y[best])})"
        words.append(f"the validation loss was lowest after step {lowest}")
        if best < len(validation.y) - 1:
            words[-1] += f" and ended at {number(validation.y[-1])}"
    sentence = _sentence("; ".join(words) or "One record of the training loss is there")
    if broken:
        sentence += f" It was no finite number in {broken:,} records, which are not drawn."
    lines = [line for line in (train, validation) if line.x]
    return Chart("loss", "Loss", sentence, line_chart(lines, sentence=sentence, y="loss"))


def _scores(history: History, metric: str) -> Chart | None:
    others = [name for name in ("accuracy", "f1_macro") if name != metric]
    lines = [line_of(history, metric_title(name), "validation", name).finite() for name in (metric, *others)]
    lines = [line for line in lines if line.x]
    if not lines:
        return None
    first = lines[0]
    best = int(np.argmax(first.y))
    sentence = (
        f"The {first.name} of the validation part was highest after step {first.x[best]:,.0f} "
        f"({score(first.y[best])})"
    )
    if best < len(first.y) - 1:
        sentence += f" and ended at {score(first.y[-1])}"
    mark = (first.x[best], "best") if best < len(first.y) - 1 else None
    spec = line_chart(lines, sentence=_sentence(sentence), y="score", mark=mark)
    return Chart("scores", "Validation scores", _sentence(sentence), spec)


def _rates(history: History) -> Chart | None:
    lines = _by_group(history, lambda group: ("lr", group), "lr")
    lines = lines or _by_group(history, lambda group: ("dynamics", group, "lr"), "dynamics")
    if not lines:
        return None
    highest = max(max(line.y) for line in lines)
    ends = [line.y[-1] for line in lines]
    sentence = f"The highest learning rate was {number(highest)}; the run ended at {number(max(ends))}"
    return _grouped("rates", "Learning rate", sentence, lines, y="learning rate", zero=True)


def _gradients(history: History) -> Chart | None:
    lines = _by_group(history, lambda group: ("dynamics", group, "grad_norm"), "dynamics")
    whole = line_of(history, "all parameters", "grad_norm").finite()
    if whole.x:
        lines = [whole.thinned(SMOOTH), *lines]
    if not lines:
        return None
    values = sorted(y for line in lines[:1] for y in line.y)
    middle = values[len(values) // 2]
    sentence = (
        f"The gradient norm of {lines[0].name} was {number(middle)} in the middle of its values and "
        f"{number(values[-1])} at its highest"
    )
    positive = min(y for line in lines for y in line.y) > 0
    return _grouped("gradients", "Gradient norm", sentence, lines, y="norm", log=positive)


def _updates(history: History) -> Chart | None:
    lines = _by_group(history, lambda group: ("dynamics", group, "update_ratio"), "dynamics")
    lines = [line for line in lines if any(y > 0 for y in line.y)]
    if not lines:
        return None
    values = [y for line in lines for y in line.y if y > 0]
    sentence = (
        f"A step changed the weights by between {number(min(values))} and {number(max(values))} of their "
        "size; about 0.001 is usual"
    )
    return _grouped(
        "updates", "Update per step, as a share of the weights", sentence, lines, y="ratio", log=True
    )


def _grouped(
    name: str,
    title: str,
    sentence: str,
    lines: Sequence[Line],
    *,
    y: str,
    log: bool = False,
    zero: bool = False,
) -> Chart:
    """A chart of one line for each group of parameters, as many as can be told apart."""
    told = _sentence(sentence)
    shown = evenly(lines, MOST_LINES)
    if len(shown) < len(lines):
        told += f" {len(shown)} of {len(lines)} groups are drawn."
    return Chart(name, title, told, line_chart(shown, sentence=told, y=y, log=log, zero=zero))


def _by_group(history: History, path: Callable[[str], tuple[str, ...]], key: str) -> list[Line]:
    """A line for each group; groups whose numbers are the same share one."""
    tables = [record[key] for record in history if isinstance(record.get(key), Mapping)]
    names = list(dict.fromkeys(str(name) for table in tables for name in table))
    lines = [line for name in names if (line := line_of(history, name, *path(name)).finite()).x]
    # The number in front of a group's name says nothing that the order of the legend does not.
    bare = [re.sub(r"^\d+: ", "", line.name) for line in lines]
    if len(set(bare)) == len(bare):
        lines = [Line(name, line.x, line.y) for name, line in zip(bare, lines, strict=True)]
    return _distinct(lines)


def _distinct(lines: Sequence[Line]) -> list[Line]:
    """Lines of the same numbers as one, under the name of the first and the count of the others."""
    same: dict[tuple[float, ...], list[Line]] = {}
    for line in lines:
        same.setdefault((*line.x, *line.y), []).append(line)
    found = []
    for group in same.values():
        more = len(group) - 1
        name = group[0].name if not more else f"{group[0].name} and {more} more"
        found.append(Line("all groups" if len(same) == 1 and more else name, group[0].x, group[0].y))
    return found


def row_losses_chart(record: RunRecord) -> Chart | None:
    """Return how the losses of the training rows spread over the epochs, or None where nobody kept them."""
    if record.losses is None or record.losses.losses.size == 0:
        return None
    rows: list[dict[str, float]] = []
    for epoch, losses in enumerate(record.losses.losses.T.astype(np.float64)):
        known = losses[np.isfinite(losses)]
        if len(known):
            values = np.quantile(known, [0.1, 0.25, 0.5, 0.75, 0.9])
            names = ("p10", "p25", "p50", "p75", "p90")
            rows.append({"x": epoch + 1, **dict(zip(names, values.tolist(), strict=True))})
    if not rows:
        return None
    sentence = (
        f"In epoch {rows[-1]['x']} half of the training rows had a loss below {number(rows[-1]['p50'])}, and "
        f"one in ten one above {number(rows[-1]['p90'])}. The bands hold the middle 50 and 80 % of the rows."
    )
    spec = band_chart(rows, sentence=sentence, x="epoch", y="loss of a row")
    return Chart("row_losses", "Loss of the training rows", sentence, spec)


def _sentence(words: str) -> str:
    """Words with a capital letter and a full stop."""
    return f"{words[0].upper()}{words[1:]}."
