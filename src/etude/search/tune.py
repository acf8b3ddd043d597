"""``etude tune``: explore settings evenly, exploit what was found, confirm the winner on fresh seeds.

The study lives in a database. Whoever runs the same command again goes on with it, and whoever runs it at
the same time, on this machine or on another, takes part in it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

from etude.config.run import Config
from etude.config.tune import TuneConfig
from etude.core.observe import Reporter
from etude.errors import ConfigError, EtudeError, Interrupted, RunError
from etude.evaluation.names import check_metric
from etude.runs.build import MAY_CHANGE, build
from etude.runs.shared import Shared
from etude.search.confirm import Confirmation, confirm
from etude.search.dimension import Dimension, distance
from etude.search.kept import BestTrials
from etude.search.record import SETTINGS, SURPLUS, TRAINED, WHY, best_of, trials_of
from etude.search.results import Found, refuse_used, write_results
from etude.search.schedule import Schedule, Scheduled, make_schedule, place_of, value_of
from etude.search.space import make_space, with_params
from etude.search.storage import as_run_error, open_storage, quiet_optuna, work
from etude.search.trial import TrialFailed, quiet, run_trial
from etude.search.usage import libraries_set_aside

MADE_OF = "made_of"
"""The study's attribute that says what it was made of."""
ALL_ROWS = "all rows"
HOPELESS = 3
"""So many trials that fail from the first on end the study: it is not the settings."""
ARMS = ("default", "winner")


@dataclass(frozen=True)
class Stage:
    """One study of the funnel: its name in the storage, the share of the rows in words, and its config."""

    name: str
    rows: str
    config: Config


def tune(config: Config, settings: TuneConfig, *, reporter: Reporter | None = None) -> Found:
    """Tune a config; goes on with a study that was stopped, and takes part in one that is running.

    Args:
        config: the run.
        settings: its ``[tune]``.
        reporter: who tells of progress.

    Raises:
        EtudeError: the config, the space, the data or the storage cannot be used.
        Interrupted: Ctrl-C; the same command goes on.
    """
    tuning = Tuning(config, settings, reporter or Reporter())
    try:
        with as_run_error(tuning.where), libraries_set_aside():
            return tuning.run()
    except KeyboardInterrupt:
        raise Interrupted("stopped; the same command goes on with the study") from None
    finally:
        tuning.close()


