"""A study: a base and its variants on the same seeds, and what each of them brings.

Seeds pair the runs: for seed k all of them have the same split, the same order of rows and the same first
head, since random numbers are keyed by seed, purpose and time, and adding a technique shifts none of them.
Runs go seed by seed, so that a study that is stopped has compared all variants equally often. Whatever was
trained is found again by its settings and its data; a kill loses the run that was being trained.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etude.config.durations import in_words
from etude.config.run import Config
from etude.config.study import BASE, StudyConfig
from etude.core.observe import Reporter
from etude.data.load import load_data
from etude.errors import ConfigError, Interrupted, RunError
from etude.evaluation.names import find_metric
from etude.evaluation.paired_seeds import Mean, mean_of
from etude.kinds import kind_of
from etude.runs.folder import ETUDE_JSON, whole_file
from etude.runs.shared import Shared
from etude.search.findings import Finding, findings_of
from etude.search.halving import Rung, first_rung, next_rung
from etude.search.one_run import recorded_run, scores_of
from etude.search.run_store import MOST_TRIES, RunStore, run_key
from etude.search.same_study import keep_or_refuse
from etude.search.usage import libraries_set_aside
from etude.search.variants import Variant, variants_of


@dataclass(frozen=True)
class StudyResult:
    """What a study found.

    Attributes:
        folder: the study's.
        metric: what was compared, on the validation part.
        seeds: of the study; a variant may have earned fewer.
        base: the base's mean.
        base_scores: by seed.
        findings: of every variant, best effects first.
        seconds: all runs together.
        notes: sentences that the reader should know.
        test: the same of the test part, where it was opened: the base's mean and findings.
        running: runs that another process was training.
    """

    folder: Path
    metric: str
    seeds: list[int]
    base: Mean
    base_scores: dict[int, float]
    findings: list[Finding]
    seconds: float
    notes: list[str]
    test: tuple[Mean, list[Finding]] | None = None
    running: int = 0

    def to_json(self) -> dict[str, Any]:
        """Everything by name, for a file."""
        plain = {
            name: value for name, value in vars(self).items() if name not in ("findings", "test", "base")
        }
        test = self.test and {
            "base": vars_of(self.test[0]),
            "findings": [finding.to_json() for finding in self.test[1]],
        }
        return plain | {
            "folder": str(self.folder),
            "base": vars_of(self.base),
            "findings": [finding.to_json() for finding in self.findings],
            "test": test,
        }


def vars_of(mean: Mean) -> dict[str, Any]:
    """A mean by name."""
    return {"mean": mean.mean, "se": mean.se, "n": mean.n}


@dataclass
class Study:
    """A study while it runs.

    Attributes:
        settings, variants, folder, reporter: what is compared, where, and who is told.
        test: whether the test part will be opened, for which models must stay till then.
    """

    settings: StudyConfig
    variants: list[Variant]
    folder: Path
    reporter: Reporter
    test: bool
    metric: str = ""
    shared: Shared = field(default_factory=lambda: Shared(keep=2))
    records: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    keys: dict[tuple[str, int], str] = field(default_factory=dict)
    taken: set[tuple[str, int]] = field(default_factory=set)
    fingerprints: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.base = self.variants[0]
        self.seeds = self.settings.seeds_from(self.base.config.seed)
        self.store = RunStore(self.folder)
        self.records = {variant.name: {} for variant in self.variants}

    def data_of(self, config: Config) -> str:
        """The fingerprint of a config's data, read where no run before it had the same."""
        key = Shared.key(config)
        if key not in self.fingerprints:
            data = self.shared.data(
                config, lambda: load_data(config, kind_of(config).loader(), Reporter(), None)
            )
            self.fingerprints[key] = self.shared.fingerprint(config, data)
            if not self.metric:
                self.metric = self.settings.metric or data.task.main_metric
                find_metric(self.metric)
        return self.fingerprints[key]

    def run(self, variant: Variant, seed: int) -> None:
        """Find the record of a run, or train it."""
        config = variant.with_seed(seed)
        key = run_key(config, self.data_of(config))
        self.keys[variant.name, seed] = key
        known = self.store.find(key)
        if known is None or self._lacks_model(key, known):
            with self.store.claim(key) as died:
                if died < 0:
                    self.taken.add((variant.name, seed))
                    return
                known = self._train(key, config, died)
        self.taken.discard((variant.name, seed))
        self.records[variant.name][seed] = known
        self._tell(variant, seed, known)

    def _lacks_model(self, key: str, record: Mapping[str, Any]) -> bool:
        """Whether a run must be trained once more, since its model is needed and was not kept."""
        wanted = self.settings.keep == "models" or (self.test and "test" not in record)
        return wanted and record["status"] == "done" and not (self.store.model(key) / ETUDE_JSON).is_file()

    def _train(self, key: str, config: Config, died: int) -> dict[str, Any]:
        known = self.store.find(key)  # another process may have finished it before the claim
        if known is not None and not self._lacks_model(key, known):
            return known
        if died >= MOST_TRIES:
            record: dict[str, Any] = {
                "status": "failed",
                "why": f"its process died {died} times while it ran, perhaps for want of memory",
                "scores": {},
                "seconds": {},
                "memory": None,
            }
        else:
            keep = self.test or self.settings.keep == "models"
            folder = self.store.model(key).parent if keep else None
            record = recorded_run(config, self.shared, metric=self.metric, folder=folder)
        self.store.write(key, record)
        return record

    def _tell(self, variant: Variant, seed: int, record: Mapping[str, Any]) -> None:
        value = scores_of(record, self.metric)
        if value is None:
            self.reporter.warn(f"seed {seed}, {variant.name}: failed: {record['why']}")
        else:
            seconds = in_words(record["seconds"]["all"])
            self.reporter.line(f"seed {seed}, {variant.name}: {self.metric} {value:.4f} in {seconds}")

    def spent(self) -> float:
        """Seconds of all runs that are part of the study."""
        return sum(r["seconds"].get("all", 0.0) for runs in self.records.values() for r in runs.values())

    def findings(self, *, part: str = "scores") -> list[Finding]:
        """What the records say now."""
        return findings_of(
            self.records,
            {variant.name: variant.role for variant in self.variants},
            self.metric,
            greater_is_better=find_metric(self.metric).greater_is_better,
            score=lambda record: (
                None if record["status"] != "done" else record.get(part, {}).get(self.metric)
            ),
        )


