"""Commands that train: ``train``, ``resume`` and ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from etude.results import to_json

if TYPE_CHECKING:
    from etude.api import AutoEpochs


@command
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    auto_epochs: Annotated[
        bool, typer.Option("--auto-epochs", help="Also find the number of epochs, and train with it.")
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train and score the run of a config file.

    With --auto-epochs the run is trained again with as many epochs as its best validation score took, or
    half as long again while the score still rises at the end; every run has a folder inside run.dir.

    Example: etude train etude.toml --set optimizer.lr=3e-5 --set train.epochs=3

    Example: etude train etude.toml --auto-epochs
    """
    resolved = read_config(config, overrides)
    from etude import api

    if auto_epochs:
        print_auto_epochs(api.auto_epochs(resolved, reporter=make_reporter(quiet, json)), json)
        return
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
    if isinstance(result, api.AutoEpochs):
        print_auto_epochs(result, json)
    elif isinstance(result, api.Pretrained):
        print_pretrained(result, json)
    elif isinstance(result, api.SelfTrained):
        print_self_trained(result, json)
    else:
        print_result(result, json)


def print_auto_epochs(found: AutoEpochs, as_json: bool) -> None:
    """Print the runs of a search for the number of epochs, and which of them to use."""
    if as_json:
        say(to_json(found.to_json()))
        return
    say(found.table())
    say(f"\nnext:\n  etude report {found.kept.folder}\n  etude predict {found.kept.folder} FILE")


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
