"""Snapshots: the models at the ends of a schedule's cycles, all of one run, as an ensemble.

Huang et al. 2017 (1704.00109): a rate that falls to its end several times visits several valleys for the
price of one training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from etude.core.checkpoint import checkpoints, read_checkpoint
from etude.core.engine import Engine
from etude.core.observe import Reporter
from etude.core.predict import predict
from etude.core.rates import Rates
from etude.decision.postprocessor import Decision, cross_fit
from etude.errors import ConfigError, RunError
from etude.evaluation.scored import Scored
from etude.runs.artefact import model_metadata, save_model
from etude.runs.build import Run, build
from etude.runs.derived import config_for, write_results
from etude.runs.folder import RunFolder

SNAPSHOTS = "snapshots"


def cycle_ends(factors: Sequence[float]) -> list[int]:
    """Return the steps done where a schedule's cycles end: in front of each rise, and at the end of all.

    Args:
        factors: of the learning rate, of each step from the first.

    >>> cycle_ends([1.0, 0.5, 0.1, 1.0, 0.5, 0.1])
    [3, 6]
    >>> cycle_ends([1.0, 0.5, 0.1])
    [3]
    """
    falls = [i for i in range(1, len(factors)) if factors[i] < factors[i - 1]]
    first = falls[0] if falls else len(factors)  # a warm-up rises in front of the first cycle
    rises = [i for i in range(first, len(factors)) if factors[i] > factors[i - 1]]
    starts = [i for i in rises if i - 1 not in rises]
    return [*starts, len(factors)]


def at_ends(ends: Sequence[int], steps: Sequence[int]) -> list[int]:
    """Return for each end of a cycle the last step in its last twentieth, of those that there are.

    A cycle's last steps hardly move the weights, so that one step more or less is the same model.

    >>> at_ends([101, 200], [50, 100, 150, 200])
    [100, 200]
    """
    found, begin = [], 0
    for end in ends:
        slack = max(1, (end - begin) // 20)
        near = [step for step in steps if end - slack <= step <= end]
        found += near[-1:]
        begin = end
    return found


def snapshots_of(paths: Sequence[Path], *, reporter: Reporter | None = None) -> list[Path]:
    """Turn a run's checkpoints at its cycles' ends into folders of runs, ``snapshots`` inside its own.

    Args:
        paths: one finished run whose schedule has cycles, and whose checkpoints were kept.
        reporter: who tells of progress.

    Raises:
        ConfigError: there is not one run.
        RunError: the schedule has one cycle, or fewer than two of its ends have a checkpoint.
    """
    if len(paths) != 1:
        raise ConfigError(f"snapshots are those of one run, and {len(paths)} are named; name one")
    path = paths[0]
    folder, config = RunFolder.open(path)
    run = build(config, reporter=reporter)
    ends = cycle_ends(_factors(run.engine))
    if len(ends) < 2:
        raise RunError(
            f"the schedule of {path} has one cycle; snapshots need several, as [schedule] name = "
            '"cosine_restarts" has'
        )
    found = {int(file.name.split("-")[-1]): file for file in checkpoints(folder.checkpoints)}
    there = at_ends(ends, sorted(found))
    if len(there) < 2:
        raise RunError(
            f"{path} has checkpoints after the steps {', '.join(map(str, sorted(found))) or 'none'}, and its "
            f"cycles end after {', '.join(map(str, ends))}; train with train.save_every at the cycles' "
            f"length and train.keep_checkpoints = {len(ends)}"
        )
    members = []
    for step in there:
        place = folder.path / SNAPSHOTS / f"step-{step}"
        if not (place / "summary.json").is_file():
            run.engine.load_state(read_checkpoint(found[step]))
            _save(run, place)
        members.append(place)
    return members


def _factors(engine: Engine) -> list[float]:
    rates = Rates(engine.plan, engine.settings.total_steps)
    return [float(rates.factor(step)) for step in range(engine.settings.total_steps)]


def _save(run: Run, place: Path) -> None:
    """Write the model as it stands now as the folder of a run."""
    config, task, data = config_for(run.config, place, report=False, resamples=0), run.data.task, run.data
    if data.validation is None:
        raise RunError("snapshots are compared on a validation part and there is none; set data.validation")
    logits = predict(run.engine.model, data.validation, run.accelerator).numpy()
    targets = data.validation.targets.numpy()
    decision = Decision.fit(task, config.decision, logits, targets, seed=config.seed)
    applied = cross_fit(task, config.decision, logits, targets, seed=config.seed)
    scored = Scored(task, logits, *applied, targets, data.texts["validation"], data.rows["validation"])
    folder = RunFolder.create(config)
    save_model(run.backbone, folder.model, model_metadata(run), decision)
    write_results(folder, config, decision, {"validation": scored}, {}, run.plan.describe(), Reporter())
