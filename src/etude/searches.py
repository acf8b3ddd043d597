"""The façade's jobs that make several runs, or one model of several: finders, tuning, studies, ensembles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.config.load import ConfigLike, as_config, parse_config
from etude.config.run import Config
from etude.config.self_training import read_self_training
from etude.core.observe import Reporter
from etude.runs import self_training as _self_training
from etude.runs.self_training import SelfTrained
from etude.runs.train import Result
from etude.search import auto_epochs as _auto_epochs
from etude.search import batch_size as _batch_size
from etude.search import lr_finder as _lr_finder
from etude.search.auto_epochs import AutoEpochs
from etude.search.batch_size import FoundBatch
from etude.search.lr_finder import FoundRate

if TYPE_CHECKING:
    from etude.ensemble.make import Made
    from etude.search.results import Found
    from etude.search.study import StudyResult


def auto_epochs(
    config: ConfigLike,
    *,
    overrides: Sequence[str] = (),
    rounds: int = _auto_epochs.ROUNDS,
    reporter: Reporter | None = None,
) -> AutoEpochs:
    """Train, look where the validation score peaks, and train again with that many epochs.

    Args:
        config: the run; ``run.dir`` is the folder of all of its runs.
        overrides: changes of the config.
        rounds: how often a run that still improves at its end is extended.
        reporter: who tells of progress.
    """
    return _auto_epochs.train_auto_epochs(as_config(config, overrides), rounds=rounds, reporter=reporter)


def find_batch_size(
    config: ConfigLike,
    *,
    overrides: Sequence[str] = (),
    memory: str | None = None,
    most: int = _batch_size.MOST,
    reporter: Reporter | None = None,
) -> FoundBatch:
    """Find the batch size that is worth its rows, and the largest micro-batch that fits in memory.

    Args:
        config: the run.
        overrides: changes of the config.
        memory: what the run may hold, as ``"4GiB"``; most of what is free if absent.
        most: the largest micro-batch to look for.
        reporter: who tells of progress.
    """
    return _batch_size.find_batch_size(
        as_config(config, overrides), memory=memory, most=most, reporter=reporter
    )


def find_lr(
    config: ConfigLike,
    *,
    overrides: Sequence[str] = (),
    low: float = _lr_finder.LOW,
    high: float = _lr_finder.HIGH,
    steps: int = _lr_finder.STEPS,
    stage: int = 1,
    choose: str = _lr_finder.CHOSEN,
    reporter: Reporter | None = None,
) -> FoundRate:
    """Sweep the learning rate of a run, and say which rates its curve suggests.

    Args:
        config: the run.
        overrides: changes of the config.
        low: where the sweep begins.
        high: where it ends at the latest.
        steps: optimizer steps of the sweep.
        stage: which stage of a gradual unfreezing, from 1.
        choose: which reading of the curve counts.
        reporter: who tells of progress.
    """
    return _lr_finder.find_lr(
        as_config(config, overrides),
        low=low, high=high, steps=steps, stage=stage, choose=choose, reporter=reporter,
    )  # fmt: skip


def retrain_best(
    study: str | Path,
    *,
    on_all_data: bool = False,
    directory: str | None = None,
    overrides: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> Result:
    """Train the winner of a study of :func:`tune`, on the validation rows as well where asked to.

    Args:
        study: its folder.
        on_all_data: whether the validation rows join the training rows.
        directory: the run's folder; ``best`` in the study's, or ``best-all-data``, if None.
        overrides: further changes of the config.
        reporter: who tells of progress.
    """
    from etude.search.best import retrain_best

    return retrain_best(
        Path(study), on_all_data=on_all_data, directory=directory, overrides=overrides, reporter=reporter
    )


def tune(config: ConfigLike, *, overrides: Sequence[str] = (), reporter: Reporter | None = None) -> Found:
    """Look for better settings by many trials, and confirm the best ones on fresh seeds; needs optuna.

    Args:
        config: a TOML file, a mapping of the same shape, or a :class:`Config`; ``[tune]`` says how.
        overrides: ``"tune.trials=50"`` and the like.
        reporter: who tells of progress.

    Raises:
        EtudeError: the config, the space, the data or the storage cannot be used.
    """
    from etude.config.tune import read_tune
    from etude.extras import require

    source = config.model_dump(mode="json", exclude_none=True) if isinstance(config, Config) else config
    resolved, settings = read_tune(source, overrides)
    require("optuna", extra="search", technique="etude tune")
    from etude.search.tune import tune

    return tune(resolved, settings, reporter=reporter)


def self_train(
    config: str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> SelfTrained:
    """Learn from rows without labels: trainings in a row, each on the labels that the last model gave.

    Args:
        config: a TOML file, or a mapping of the same shape; its ``[self_training]`` says how.
        overrides: ``"self_training.method=k_best"`` and the like.
        reporter: who tells of progress.

    Raises:
        EtudeError: the config, the data or the folder cannot be used.
    """
    settings, tables = read_self_training(config, overrides)
    return _self_training.self_train(parse_config(tables), settings, reporter=reporter)


def study(
    config: str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    folder: str | Path | None = None,
    test: bool = False,
    reporter: Reporter | None = None,
) -> StudyResult:
    """Compare variants of a run on the same seeds, or go on with that, and write the pages of the study.

    Args:
        config: a TOML file with ``[study]``, or a mapping of the same shape.
        overrides: ``"study.seeds=3"`` and the like.
        folder: the study's; that of the config if absent.
        test: whether to score the test part of all runs once every one of them is done.
        reporter: who tells of progress.
    """
    from etude.config.study import read_study
    from etude.search.study import run_study, write_pages

    settings, base = read_study(config, overrides)
    place = None if folder is None else Path(folder)
    return run_study(settings, base, folder=place, test=test, reporter=reporter, save=write_pages)


def ensemble(
    runs: Sequence[str | Path],
    output: str | Path,
    *,
    method: str = "probabilities",
    fitted: bool = False,
    snapshots: bool = False,
    reporter: Reporter | None = None,
) -> Made:
    """Make an ensemble of finished runs, or of one run's checkpoints, in a folder of its own.

    Args:
        runs: their folders.
        output: the ensemble's.
        method: ``"probabilities"``, ``"logits"``, ``"ranks"`` or ``"stacking"``.
        fitted: whether members get the weights that fit held-out rows best; equal ones otherwise.
        snapshots: whether the members are the checkpoints of one run at the ends of its cycles.
        reporter: who tells of progress.
    """
    from etude.ensemble.make import make_ensemble
    from etude.ensemble.snapshots import snapshots_of

    paths = [Path(run) for run in runs]
    if snapshots:
        paths = snapshots_of(paths, reporter=reporter)
    return make_ensemble(paths, Path(output), method=method, fitted=fitted, reporter=reporter)


def soup(
    runs: Sequence[str | Path],
    output: str | Path,
    *,
    recipe: str = "greedy",
    top: int | None = None,
    reporter: Reporter | None = None,
) -> Made:
    """Average the weights of finished runs into one model.

    Args:
        runs: their folders; with ``top`` the one of a study, or of :func:`tune`, that kept its models.
        output: the soup's folder.
        recipe: ``"greedy"`` or ``"uniform"``.
        top: how many of the study's best runs.
        reporter: who tells of progress.
    """
    from etude.ensemble.from_study import best_of_study
    from etude.ensemble.soup import make_soup

    paths = [Path(run) for run in runs]
    if top is not None:
        paths = best_of_study(paths[0], top)
    return make_soup(paths, Path(output), recipe=recipe, reporter=reporter)
