"""Which job a config or a run's folder stands for: training, stages, pre-training."""

from __future__ import annotations

from pathlib import Path

from etude.config.run import Config
from etude.config.stages import resolve_stages
from etude.core.observe import Reporter
from etude.errors import ConfigError
from etude.runs import train as training
from etude.runs.build import build
from etude.runs.folder import RunFolder
from etude.runs.pretrain import Pretrained, build_pretraining, resume_pretraining
from etude.runs.self_training import SETTINGS, SelfTrained, resume_self_training
from etude.runs.stages import check_stages, resume_stages, train_stages
from etude.runs.train import Result


def train(config: Config, *, reporter: Reporter | None = None) -> Result:
    """Train what a config describes.

    Raises:
        EtudeError: the config, the data or the folder cannot be used.
        Interrupted: Ctrl-C; ``resume`` goes on.
    """
    if config.run.job == "pretrain":
        raise ConfigError(
            "run.job = 'pretrain' learns no label; start it with 'etude pretrain', or remove run.job"
        )
    if config.stages:
        return train_stages(config, reporter=reporter)
    return training.train(config, reporter=reporter)


def validate(config: Config, *, reporter: Reporter | None = None) -> list[str]:
    """Check a config, and every stage of it, with its data and its techniques; return the warnings.

    Raises:
        EtudeError: something cannot be used.
    """
    if config.stages:
        return check_stages(resolve_stages(config), reporter or Reporter())
    make = build_pretraining if config.run.job == "pretrain" else build
    return list(make(config, reporter=reporter).data.warnings)


def resume(path: Path, *, reporter: Reporter | None = None) -> Result | Pretrained | SelfTrained:
    """Go on with whatever the folder of a run holds.

    Raises:
        RunError: the folder holds no run, or it cannot go on.
    """
    if (path / SETTINGS).is_file():
        return resume_self_training(path, reporter=reporter)
    config = RunFolder.open(path)[1]
    if config.stages and config.run.job == "train":
        return resume_stages(path, reporter=reporter)
    if config.run.job == "pretrain":
        return resume_pretraining(path, reporter=reporter)
    return training.resume(path, reporter=reporter)
