"""Commands that train: ``train``, ``resume`` and ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from etude.cli.base import (
    ConfigFile,
    Json,
    Overrides,
    Quiet,
    command,
    make_reporter,
    print_result,
    read_config,
    say,
)
from etude.cli.pretrain import print_pretrained
from etude.cli.self_train import print_self_trained


@command
def train(config: ConfigFile, overrides: Overrides = None, quiet: Quiet = False, json: Json = False) -> None:
    """Train and score the run of a config file.

    Example: etude train etude.toml --set optimizer.lr=3e-5 --set train.epochs=3
    """
    resolved = read_config(config, overrides)
    from etude import api

    print_result(api.train(resolved, reporter=make_reporter(quiet, json)), json)


@command
def resume(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="The folder of a stopped run.", show_default=False)
    ],
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Go on with a stopped run.

    It ends with the same weights as if it had never stopped.

    Example: etude resume runs/latest
    """
    from etude import api

    result = api.resume(run, reporter=make_reporter(quiet, json))
    if isinstance(result, api.Pretrained):
        print_pretrained(result, json)
    elif isinstance(result, api.SelfTrained):
        print_self_trained(result, json)
    else:
        print_result(result, json)


@command
def demo(quiet: Quiet = False, json: Json = False) -> None:
    """Train on messages to a shop, in a minute.

    The messages come with the package; at the end a few new ones are labelled.

    Example: etude demo
    """
    folder = Path(__file__).parents[1] / "demo"
    data = [f"data.{part}='{folder / part}.jsonl'" for part in ("train", "test")]
    config = read_config(folder / "demo.toml", [*data, f"run.dir='{_unused_folder('runs/demo')}'"])
    from etude import api

    result = api.train(config, reporter=make_reporter(quiet, json))
    print_result(result, json)
    if json:
        return
    texts = [
        "where is my parcel? it should have come on monday",
        "the pot arrived in three pieces",
        "I cannot log in any more",
    ]
    say("\na few new messages:")
    for text, prediction in zip(texts, result.model.predict(texts), strict=True):
        label = prediction.label or "none"
        say(f"  {label} ({prediction.probabilities.get(label, 0.0):.0%}): {text}")


def _unused_folder(first: str) -> str:
    """Return the name, or the name with the first number at which no folder exists."""
    folder, number = first, 1
    while Path(folder).exists():
        number += 1
        folder = f"{first}-{number}"
    return folder
