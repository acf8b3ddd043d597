"""The command ``self-train``: trainings in a row, each on the labels that the last model gave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etude.cli.base import ConfigFile, Json, Overrides, Quiet, command, make_reporter, say
from etude.results import to_json

if TYPE_CHECKING:
    from etude.runs.self_training import SelfTrained


@command
def self_train(
    config: ConfigFile, overrides: Overrides = None, quiet: Quiet = False, json: Json = False
) -> None:
    """Learn from rows without labels, round by round.

    The section [self_training] says how, and data.unlabelled which rows. Called again, it goes on where it
    was stopped.

    Example: etude self-train etude.toml --set self_training.method=k_best
    """
    from etude.config.load import parse_config
    from etude.config.self_training import read_self_training

    settings, tables = read_self_training(config, overrides or ())
    resolved = parse_config(tables)
    from etude.runs.self_training import self_train

    print_self_trained(self_train(resolved, settings, reporter=make_reporter(quiet, json)), json)


def print_self_trained(found: SelfTrained, as_json: bool) -> None:
    """Print the table of rounds, why they ended, and what they gained."""
    say(to_json(found.to_json()) if as_json else _in_words(found))


def _in_words(found: SelfTrained) -> str:
    lines = [f"round  rows added  rows used  least confidence  {found.metric} (validation)"]
    for one in found.rounds:
        least = "-" if one.least_confidence is None else f"{one.least_confidence:.4f}"
        score = "-" if one.score is None else f"{one.score:.4f}"
        lines.append(f"{one.number:5}  {one.added:10,}  {one.used:9,}  {least:>16}  {score}")
    lines += ["", f"ended: {found.stopped}"]
    for part, gain in found.gain.items():
        beyond = "within the noise" if gain.low <= 0 <= gain.high else "beyond the noise"
        interval = f"{gain.low:+.4f} to {gain.high:+.4f}"
        lines.append(f"last round minus first, {part}: {gain.value:+.4f} ({interval}), {beyond}")
    if found.test is not None:
        lines.append(f"test {found.metric}: {found.test[0]:.4f} in round 1, {found.test[1]:.4f} in the last")
    lines.append(f"\nsaved in {found.folder}; next: etude predict {found.folder} FILE --output labels.csv")
    return "\n".join(lines)
