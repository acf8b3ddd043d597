"""Reporters: what is written when, on a clock that the test turns."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable

import pytest

from etude.core.observe import Reporter
from etude.runs.reporter import (
    JsonReporter,
    PlainReporter,
    QuietReporter,
    TerminalReporter,
    choose_reporter,
    duration,
)


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def work(reporter: Reporter, clock: Clock, seconds: float, *, steps: int = 100) -> None:
    with reporter.bar("training", steps, "steps") as bar:
        for step in range(steps):
            clock.now += seconds / steps
            bar.advance(1, f"loss {1 / (step + 1):.2f}")


def test_plain_lines_come_every_few_seconds_and_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    work(PlainReporter(stream, clock), clock, 20.0)
    lines = stream.getvalue().splitlines()
    assert 4 <= len(lines) <= 5
    assert re.fullmatch(r"training: 2\d/100 steps, 5\.0/s, 0:05, 0:1[45] left, loss 0\.04", lines[0])
    assert lines[-1] == "training: 100/100 steps, 5.0/s, 0:20, loss 0.01"


def test_the_last_plain_line_is_not_said_twice() -> None:
    stream, clock = io.StringIO(), Clock()
    with PlainReporter(stream, clock).bar("training", 1, "steps") as bar:
        clock.now += 6.0
        bar.advance(1)
    assert stream.getvalue() == "training: 1/1 steps, 0.17/s, 0:06\n"


def test_work_of_unknown_length_has_no_time_left() -> None:
    stream, clock = io.StringIO(), Clock()
    with PlainReporter(stream, clock).bar("reading", None, "rows") as bar:
        clock.now += 2.0
        bar.advance(4000)
    assert stream.getvalue() == "reading: 4,000 rows, 2,000/s, 0:02\n"


@pytest.mark.parametrize("make", [PlainReporter, JsonReporter, TerminalReporter])
def test_work_shorter_than_a_second_leaves_nothing_behind(
    make: Callable[[io.StringIO, Clock], Reporter],
) -> None:
    stream, clock = io.StringIO(), Clock()
    work(make(stream, clock), clock, 0.9)
    assert stream.getvalue().strip() == ""


@pytest.mark.parametrize("make", [PlainReporter, JsonReporter, TerminalReporter])
def test_an_interrupted_bar_says_how_far_it_came(make: Callable[[io.StringIO, Clock], Reporter]) -> None:
    stream, clock = io.StringIO(), Clock()
    reporter = make(stream, clock)

    def train() -> None:
        with reporter.bar("training", 10, "steps") as bar:
            clock.now += 3.0
            bar.advance(3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert "training" in stream.getvalue()
    assert "3" in stream.getvalue()


def test_json_lines_can_be_read_back() -> None:
    stream, clock = io.StringIO(), Clock()
    reporter = JsonReporter(stream, clock)
    reporter.line("plan: loss:bce")
    reporter.warn("12 rows of the test part occur in training")
    work(reporter, clock, 2.0, steps=4)
    records = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert records[0] == {"event": "line", "text": "plan: loss:bce"}
    assert records[1] == {"event": "warning", "text": "12 rows of the test part occur in training"}
    progress = records[2]
    assert (progress["event"], progress["title"], progress["done"], progress["total"]) == (
        "progress",
        "training",
        2,
        4,
    )
    assert (progress["per_second"], progress["seconds_left"], progress["ended"]) == (2.0, 1.0, False)
    assert records[-1]["ended"] is True
    assert records[-1]["done"] == 4


def test_quiet_lets_only_warnings_through() -> None:
    stream, clock = io.StringIO(), Clock()
    reporter = QuietReporter(stream)
    work(reporter, clock, 60.0)
    reporter.line("plan: loss:bce")
    reporter.warn("look here")
    assert stream.getvalue() == "warning: look here\n"


def test_the_terminal_keeps_one_display_for_nested_bars_and_gives_the_cursor_back() -> None:
    stream, clock = Terminal(), Clock()
    reporter = TerminalReporter(stream, clock)
    with reporter.bar("training", 10, "steps") as outer:
        clock.now += 2.0
        outer.advance(5, "loss 0.41")
        with reporter.bar("scoring", 8, "rows") as inner:
            clock.now += 2.0
            inner.advance(8)
        reporter.line("epoch [1/2] done")
        outer.advance(5)
    text = stream.getvalue()
    assert text.count("\x1b[?25l") == 1, "the cursor is hidden once"
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "and shown again"
    plain = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", text)
    assert "scoring: 8/8 rows, 4.0/s, 0:02" in plain
    assert "epoch [1/2] done" in plain
    assert "training: 10/10 steps, 2.5/s, 0:04, loss 0.41" in plain


def test_the_terminal_can_be_used_again_after_an_error() -> None:
    stream, clock = Terminal(), Clock()
    reporter = TerminalReporter(stream, clock)
    for _ in range(2):
        with pytest.raises(ValueError, match="boom"), reporter.bar("training", None, "steps"):
            raise ValueError("boom")
    assert stream.getvalue().count("\x1b[?25h") == 2


@pytest.mark.parametrize(
    ("stream", "options", "kind"),
    [
        (Terminal(), {}, TerminalReporter),
        (io.StringIO(), {}, PlainReporter),
        (Terminal(), {"json": True}, JsonReporter),
        (Terminal(), {"quiet": True}, QuietReporter),
        (io.StringIO(), {"quiet": True, "json": True}, QuietReporter),
    ],
)
def test_the_reporter_fits_the_stream(
    stream: io.StringIO, options: dict[str, bool], kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert type(choose_reporter(stream=stream, **options)) is kind


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert type(choose_reporter(stream=Terminal())) is PlainReporter


def test_only_the_first_of_several_processes_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert type(choose_reporter(stream=io.StringIO())) is Reporter


def test_nothing_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    for make in (PlainReporter, JsonReporter, QuietReporter, TerminalReporter):
        make(sys.stderr).warn("look here")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("look here") == 4


def test_durations_round_before_they_are_split() -> None:
    assert duration(59.7) == "1:00"
    assert duration(3599.6) == "1:00:00"