class Tuning:
    """One process's part in a study.

    Attributes:
        config, settings: the run and its ``[tune]``.
        dimensions: what is tuned.
        metric: what is compared.
        greater: whether more of it is better.
    """

    def __init__(self, config: Config, settings: TuneConfig, reporter: Reporter) -> None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise RunError(
                "tune trains in one process; start it several times on one study instead of with accelerate"
            )
        self.settings, self.reporter = settings, reporter
        self.folder = Path(config.run.dir)
        refuse_used(self.folder)
        self._shared = Shared()
        base = build(config, reporter=reporter, shared=self._shared)
        if base.data.validation is None:
            raise ConfigError(
                "tune compares trials on the validation part, and there is none; set data.validation"
            )
        self.metric = settings.metric or base.data.task.main_metric
        self.greater = check_metric(self.metric, base.data.task.kind).greater_is_better
        self.dimensions: Sequence[Dimension] = make_space(config, settings, base.plan)
        self._schedule = make_schedule(settings, self.dimensions, config.seed)
        self.config, self._trial_config = config, quiet(config, base.plan)
        self._n_rows = len(base.data.train)
        self._data = self._shared.fingerprint(config, base.data)
        self.name = settings.study or self.folder.resolve().name
        self.where = settings.storage or str(self.folder / "study.db")
        self._deadline = time.monotonic() + settings.seconds
        self._storage: Any = None
        self._kept = BestTrials(self.folder, settings.keep, greater_is_better=self.greater)

    def close(self) -> None:
        """Let go of the database."""
        if self._storage is not None:
            self._storage.remove_session()
            self._storage.engine.dispose()

    def run(self) -> Found:
        """Do this process's share, then write what all of them found."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._storage = open_storage(self.settings.storage, self.folder, self.settings.heartbeat)
        self._introduce()
        schedule, trials = self._schedule, []
        for stage in self._stages():
            study = self._open(stage.name, schedule, self._made_of(stage))
            self._work(study, schedule, stage)
            trials += trials_of(study, schedule, stage.rows)
            last = [trial for trial in trials if trial["stage"] == stage.rows]
            if stage.rows != ALL_ROWS:
                schedule = self._survivors(last)
        best = best_of(last, greater_is_better=self.greater)
        if best is None:
            raise RunError(
                f"none of the {len(last)} trials came to an end{_first_reason(last)}; change [tune.space], "
                "or raise tune.timeout"
            )
        confirmation = self._confirm(best) if best["settings"] and self.settings.seeds else None
        return write_results(
            self.folder, self.config, self.settings, self.dimensions, trials, best, confirmation,
            metric=self.metric, greater_is_better=self.greater, rows=self._n_rows, name=self.name,
            where=self.where, reporter=self.reporter,
        )  # fmt: skip

    def _introduce(self) -> None:
        paths = ", ".join(f"{d.path} ({d.in_words()})" for d in self.dimensions)
        self.reporter.line(f"study {self.name} in {self.where}: {self._schedule.n} trials over {paths}")

    def _stages(self) -> list[Stage]:
        """All shares of the rows that trials run on, all rows last."""
        stages = []
        for share in self.settings.funnel:
            rows = max(math.ceil(share * self._n_rows), 2)
            config = with_params(self._trial_config, {"data.limit": rows})
            stages.append(Stage(f"{self.name}/{share:g}", f"{rows:,} rows", config))
        return [*stages, Stage(self.name, ALL_ROWS, self._trial_config)]

    def _made_of(self, stage: Stage) -> dict[str, Any]:
        """What may not change while a study is stopped."""
        settings = self.settings
        keys = {"mode", "funnel", "survivors"} if settings.funnel else {"mode"}
        if settings.mode != "search":
            keys.add("points")
        return {
            "space": [d.to_json() for d in self.dimensions],
            "data": self._data,
            "config": stage.config.model_dump(mode="json", exclude=MAY_CHANGE),
            "tune": settings.model_dump(mode="json", include=keys) | {"metric": self.metric},
        }

    def _open(self, name: str, schedule: Schedule, made_of: Mapping[str, Any]) -> optuna.Study:
        """Open a study, or make it; refuse to go on with one that was made of something else."""
        sampler = Scheduled(schedule)
        with quiet_optuna():
            study = optuna.create_study(
                storage=self._storage,
                study_name=name,
                sampler=sampler,
                pruner=make_pruner(self.settings.pruner),
                direction="maximize" if self.greater else "minimize",
                load_if_exists=True,
            )
        sampler.study = study
        before = study.user_attrs.get(MADE_OF)
        if before is None:
            study.set_user_attr(MADE_OF, dict(made_of))
        else:
            self._refuse_changes(before, json.loads(json.dumps(made_of)))
        return study

    def _refuse_changes(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        where = f"the study {self.name} in {self.where}"
        way_out = "put it back, or start another study with --set run.dir=NAME"
        if differences := distance(before["space"], now["space"]):
            raise RunError(f"{where} has another search space: {'; '.join(differences[:4])}; {way_out}")
        if before["data"] != now["data"]:
            raise RunError(f"{where} was made on other data: rows, labels or inputs have changed; {way_out}")
        changed = _changes(before["config"], now["config"]) + _changes(before["tune"], now["tune"], "tune.")
        if changed:
            raise RunError(f"{where} was made with another config: {'; '.join(changed[:4])}; {way_out}")

    def _work(self, study: optuna.Study, schedule: Schedule, stage: Stage) -> None:
        first = stage.rows == ALL_ROWS and not self.settings.funnel
        on = "" if first else f" on {stage.rows}"

        def may_begin() -> bool:
            self._refuse_hopeless(study)
            return time.monotonic() < self._deadline

        def objective(trial: optuna.Trial) -> float:
            place = place_of(study.get_trials(deepcopy=False), trial.number)
            if place == len(schedule.points) and schedule.phase(place) == "exploit":
                self.reporter.line(
                    f"exploration is over after {place} trials; from here {self.settings.sampler} proposes "
                    "settings"
                )
            label = f"trial {place + 1} of {schedule.n} ({schedule.phase(place)}){on}"
            return self._objective(
                trial,
                place,
                schedule,
                lambda settings: with_params(stage.config, settings),
                label,
                pruning=True,
                keep=self.settings.keep > 0 and stage.rows == ALL_ROWS,
            )

        def waiting(n: int) -> None:
            self.reporter.line(f"waiting for {n} trial{'s' if n > 1 else ''} of other processes")

        work(study, objective, schedule.n, may_begin=may_begin, waiting=waiting)
        if time.monotonic() >= self._deadline:
            self.reporter.warn(f"tune.timeout = '{self.settings.timeout}' is over; no further trial begins")

    def _objective(
        self,
        trial: optuna.Trial,
        place: int,
        schedule: Schedule,
        make_config: Callable[[Mapping[str, Any]], Config],
        label: str,
        *,
        pruning: bool,
        keep: bool = False,
    ) -> float:
        """One trial, with what is to be known of it afterwards."""
        if place >= schedule.n:  # two processes took the last place at once
            trial.set_user_attr(SURPLUS, True)
            raise RunError("no trial is left")
        settings = self._settings_of(trial, place, schedule)
        trial.set_user_attr(SETTINGS, settings)

        def progress(value: float, evaluations: int) -> None:
            if pruning:
                trial.report(value, evaluations)
            if pruning and trial.should_prune():
                raise optuna.TrialPruned

        def where(value: float) -> Path | None:
            return self._kept.place(trial.number, value, _values(trial.study)) if keep else None

        try:
            outcome = run_trial(
                make_config(settings), metric=self.metric, shared=self._shared, progress=progress, keep=where
            )
            if keep:
                self._kept.forget({**_values(trial.study), trial.number: outcome.value})
        except optuna.TrialPruned:
            self.reporter.line(f"{label}: pruned")
            raise
        except Exception as error:
            why = _one_line(error)
            trial.set_user_attr(WHY, why)
            self.reporter.warn(f"{label} failed: {why}")
            raise
        trial.set_user_attr(TRAINED, outcome.trained)
        self.reporter.line(f"{label}: {self.metric} {outcome.value:.4f} in {outcome.seconds:.1f} s")
        return outcome.value

    def _settings_of(self, trial: optuna.Trial, place: int, schedule: Schedule) -> dict[str, Any]:
        """Let Optuna keep the trial's parameters, and return the settings that they change."""
        point = schedule.points[place] if place < len(schedule.points) else {}
        chosen = dict(trial.relative_params)
        settings = {}
        for d in schedule.dimensions:
            if d.path not in chosen:
                continue
            settings[d.path] = value_of(d, _suggest(trial, d, schedule))
        return {} if point is None else settings

    def _survivors(self, trials: Sequence[Mapping[str, Any]]) -> Schedule:
        """The best trials of a stage, which go on to the next one in the order of their places."""
        finished = [trial for trial in trials if trial["state"] == "complete"]
        ranked = sorted(finished, key=lambda trial: trial["value"], reverse=self.greater)
        kept = ranked[: math.ceil(self.settings.survivors * len(ranked))]
        if not kept:
            raise RunError(f"no trial of this stage came to an end{_first_reason(trials)}")
        self.reporter.line(f"{len(kept)} of {len(trials)} trials go on to more rows")
        points = [trial["settings"] or None for trial in sorted(kept, key=lambda trial: trial["place"])]
        return Schedule(
            self.dimensions, points, ["survivor"] * len(points), len(points), seed=self.config.seed
        )

    def _refuse_hopeless(self, study: optuna.Study) -> None:
        trials = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
        failed = [
            t for t in trials[:HOPELESS] if t.state == optuna.trial.TrialState.FAIL and WHY in t.user_attrs
        ]
        if len(failed) == HOPELESS == len(trials):
            raise RunError(
                f"the first {HOPELESS} trials all failed, the last with: {failed[-1].user_attrs[WHY]}; mend "
                "the config, and start another study with --set run.dir=NAME"
            )

    def _confirm(self, best: Mapping[str, Any]) -> Confirmation | None:
        """Train winner and default with fresh seeds, in a study of their own, so that processes share it."""
        seeds = self.settings.seeds
        key = hashlib.sha256(json.dumps(best["settings"], sort_keys=True).encode()).hexdigest()[:8]
        self.reporter.line(
            f"best: {self.metric} {best['value']:.4f} of trial {best['place'] + 1}; now on {seeds} fresh "
            "seeds against the default"
        )
        arm = Dimension("arm", choices=ARMS)
        points = [{"arm": a, "seed": self.config.seed + 1 + k} for k in range(seeds) for a in ARMS]
        arms = [{"arm": point["arm"]} for point in points]
        schedule = Schedule([arm], arms, ["confirm"] * len(points), len(points))
        study = self._open(f"{self.name}/confirm-{key}", schedule, self._made_of(self._stages()[-1]))

        def objective(trial: optuna.Trial) -> float:
            place = place_of(study.get_trials(deepcopy=False), trial.number)
            point = points[min(place, len(points) - 1)]
            changed = {"seed": point["seed"]} | (best["settings"] if point["arm"] == "winner" else {})
            label = f"{point['arm']} with seed {point['seed']}"
            config = with_params(self._trial_config, changed)
            return self._objective(trial, place, schedule, lambda _: config, label, pruning=False)

        work(study, objective, len(points), may_begin=lambda: True, waiting=lambda _: None)
        scores: dict[str, dict[int, float]] = {name: {} for name in ARMS}
        for trial in trials_of(study, schedule, ALL_ROWS):
            point = points[trial["place"]]
            value = trial["value"] if trial["state"] == "complete" else math.nan
            scores[point["arm"]][point["seed"]] = value
        return confirm(scores["default"], scores["winner"], greater_is_better=self.greater)


