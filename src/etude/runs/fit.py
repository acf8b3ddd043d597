"""Let a run's engine train in the run's folder: metrics, checkpoints, and a stop that loses nothing."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from etude.core.checkpoint import checkpoints, read_checkpoint
from etude.core.engine import Engine
from etude.core.observe import Reporter
from etude.errors import Interrupted, RunError
from etude.runs.build import Run
from etude.runs.folder import CONFIG, PLAN, RunFolder


def fit(
    run: Run, folder: RunFolder, reporter: Reporter, headline: Callable[[Mapping[str, Any]], str]
) -> float:
    """Train from wherever the engine stands to the end, and return the seconds that it took.

    Args:
        run: ready to be trained.
        folder: where plan, metrics and checkpoints go.
        reporter: who tells of progress.
        headline: makes one line of scores.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; a checkpoint was written unless it came twice.
    """
    main = run.accelerator.is_main_process

    def log(record: Mapping[str, Any]) -> None:
        if main:
            folder.log(record)
        # The rounds of an estimator are told by their losses alone, and are too many to be read.
        if record.get("validation", {}).keys() - {"loss"}:
            reporter.line(f"validation after step {record['step']}: {headline(record['validation'])}")

    run.engine.attach_folder(
        log=log,
        checkpoints=folder.checkpoints,
        extra_state={"fingerprints": run.fingerprints()},
    )
    if main:
        folder.write(PLAN, "\n\n".join([run.plan.describe(), *run.plan.notes]) + "\n")
    start = time.perf_counter()
    try:
        with _stopping_on_signals(run.engine, reporter):
            run.engine.fit()
    except Interrupted as stopped:
        raise Interrupted(
            f"{stopped} after step {run.engine.step}; go on with: etude resume {folder.path}"
        ) from None
    except KeyboardInterrupt:  # the second Ctrl-C, which does not wait for a checkpoint
        raise Interrupted(f"stopped at once; go on with: etude resume {folder.path}") from None
    return time.perf_counter() - start


def go_back_to_checkpoint(folder: RunFolder, build: Callable[[], Run], reporter: Reporter) -> Run:
    """Return the run as it stood at its last checkpoint, or at its beginning where there is none.

    Args:
        folder: the run's.
        build: makes the run anew; called once the checkpoint is known to be whole.
        reporter: is told where the run goes on.

    Raises:
        RunError: the checkpoint is damaged, or the config or the data are not as they were.
    """
    found, path = checkpoints(folder.checkpoints), folder.path
    state = read_checkpoint(found[-1]) if found else None
    run = build()
    if state is None:
        reporter.line(f"{path} has no checkpoint yet; starting from the beginning")
    else:
        _refuse_changes(state["fingerprints"], run.fingerprints(), path)
        run.engine.load_state(state)
        reporter.line(f"going on after step {run.engine.step} of {run.engine.settings.total_steps}")
    if run.accelerator.is_main_process:
        folder.forget_after(run.engine.step if found else -1)
        folder.write_environment(run.config.seed)
    return run


def _refuse_changes(then: Mapping[str, str], now: Mapping[str, str], path: Path) -> None:
    if then["config"] != now["config"]:
        raise RunError(
            f"{path / CONFIG} has changed since the checkpoint was written; put its settings back, or start "
            "a new run"
        )
    if then["data"] != now["data"]:
        raise RunError(
            f"the data of {path} have changed since its checkpoint was written; put them back, or start a "
            "new run"
        )


@contextmanager
def _stopping_on_signals(engine: Engine, reporter: Reporter) -> Iterator[None]:
    """Turn the first Ctrl-C or SIGTERM into a checkpoint after the running step; the second one kills."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: Any) -> None:
        for earlier, handler in before.items():
            signal.signal(earlier, handler)
        engine.request_stop("stopped")
        reporter.warn("stopping after this step, with a checkpoint; once more to stop at once")

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
