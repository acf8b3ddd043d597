"""Reporters: what a person or a program sees while work goes on.

All of them write to standard error, so that standard output holds nothing but results. A piece of
work that took less than a second leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from etude.core.observe import Bar, Reporter

Clock = Callable[[], float]

WORTH_SHOWING = 1.0
"""Seconds after which a piece of work is worth a bar or a line."""

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_RECORDS = 1.0
SECONDS_BETWEEN_UPDATES = 0.1


class _Work:
    """A bar's numbers; every ``interval`` seconds they are handed to ``show``."""

    def __init__(
        self,
        title: str,
        total: int | None,
        unit: str,
        *,
        interval: float,
        clock: Clock,
        show: Callable[[_Work], None],
    ) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done, self.note, self.done_when_shown = 0, "", 0
        self._interval, self._clock, self._show = interval, clock, show
        self._started = self._shown = clock()

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count, and show the numbers when it is time; cheap enough for every step of a loop."""
        self.done += amount
        self.note = note or self.note
        now = self._clock()
        if now - self._shown >= self._interval:
            self._shown, self.done_when_shown = now, self.done
            self._show(self)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    @property
    def rate(self) -> float:
        """Units a second since the start."""
        return self.done / max(self.seconds, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the end at this rate, where the total is known."""
        if self.total is None or self.done == 0:
            return None
        return max(self.total - self.done, 0) / self.rate

    def sentence(self) -> str:
        """One line: ``training: 120/625 steps, 3.1/s, 0:39, 2:43 left, loss 0.41``."""
        total = "" if self.total is None else f"/{self.total:,}"
        parts = [f"{self.title}: {self.done:,}{total} {self.unit}", per_second(self.rate)]
        parts.append(duration(self.seconds))
        if self.seconds_left:
            parts.append(f"{duration(self.seconds_left)} left")
        return ", ".join([*parts, *([self.note] if self.note else [])])


def duration(seconds: float) -> str:
    """Write seconds as a clock does.

    >>> duration(9.6), duration(75), duration(3661)
    ('0:10', '1:15', '1:01:01')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def per_second(rate: float) -> str:
    """Write a rate with two or three digits.

    >>> per_second(0.0214), per_second(3.14), per_second(12345.6)
    ('0.021/s', '3.1/s', '12,346/s')
    """
    number = f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"
    return f"{number}/s"


class QuietReporter(Reporter):
    """Says nothing but warnings."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr

    def warn(self, text: str) -> None:
        self._write(f"warning: {text}")

    def _write(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()


class PlainReporter(QuietReporter):
    """Plain lines for logs: every few seconds one for each bar, and one at its end."""

    def __init__(self, stream: TextIO | None = None, clock: Clock = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock

    @contextmanager
    def bar(self, title: str, total: int | None, unit: str) -> Iterator[Bar]:
        work = _Work(
            title,
            total,
            unit,
            interval=SECONDS_BETWEEN_LINES,
            clock=self._clock,
            show=lambda work: self._write(work.sentence()),
        )
        try:
            yield work
        finally:
            is_news = work.done != work.done_when_shown
            if work.seconds >= WORTH_SHOWING and is_news:
                self._write(work.sentence())

    def line(self, text: str) -> None:
        self._write(text)


class JsonReporter(QuietReporter):
    """One JSON object a line: ``event`` is ``progress``, ``line`` or ``warning``."""

    def __init__(self, stream: TextIO | None = None, clock: Clock = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock

    @contextmanager
    def bar(self, title: str, total: int | None, unit: str) -> Iterator[Bar]:
        work = _Work(
            title,
            total,
            unit,
            interval=SECONDS_BETWEEN_RECORDS,
            clock=self._clock,
            show=self._progress,
        )
        try:
            yield work
        finally:
            if work.seconds >= WORTH_SHOWING:
                self._progress(work, ended=True)

    def line(self, text: str) -> None:
        self._record(event="line", text=text)

    def warn(self, text: str) -> None:
        self._record(event="warning", text=text)

    def _progress(self, work: _Work, *, ended: bool = False) -> None:
        left = work.seconds_left
        self._record(
            event="progress",
            title=work.title,
            done=work.done,
            total=work.total,
            unit=work.unit,
            per_second=round(work.rate, 3),
            seconds=round(work.seconds, 3),
            seconds_left=None if left is None else round(left, 3),
            note=work.note,
            ended=ended,
        )

    def _record(self, **values: Any) -> None:
        self._write(json.dumps(values, ensure_ascii=False))


class _LateProgress(Progress):
    """A progress display that shows a task only once it is worth showing."""

    def get_renderables(self) -> Iterator[Any]:
        worth = [task for task in self.tasks if (task.elapsed or 0.0) >= WORTH_SHOWING]
        yield self.make_tasks_table(worth)


class _Numbers(ProgressColumn):
    """Count, rate, elapsed and remaining time, as the plain lines have them."""

    def render(self, task: Task) -> Text:
        work: _Work = task.fields["work"]
        return Text(work.sentence().removeprefix(f"{work.title}: "), overflow="ellipsis", no_wrap=True)


class TerminalReporter(Reporter):
    """Live bars in a terminal, one under the other where they are nested; lines scroll above them."""

    def __init__(self, stream: TextIO | None = None, clock: Clock = time.monotonic) -> None:
        self._console = Console(file=stream, stderr=stream is None)
        self._clock = clock
        self._live: _LateProgress | None = None

    @contextmanager
    def bar(self, title: str, total: int | None, unit: str) -> Iterator[Bar]:
        outermost = self._live is None
        live = self._live or self._open()
        task: TaskID | None = None

        def show(work: _Work) -> None:
            if task is not None:
                live.update(task, completed=work.done)

        work = _Work(title, total, unit, interval=SECONDS_BETWEEN_UPDATES, clock=self._clock, show=show)
        task = live.add_task(title, total=total, work=work)
        try:
            yield work
        finally:
            live.remove_task(task)
            if outermost:
                # The terminal's cursor must come back whatever happened, Ctrl-C included.
                live.stop()
                self._live = None
            if work.seconds >= WORTH_SHOWING:
                self.line(work.sentence())

    def _open(self) -> _LateProgress:
        self._live = _LateProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            _Numbers(),
            console=self._console,
            transient=True,
            refresh_per_second=5,
            # Results go to standard output while a bar is open, and must reach it unchanged.
            redirect_stdout=False,
        )
        self._live.start()
        return self._live

    def line(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)

    def warn(self, text: str) -> None:
        self._console.print(Text(f"warning: {text}", style="yellow"), soft_wrap=True)


def is_main_process() -> bool:
    """Whether this is the only process of the run, or the first of several that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def choose_reporter(*, quiet: bool = False, json: bool = False, stream: TextIO | None = None) -> Reporter:
    """Choose how to report: a terminal gets bars, anything else plain lines or, if wished, JSON.

    Of several processes that train together, only the first reports.

    Args:
        quiet: say nothing but warnings.
        json: write JSON lines.
        stream: where to; standard error if absent.
    """
    stream = stream or sys.stderr
    if not is_main_process():
        return Reporter()
    if quiet:
        return QuietReporter(stream)
    if json:
        return JsonReporter(stream)
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return TerminalReporter(stream)
    return PlainReporter(stream)
