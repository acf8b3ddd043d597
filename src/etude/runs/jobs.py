"""Which job a config or a run's folder stands for: training, pre-training."""

from __future__ import annotations

from pathlib import Path

from etude.config.run import Config
from etude.core.observe import Reporter
from etude.errors import ConfigError
from etude.runs import train as training
from etude.runs.folder import RunFolder
from etude.runs.pretrain import Pretrained, resume_pretraining
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
    return training.train(config, reporter=reporter)


def resume(path: Path, *, reporter: Reporter | None = None) -> Result | Pretrained:
    """Go on with whatever the folder of a run holds.

    Raises:
        RunError: the folder holds no run, or it cannot go on.
    """
    config = RunFolder.open(path)[1]
    if config.run.job == "pretrain":
        return resume_pretraining(path, reporter=reporter)
    return training.resume(path, reporter=reporter)
