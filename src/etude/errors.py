"""The one family of errors that Étude raises on purpose.

Every message is one sentence that names what was given, what was expected and the way out. The
command line prints it without a traceback and leaves with exit code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EtudeError(Exception):
    """The root of all errors that a user can cause and mend."""


class ConfigError(EtudeError):
    """The configuration cannot be used: an unknown key, a value out of bounds, a bad reference."""


class ConflictError(ConfigError):
    """Techniques that cannot work together, or that the task or the backbone cannot carry."""


class DataError(EtudeError):
    """A file or a row of the data cannot be used."""


class RunError(EtudeError):
    """A run's folder, a checkpoint or a saved model cannot be used."""


def closest(word: str, options: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the option nearest to ``word``, or an empty string.

    >>> closest("lerning_rate", ["learning_rate", "seed"])
    "; did you mean 'learning_rate'?"
    >>> closest("zebra", ["learning_rate", "seed"])
    ''
    """
    found = difflib.get_close_matches(word, list(options), n=1, cutoff=0.5)
    return f"; did you mean '{found[0]}'?" if found else ""


class Interrupted(EtudeError):
    """Training was stopped on request, after a checkpoint was written."""
