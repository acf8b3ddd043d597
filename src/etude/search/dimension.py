"""One setting of a study: its range or its choices, and the arithmetic of scales."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from etude.errors import ConfigError

Role = Literal["scientific", "nuisance"]

NEAR = 0.05
"""Share of a range, from either end, in which the best value is suspected to lie beyond the end."""


@dataclass(frozen=True)
class Dimension:
    """One setting that is tuned.

    Attributes:
        path: the setting, as ``"optimizer.lr"``.
        low, high: the ends of its range; None for choices.
        log: whether the range is logarithmic.
        whole: whether its values are whole numbers.
        choices: its values, where it is no range.
        default: what the config has; None where that is nothing, or not known.
        role: what it is tuned for.
        least, most: what the setting itself admits; None where it has no such bound.
    """

    path: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()
    default: Any = None
    role: Role = "nuisance"
    least: float | None = None
    most: float | None = None

    def at(self, share: float) -> Any:
        """The value that stands at a share of the way from low to high.

        >>> Dimension("lr", 1e-5, 1e-3, log=True).at(0.5)
        0.0001
        >>> Dimension("k", 2, 5, whole=True).at(0.99), Dimension("c", choices=("a", "b")).at(0.6)
        (5, 'b')
        """
        if self.choices:
            return self.choices[min(int(share * len(self.choices)), len(self.choices) - 1)]
        low, high = self._ends()
        if self.whole and self.log:
            drawn = math.exp(math.log(low - 0.5) + share * (math.log(high + 0.5) - math.log(low - 0.5)))
            return int(min(max(round(drawn), low), high))
        if self.whole:
            return int(min(low + math.floor(share * (high - low + 1)), high))
        if self.log:
            return _brief(math.exp(math.log(low) + share * (math.log(high) - math.log(low))), low, high)
        return _brief(low + share * (high - low), low, high)

    def share(self, value: Any) -> float:
        """How far along its scale a value of the range lies, from 0 to 1.

        >>> round(Dimension("lr", 1e-5, 1e-3, log=True).share(1e-4), 9)
        0.5
        """
        if self.choices:
            return self.choices.index(value) / max(len(self.choices) - 1, 1)
        low, high = self._ends()
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return float((value - low) / (high - low))

    def grid(self, points: int) -> list[Any]:
        """All choices, or values spread evenly over the range with both ends.

        >>> Dimension("lr", 1e-5, 1e-3, log=True).grid(3)
        [1e-05, 0.0001, 0.001]
        >>> Dimension("k", 1, 3, whole=True).grid(5)
        [1, 2, 3]
        """
        if self.choices:
            return list(self.choices)
        low, high = self._ends()
        values = []
        for k in range(points):
            along = k / (points - 1)
            value = low * (high / low) ** along if self.log else low + along * (high - low)
            values.append(round(value) if self.whole else _brief(value, low, high))
        return list(dict.fromkeys(values))

    def holds(self, value: Any) -> bool:
        """Whether a value is one of the space's."""
        if self.choices:
            return any(type(choice) is type(value) and choice == value for choice in self.choices)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        low, high = self._ends()
        return low <= value <= high and (not self.whole or value == int(value))

    def edge(self, value: Any) -> Literal["low", "high"] | None:
        """The end of the range that a value lies at, where the setting admits more; choices have no ends."""
        if self.choices or not self.holds(value):
            return None
        share = self.share(value)
        if share <= NEAR and self.low != self.least:
            return "low"
        return "high" if share >= 1 - NEAR and self.high != self.most else None

    def wider(self, end: Literal["low", "high"]) -> tuple[float, float]:
        """The range with one end further out: tenfold, or by half its width, as far as the setting admits.

        >>> Dimension("lr", 1e-5, 1e-3, log=True).wider("high")
        (1e-05, 0.01)
        >>> Dimension("p", 0.0, 0.4, most=0.5).wider("high")
        (0.0, 0.5)
        """
        low, high = self._ends()
        further = 0.5 * (high - low)
        if end == "low":
            low = low / 10 if self.log else low - further
            low = math.ceil(low) if self.whole else float(f"{low:.4g}")
            low = max(low, 1 if self.whole and self.log else low, low if self.least is None else self.least)
        else:
            high = high * 10 if self.log else high + further
            high = math.floor(high) if self.whole else float(f"{high:.4g}")
            high = min(high, high if self.most is None else self.most)
        return low, high

    def _ends(self) -> tuple[float, float]:
        if self.low is None or self.high is None:
            raise ConfigError(f"{self.path} is no range")
        return self.low, self.high

    def in_words(self) -> str:
        """The range as people write it.

        >>> Dimension("lr", 1e-5, 1e-3, log=True).in_words()
        '1e-05 to 0.001, log'
        """
        if self.choices:
            return ", ".join(str(choice) for choice in self.choices)
        low, high = self._ends()
        return f"{low:g} to {high:g}{', log' if self.log else ''}"

    def to_json(self) -> dict[str, Any]:
        """Everything that another space may differ in."""
        return {**asdict(self), "choices": list(self.choices)}


def _brief(value: float, low: float, high: float) -> float:
    """A value with twelve digits, which hides what rounding leaves, within the ends."""
    return min(max(float(f"{value:.12g}"), low), high)


def distance(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> list[str]:
    """Say in what two spaces differ, as ``to_json`` wrote them; nothing where they are the same."""
    first, second = ({entry["path"]: entry for entry in space} for space in (one, other))
    said = [f"{path} is tuned no more" for path in first if path not in second]
    said += [f"{path} is new" for path in second if path not in first]
    for path in first.keys() & second.keys():
        if first[path] != second[path]:
            words = [_entry_in_words(space[path]) for space in (first, second)]
            said.append(f"{path} was {words[0]} and is {words[1]}")
    return said


def _entry_in_words(entry: Mapping[str, Any]) -> str:
    dimension = Dimension(**{**entry, "choices": tuple(entry["choices"])})
    return f"{dimension.in_words()} ({dimension.role}, default {json.dumps(dimension.default)})"
