"""Looking on: the reporter that people read. Nothing here changes a run.

The core reports through this protocol and never prints; the command line brings an implementation
with progress bars, plain lines or JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Bar(Protocol):
    """A piece of work with a known or unknown length."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Report ``amount`` more units done; ``note`` is shown beside the rate, as ``loss 0.41``."""


class _SilentBar:
    def advance(self, amount: int = 1, note: str = "") -> None:
        """Do nothing."""


class Reporter:
    """The reporter that says nothing; the base of those that do."""

    @contextmanager
    def bar(self, title: str, total: int | None, unit: str) -> Iterator[Bar]:
        """Open a progress bar over ``total`` units (``None``: unknown), as a context manager."""
        yield _SilentBar()

    def line(self, text: str) -> None:
        """Say one line."""

    def warn(self, text: str) -> None:
        """Say one line that deserves attention."""
