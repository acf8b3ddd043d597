"""The command ``tune``: explore settings, exploit what was found, confirm the winner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from etude.cli.base import ConfigFile, Json, Overrides, Quiet, command, make_reporter, say
from etude.results import to_json

if TYPE_CHECKING:
    from etude.search.results import Found


@command
def tune(
    config: ConfigFile,
    overrides: Overrides = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage", metavar="URL", help="A database that several machines share: postgresql://..."
        ),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Look for better settings, and confirm the best ones on fresh seeds.

    Trials first spread over the space and then follow what was best. The same command goes on with a
    study that was stopped; run it several times, and the processes share the trials.

    Example: etude tune etude.toml --set tune.trials=50 --set run.dir=runs/tuning
    """
    from etude.config.tune import read_tune

    changes = list(overrides or ())
    if storage is not None:
        changes.append(f"tune.storage='{storage}'")
    read_tune(config, changes)  # a mistake in the file is answered before anything heavy is loaded
    from etude import api

    found = api.tune(config, overrides=changes, reporter=make_reporter(quiet, json))
    say(to_json(found.record) if json else _in_words(found))


def _in_words(found: Found) -> str:
    record, best = found.record, found.record["best"]
    lines = [f"{record['metric']} (validation) {best['value']:.4f} in trial {best['place'] + 1}"]
    if record["default"] is not None:
        lines[0] += f", of the default {record['default']:.4f}"
    lines += [f"  {path} = {value}" for path, value in found.best.items()]
    if not found.best:
        lines.append("no trial was better than the config as it is")
    if found.confirmation is not None:
        lines.append(found.confirmation.in_words())
    lines += ["", f"explained in {found.page}", "", "next:", f"  etude retrain --best {found.folder}"]
    return "\n".join(lines)
