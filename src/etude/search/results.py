"""What is left of a study in its folder: ``best.toml``, ``study.json`` and the page ``study.html``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.config.load import dump_config
from etude.config.run import Config
from etude.config.tune import TuneConfig
from etude.core.observe import Reporter
from etude.errors import RunError
from etude.report.tuning import render_study
from etude.runs.folder import CONFIG, PARTIAL, reason, whole_file
from etude.search.confirm import Confirmation
from etude.search.dimension import Dimension
from etude.search.record import borders, importances, scientific
from etude.search.space import with_params

BEST, STUDY, PAGE, DATABASE = "best.toml", "study.json", "study.html", "study.db"
WAY_OUT = "make room, and run the same command again"


@dataclass(frozen=True)
class Found:
    """What a study found.

    Attributes:
        folder: the study's.
        record: everything, as ``study.json`` has it.
        confirmation: the winner against the default on fresh seeds; None where the default won, or nobody
            asked.
    """

    folder: Path
    record: Mapping[str, Any]
    confirmation: Confirmation | None

    @property
    def best(self) -> Mapping[str, Any]:
        """The winning settings by path; empty where the default won."""
        settings: Mapping[str, Any] = self.record["best"]["settings"]
        return settings

    @property
    def config(self) -> Path:
        """The winner's config, ready for ``etude train``."""
        return self.folder / BEST

    @property
    def page(self) -> Path:
        """The page that shows the study."""
        return self.folder / PAGE


def refuse_used(folder: Path) -> None:
    """Raise :class:`RunError` where a folder holds something else than a study."""
    if (folder / CONFIG).exists():
        raise RunError(f"{folder} already holds a run; choose another folder with --set run.dir=NAME")
    known = {BEST, STUDY, PAGE}
    if folder.is_file() or (
        folder.is_dir()
        and not any(file.name in known or file.name.startswith(DATABASE) for file in folder.iterdir())
        and any(not file.name.endswith(PARTIAL) for file in folder.iterdir())
    ):
        raise RunError(f"{folder} exists and is no study's folder; choose another with --set run.dir=NAME")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"the study's folder {folder} cannot be made: {reason(error)}; choose another with "
            "--set run.dir=NAME"
        ) from None


def write_results(
    folder: Path,
    config: Config,
    settings: TuneConfig,
    dimensions: Sequence[Dimension],
    trials: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any],
    confirmation: Confirmation | None,
    *,
    metric: str,
    greater_is_better: bool,
    rows: int,
    name: str,
    where: str,
    reporter: Reporter,
) -> Found:
    """Write the winner's config, the record and the page.

    Args:
        folder: the study's.
        config: the run that was tuned.
        settings: its ``[tune]``.
        dimensions: what was tuned.
        trials: of all stages.
        best: one of them.
        confirmation: of the winner.
        metric: what was compared.
        greater_is_better: whether more of it is better.
        rows: training rows.
        name: the study's.
        where: its storage.
        reporter: is warned of borders.

    Raises:
        RunError: the disk refuses.
    """
    first = trials[0]["stage"]
    explored = [trial for trial in trials if trial["stage"] == first]
    record: dict[str, Any] = {
        "name": name,
        "storage": where,
        "metric": metric,
        "greater_is_better": greater_is_better,
        "training_rows": rows,
        "tune": settings.model_dump(mode="json", exclude={"storage"}),
        "space": [d.to_json() | {"words": d.in_words()} for d in dimensions],
        "trials": list(trials),
        "best": dict(best),
        "default": next((t["value"] for t in explored if t["phase"] == "default"), None),
        "importances": importances(dimensions, explored, seed=config.seed),
        "borders": borders(dimensions, best) if best["settings"] else [],
        "scientific": scientific(dimensions, explored, greater_is_better=greater_is_better),
        "confirmation": None if confirmation is None else confirmation.to_json(),
    }
    for border in record["borders"]:
        reporter.warn(border["sentence"])
    winner = with_params(config, {**best["settings"], "run.dir": str(folder / "best")})
    for file, text in (
        (BEST, dump_config(winner)),
        (STUDY, json.dumps(record, indent=2) + "\n"),
        (PAGE, render_study(record)),
    ):
        with whole_file(folder / file, WAY_OUT) as partial:
            partial.write_text(text, encoding="utf-8")
    return Found(folder, record, confirmation)


def read_study(folder: Path) -> dict[str, Any]:
    """Read ``study.json``.

    Raises:
        RunError: the folder holds no finished study, or it is damaged.
    """
    path = folder / STUDY
    if not path.is_file():
        begun = (folder / DATABASE).exists()
        raise RunError(
            f"the study {folder} is not finished; finish it with the same etude tune"
            if begun
            else f"{folder} holds no study: there is no {STUDY} in it; make one with etude tune CONFIG"
        )
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = {"best", "metric", "confirmation"} - set(record)
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {error}; run the same etude tune again") from None
    if missing:
        raise RunError(f"{path} lacks {', '.join(sorted(missing))}; run the same etude tune again")
    return record
