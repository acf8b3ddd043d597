"""The façade: the same jobs as the command line's, from Python.

>>> import etude                                                        # doctest: +SKIP
>>> result = etude.train("recipes/banking77.toml")                      # doctest: +SKIP
>>> etude.load(result.folder).predict(["Where is my card?"])[0].label   # doctest: +SKIP
'card_arrival'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etude.config.load import ConfigLike, as_config, parse_config
from etude.config.run import Config
from etude.core.observe import Reporter
from etude.data.verdicts import Checkup
from etude.evaluation.attribution import Interpretation
from etude.runs import baseline as _baseline
from etude.runs import check_data as _check_data
from etude.runs import compare as _compare
from etude.runs import evaluate as _evaluate
from etude.runs import explain as _explain
from etude.runs import health as _health
from etude.runs import interpret as _interpret
from etude.runs import jobs as _jobs
from etude.runs import pretrain as _pretrain
from etude.runs import retrain as _retrain
from etude.runs.baseline import BaselineScores
from etude.runs.compare import Comparison
from etude.runs.evaluate import Evaluation
from etude.runs.folder import find_model, folder_of_results
from etude.runs.health import Health
from etude.runs.interpret import Question
from etude.runs.model import Classifier, Prediction
from etude.runs.pretrain import Pretrained
from etude.runs.report import write_report
from etude.runs.retrain import Retrained
from etude.runs.self_training import SelfTrained
from etude.runs.train import Result
from etude.search.auto_epochs import AUTO, AutoEpochs, resume_auto_epochs
from etude.search.batch_size import FoundBatch
from etude.search.lr_finder import FoundRate
from etude.searches import (
    auto_epochs,
    ensemble,
    find_batch_size,
    find_lr,
    retrain_best,
    self_train,
    soup,
    study,
    tune,
)


def train(config: ConfigLike, *, overrides: Sequence[str] = (), reporter: Reporter | None = None) -> Result:
    """Train the run that a config describes.

    Args:
        config: a TOML file, a mapping of the same shape, or a :class:`Config`.
        overrides: ``"optimizer.lr=3e-5"`` and the like.
        reporter: who tells of progress; nobody by default.

    Raises:
        EtudeError: the config, the data or the run's folder cannot be used.
    """
    return _jobs.train(as_config(config, overrides), reporter=reporter)


def resume(
    folder: str | Path, *, reporter: Reporter | None = None
) -> Result | Pretrained | SelfTrained | AutoEpochs:
    """Go on with a stopped run; it ends with the weights of one that was never stopped."""
    if (Path(folder) / AUTO).is_file():
        return resume_auto_epochs(Path(folder), reporter=reporter)
    return _jobs.resume(Path(folder), reporter=reporter)


def pretrain(
    config: ConfigLike, *, overrides: Sequence[str] = (), reporter: Reporter | None = None
) -> Pretrained:
    """Let a backbone learn from inputs alone; its folder is what ``backbone.path`` may then name.

    Args:
        config: a TOML file, a mapping of the same shape, or a :class:`Config`; ``[pretrain]`` says how.
        overrides: ``"pretrain.epochs=10"`` and the like.
        reporter: who tells of progress.

    Raises:
        EtudeError: the config, the data or the run's folder cannot be used.
    """
    return _pretrain.pretrain(as_config(config, overrides), reporter=reporter)


def load(folder: str | Path) -> Classifier:
    """Open the saved model of a run's folder or of a model's own."""
    return Classifier(find_model(Path(folder)))


def predict(folder: str | Path, texts: Sequence[str | Mapping[str, Any]]) -> list[Prediction]:
    """Open a saved model and predict some texts, or rows as mappings from column to cell."""
    return load(folder).predict(texts)


def evaluate(
    folder: str | Path, data: str | None = None, *, resamples: int = 1000, reporter: Reporter | None = None
) -> Evaluation:
    """Score a saved model on a labelled file, or on the test part of its run.

    Args:
        folder: a run's folder, or the model's.
        data: the file; the run's test part if absent.
        resamples: bootstrap resamples behind each interval; 0 for no intervals.
        reporter: who tells of progress.
    """
    return _evaluate.evaluate(folder_of_results(Path(folder)), data, resamples=resamples, reporter=reporter)


def explain(
    config: ConfigLike, *, overrides: Sequence[str] = (), reporter: Reporter | None = None
) -> _explain.Explanation:
    """Resolve a config against its data and its backbone, without training."""
    return _explain.explain(as_config(config, overrides), reporter=reporter)


def validate(
    config: ConfigLike, *, overrides: Sequence[str] = (), reporter: Reporter | None = None
) -> list[str]:
    """Check a config with its data and its techniques; return the warnings."""
    return _jobs.validate(as_config(config, overrides), reporter=reporter)


def check_data(
    source: ConfigLike,
    *,
    overrides: Sequence[str] = (),
    deep: bool = False,
    correlate_with: str | None = None,
    reporter: Reporter | None = None,
) -> Checkup:
    """Look for what is wrong with data before any training.

    Args:
        source: a config, or a bare data file.
        overrides: changes of the config.
        deep: also train a few cheap models, to say how much of a score is noise.
        correlate_with: a labelled file on which models of different quality are scored beside the validation
            part.
        reporter: who tells of progress.
    """
    if isinstance(source, Mapping):
        source = parse_config(source)
    return _check_data.check_data(
        source, overrides=overrides, deep=deep, correlate_with=correlate_with, reporter=reporter
    )


def baseline(
    config: ConfigLike,
    *,
    only: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> dict[str, BaselineScores]:
    """Score simple models on the data of a config: what a trained model should beat."""
    return _baseline.baseline(as_config(config, overrides), only=only, reporter=reporter)


def compare(a: str | Path, b: str | Path, part: str = "test") -> Comparison:
    """Compare two runs on the same rows, with paired intervals and McNemar's test."""
    return _compare.compare(folder_of_results(Path(a)), folder_of_results(Path(b)), part)


def retrain(
    folder: str | Path,
    *,
    directory: str | None = None,
    overrides: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> Retrained:
    """Train again from the start, with the number of epochs at which a run's validation score was best."""
    return _retrain.retrain(Path(folder), directory=directory, overrides=overrides, reporter=reporter)


def health(folder: str | Path, *, reporter: Reporter | None = None) -> Health:
    """Return the spectra of a saved model's weights, and what they say of its training."""
    return _health.health(Path(folder), reporter=reporter)


def report(folder: str | Path, output: str | Path | None = None) -> Path:
    """Write the page that explains a run, from whatever its folder holds."""
    return write_report(folder_of_results(Path(folder)), output=None if output is None else Path(output))


def interpret(
    folder: str | Path,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    question: Question | None = None,
    *,
    reporter: Reporter | None = None,
) -> list[Interpretation]:
    """Say which words of each text speak for and against its labels; needs captum."""
    return _interpret.interpret(Path(folder), texts, pairs, question, reporter=reporter)


__all__ = [
    "AutoEpochs",
    "Classifier",
    "Config",
    "Evaluation",
    "FoundBatch",
    "FoundRate",
    "Health",
    "Prediction",
    "Pretrained",
    "Result",
    "SelfTrained",
    "auto_epochs",
    "baseline",
    "check_data",
    "compare",
    "ensemble",
    "evaluate",
    "explain",
    "find_batch_size",
    "find_lr",
    "health",
    "interpret",
    "load",
    "predict",
    "pretrain",
    "report",
    "resume",
    "retrain",
    "retrain_best",
    "self_train",
    "soup",
    "study",
    "train",
    "tune",
    "validate",
]
