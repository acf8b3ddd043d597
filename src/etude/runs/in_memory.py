"""A run without a folder: from tables in memory to a model that predicts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from etude.config.run import Config
from etude.core.observe import Reporter
from etude.core.predict import predict
from etude.data.table import Table
from etude.decision.postprocessor import Decision
from etude.runs.artefact import model_metadata, save_model
from etude.runs.build import build
from etude.runs.final import final_weights
from etude.runs.model import Classifier


def fit_tables(
    config: Config, tables: Mapping[str, Table], folder: Path, *, reporter: Reporter | None = None
) -> Classifier:
    """Train on tables in memory, and return the model as it was saved.

    No checkpoint is written and nothing is scored; the decision is fitted on the validation part where there
    is one.

    Args:
        config: the run's; its ``data.train`` is only what errors call the table.
        tables: by part; ``"train"`` must be there.
        folder: where the model is saved.
        reporter: who tells of progress.

    Raises:
        EtudeError: the config or the data cannot be used.
    """
    reporter = reporter or Reporter()
    run = build(config, reporter=reporter, tables=tables)
    run.engine.fit()
    data = run.data
    with final_weights(config, run.engine):
        decision = Decision.plain(data.task)
        if data.validation is not None:
            logits = predict(run.engine.model, data.validation, run.accelerator, reporter=reporter).numpy()
            targets = data.validation.targets.numpy()
            decision = Decision.fit(data.task, config.decision, logits, targets, seed=config.seed)
        save_model(run.backbone, folder, model_metadata(run), decision)
    return Classifier(folder, precision=config.train.precision)