def run_study(
    settings: StudyConfig,
    base: Mapping[str, Any],
    *,
    folder: Path | None = None,
    test: bool = False,
    reporter: Reporter | None = None,
    save: Callable[[StudyResult], None] | None = None,
) -> StudyResult:
    """Run a study, or go on with it, and return what it found.

    Args:
        settings: its ``[study]``.
        base: the tables of the base.
        folder: the study's; that of the settings if None.
        test: whether to open the test part in the end, for all variants at once.
        reporter: who tells of progress.
        save: is given what is known so far, after each seed and in the end.

    Raises:
        ConfigError: a variant or the metric cannot be used.
        RunError: the folder holds a study of another base or of other data, or cannot be written.
        DataError: the data cannot be used.
    """
    variants = variants_of(settings, dict(base))
    folder = folder or Path(settings.dir)
    study = Study(settings, variants, folder, reporter or Reporter(), test)
    if test and variants[0].config.data.test is None:
        raise ConfigError("--test opens the test part, and data.test is not set; set it, or leave --test out")
    try:
        _open(study)
        with libraries_set_aside():
            notes = _train_all(study, save)
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped; what is done is kept in {folder}, so go on by running the same study again"
        ) from None
    result = _result(study, notes)
    if not result.base_scores and not result.running:
        why = next((r["why"] for r in study.records[BASE].values() if r["status"] == "failed"), "no run")
        raise RunError(f"no run of the base came to a score, so that nothing can be compared: {why}")
    if test and not result.running:
        result = _with_test(study, result, notes)
    if save is not None:
        save(result)
    return result


def _open(study: Study) -> None:
    """Refuse a folder that holds another study; else say in it what this one compares with."""
    first = study.base.with_seed(study.seeds[0])
    fingerprint = study.data_of(first)
    keep_or_refuse(study.folder, study.base.config, study.seeds[0], fingerprint)


def _train_all(study: Study, save: Callable[[StudyResult], None] | None) -> list[str]:
    """Train what is not there yet; return sentences on how seeds were given out."""
    names = [variant.name for variant in study.variants[1:]]
    k, budget = len(study.seeds), study.settings.seconds
    rung: Rung | None = first_rung(names, k) if budget is not None else Rung(tuple(names), k)
    stages: list[Rung] = []
    while rung is not None:
        stages.append(rung)
        if not _climb(study, rung, budget, save):
            break
        if budget is None or rung.n_seeds >= k:
            break
        costs = {name: _cost(study.records[name]) for name in study.records}
        gains = _gains(study)
        rung = next_rung(rung, gains, costs, k, budget - study.spent())
    return _on_the_budget(study, stages)


