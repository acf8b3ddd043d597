"""The command that learns from inputs alone: ``pretrain``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etude.cli.base import (
    ConfigFile,
    Json,
    Overrides,
    Quiet,
    command,
    make_reporter,
    read_config,
    say,
)
from etude.results import to_json

if TYPE_CHECKING:
    from etude.api import Pretrained


@command
def pretrain(
    config: ConfigFile, overrides: Overrides = None, quiet: Quiet = False, json: Json = False
) -> None:
    """Let the backbone learn from inputs alone.

    No label is learned. The result is a backbone that a later run opens by backbone.path.

    Example: etude pretrain etude.toml --set pretrain.epochs=10 --set run.dir=runs/pretrained
    """
    resolved = read_config(config, overrides)
    from etude import api

    print_pretrained(api.pretrain(resolved, reporter=make_reporter(quiet, json)), json)


def print_pretrained(result: Pretrained, as_json: bool) -> None:
    """Print what the held-out rows say, and how to go on."""
    if as_json:
        keys = {"losses": result.losses, "seconds": result.seconds, "plan": result.plan}
        say(to_json({"folder": str(result.folder), "path": str(result.path), **keys}))
        return
    for when, found in result.losses.items():
        say(f"held out {when:<6}  loss {found['loss']:.4f}  accuracy {found['accuracy']:.4f}")
    say(f"\npre-trained in {result.seconds:,.1f} s, saved in {result.folder}")
    say(f"\nnext:\n  etude train CONFIG --set backbone.path={result.path}")
