"""Lengths of time on the clock: ``"90s"``, ``"30m"``, ``"2h"``."""

from __future__ import annotations

import re

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(s|m|h)\s*$")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(duration: str) -> float:
    """Read a duration; raises ``ValueError`` on anything else, zero included.

    >>> seconds_of("90s"), seconds_of("1.5h")
    (90.0, 5400.0)
    """
    found = _DURATION.match(duration)
    if found is None or float(found[1]) == 0:
        raise ValueError(
            f"{duration!r} is no duration: write seconds as '90s', minutes as '30m', hours as '2h'"
        )
    return float(found[1]) * _SECONDS[found[2]]


def in_words(seconds: float) -> str:
    """Write a length of time for people.

    >>> in_words(42.31), in_words(75), in_words(7260)
    ('42.3 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