def _climb(
    study: Study, rung: Rung, budget: float | None, save: Callable[[StudyResult], None] | None
) -> bool:
    """Give the variants of a rung their seeds; say whether the budget sufficed."""
    takes_part = [v for v in study.variants if v.role == "base" or v.name in rung.names]
    seeds = study.seeds[: rung.n_seeds]
    with study.reporter.bar("study", len(seeds) * len(takes_part), "runs") as bar:
        for seed in seeds:
            for variant in takes_part:
                if seed not in study.records[variant.name]:
                    # Two seeds are what any interval needs, and are given whatever they cost.
                    if budget is not None and seed not in study.seeds[:2] and study.spent() >= budget:
                        return False
                    study.run(variant, seed)
                bar.advance()
            if save is not None:
                save(_result(study, []))
    return True


def _cost(records: Mapping[int, Mapping[str, Any]]) -> float:
    seconds = [record["seconds"].get("all", 0.0) for record in records.values()]
    return sum(seconds) / len(seconds) if seconds else 0.0


def _gains(study: Study) -> dict[str, float]:
    sign = 1.0 if find_metric(study.metric).greater_is_better else -1.0
    return {f.name: sign * f.effect.mean for f in study.findings() if f.effect is not None}


def _on_the_budget(study: Study, stages: Sequence[Rung]) -> list[str]:
    if study.settings.budget is None:
        return []
    earned = {name: len(runs) for name, runs in study.records.items()}
    before = [0, *(rung.n_seeds for rung in stages)]
    parts = [
        f"{len(rung.names)} variants up to {min(rung.n_seeds, max(earned[n] for n in rung.names))} seeds"
        for rung, had in zip(stages, before, strict=False)
        if max(earned[name] for name in rung.names) > had
    ]
    sentence = f"A budget of {study.settings.budget} gave out seeds by successive halving: "
    sentence += f"{', then '.join(parts)}."
    if min(earned.values()) < len(study.seeds):
        sentence += (
            " Variants with fewer seeds were behind the others; those with more were chosen by the same "
            "scores, so that their effects are somewhat too good."
        )
    return [sentence]


def _result(study: Study, notes: list[str]) -> StudyResult:
    base = {
        seed: value
        for seed, record in study.records[BASE].items()
        if (value := scores_of(record, study.metric)) is not None
    }
    return StudyResult(
        folder=study.folder,
        metric=study.metric,
        seeds=study.seeds,
        base=mean_of(list(base.values())),
        base_scores=base,
        findings=study.findings(),
        seconds=study.spent(),
        notes=notes,
        running=len(study.taken),
    )


def _with_test(study: Study, result: StudyResult, notes: list[str]) -> StudyResult:
    """Score the test part with every model, now that nothing is left to be trained."""
    from etude.search.test_part import score_test_part

    study.reporter.line("every run is done; the test part is opened now, for all variants at once")
    for seed in study.seeds:
        configs = {v.name: v.with_seed(seed) for v in study.variants if seed in study.records[v.name]}
        for name, config in configs.items():
            record, key = study.records[name][seed], study.keys[name, seed]
            if record["status"] == "done" and "test" not in record:
                record["test"] = score_test_part(config, study.store.model(key), study.shared, study.metric)
                study.store.write(key, record)
    if study.settings.keep == "scores":
        for key in study.keys.values():
            shutil.rmtree(study.store.model(key).parent, ignore_errors=True)
    base = [r["test"][study.metric] for r in study.records[BASE].values() if "test" in r]
    notes.append("The test part was opened once, after every run was done.")
    return StudyResult(
        **{**vars(result), "test": (mean_of(base), study.findings(part="test")), "notes": notes}
    )


def write_pages(result: StudyResult) -> None:
    """Write ``study.html``, ``study.md`` and ``findings.json`` into the study's folder.

    Raises:
        RunError: the disk refuses.
    """
    from etude.report.study import render_study, study_markdown

    content, way_out = result.to_json(), "make room, then run the study again, which trains nothing twice"
    title = f"Study {result.folder.name}"
    for name, text in (
        ("findings.json", json.dumps(content, indent=2) + "\n"),
        ("study.md", study_markdown(content, title)),
        ("study.html", render_study(content, title)),
    ):
        with whole_file(result.folder / name, way_out) as file:
            file.write_text(text, encoding="utf-8")