def make_pruner(name: str) -> BasePruner:
    """Return the pruner of a name; steps are evaluations."""
    makers: dict[str, Callable[[], BasePruner]] = {
        "none": NopPruner,
        "median": lambda: MedianPruner(n_startup_trials=5, n_warmup_steps=1),
        "asha": lambda: SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
        "hyperband": lambda: HyperbandPruner(min_resource=1, max_resource="auto", reduction_factor=3),
    }
    with quiet_optuna():
        return makers[name]()


def _values(study: optuna.Study) -> dict[int, float]:
    """The scores of the trials that came to an end, by number."""
    done = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    return {trial.number: trial.value for trial in done if trial.value is not None}


def _suggest(trial: optuna.Trial, d: Dimension, schedule: Schedule) -> Any:
    found = schedule.distributions[d.path]
    if isinstance(found, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(d.path, found.choices)
    if isinstance(found, optuna.distributions.IntDistribution):
        return trial.suggest_int(d.path, found.low, found.high, log=found.log)
    if isinstance(found, optuna.distributions.FloatDistribution):
        return trial.suggest_float(d.path, found.low, found.high, log=found.log)
    raise ConfigError(f"{d.path} has no distribution")


def _one_line(error: Exception) -> str:
    """An error in one line; one that nobody raised on purpose with its kind."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, (EtudeError, TrialFailed)) else f"{type(error).__name__}: {text}"


def _first_reason(trials: Sequence[Mapping[str, Any]]) -> str:
    why = next((trial["why"] for trial in trials if trial["why"]), None)
    return f": {why}" if why else ""


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[str]:
    """Say which keys of two trees differ."""
    said = []
    for key in sorted({*before, *now}):
        first, second = before.get(key), now.get(key)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            said += _changes(first, second, f"{path}{key}.")
        elif first != second:
            said.append(f"{path}{key} was {json.dumps(first)} and is {json.dumps(second)}")
    return said
