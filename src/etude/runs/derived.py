"""The folder of a model that no run of its own has trained: an ensemble's, a soup's, a study's.

It holds what the jobs of a run look for: the config, the predictions, the scores and the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etude.config.load import parse_config
from etude.config.run import Config
from etude.core.observe import Reporter
from etude.decision.postprocessor import Decision
from etude.evaluation.scored import Scored
from etude.runs.folder import SUMMARY, RunFolder
from etude.runs.judge import Judgement, score_part
from etude.runs.predictions import write_predictions
from etude.runs.report import write_report


def config_for(config: Config, folder: Path, **run: Any) -> Config:
    """A config with another folder for its run, and further changes of ``[run]``."""
    plain = config.model_dump(mode="json", exclude_none=True)
    plain["run"] = {**plain["run"], "dir": str(folder), **run}
    return parse_config(plain)


def write_results(
    folder: RunFolder,
    config: Config,
    decision: Decision,
    parts: Mapping[str, Scored],
    more: Mapping[str, Any],
    plan: str,
    reporter: Reporter,
) -> Judgement:
    """Score the parts, and write predictions, summary and, where the config wants it, the page.

    Args:
        folder: made already, its model in it.
        config: the folder's.
        decision: the model's.
        parts: by name, as the decision judges them; validation is cross-fitted.
        more: further entries of the summary.
        plan: the model in a few words.
        reporter: who tells of progress.

    Raises:
        RunError: the disk refuses.
    """
    judgement = Judgement(decision, notes=list(decision.notes))
    for part, scored in parts.items():
        judgement.parts[part] = scored
        score_part(judgement, part, scored, config, reporter)
        write_predictions(folder, part, scored)
    task = decision.task
    summary = {
        "task": task.kind,
        "labels": list(task.labels),
        "rows": {part: len(scored) for part, scored in parts.items()},
        "steps": 0,
        **judgement.to_json(),
        "plan": plan,
        **more,
    }
    folder.write(SUMMARY, summary)
    if config.run.report:
        write_report(folder.path)
    return judgement
