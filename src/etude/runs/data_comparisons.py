"""What comparing the parts of a data set means: drift between them, noise of a score, parts that agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from etude.config.run import DataConfig
from etude.core.observe import Reporter
from etude.core.task import Task
from etude.data.profile import percent, shared_values
from etude.data.verdicts import Remark, Section
from etude.evaluation.baselines import BaselinePart
from etude.evaluation.drift import Clue, Drift, Rows, compare_parts
from etude.evaluation.repeats import FEWEST, Noise, Rung, ladder, repeat
from etude.evaluation.trust import Agreement, agreement
from etude.runs.data_parts import PartRows, Parts

DRIFT, STRONG_DRIFT = 0.6, 0.9
"""An AUC above the first asks for a look; above the second hardly a row could be of either part."""

NOISE = 0.02
"""A standard deviation over runs, or a standard error of one score, above which small gains drown."""

AGREEMENT = 0.5
"""A correlation below which a validation part does not tell which model is better on a test part."""

FEWEST_ROWS = 10
"""Rows of each part below which nothing is compared."""


def drift_section(parts: Parts, data: DataConfig, *, seed: int, reporter: Reporter) -> Section | None:
    """Are the parts drawn alike? None where there is only one."""
    others = [name for name in ("validation", "test") if name in parts.found]
    if not others:
        return None
    remarks, evidence = [], {}
    train = _unlabelled(parts.found["train"], data)
    for name in others:
        other = parts.found[name]
        if min(other.rows, parts.found["train"].rows) < FEWEST_ROWS:
            remarks.append(
                Remark("look", f"The {name} part has {other.rows} rows, too few to tell whether it differs.")
            )
            continue
        drift = compare_parts(train, _unlabelled(other, data), seed=seed, reporter=reporter)
        remarks.append(_judge_drift(name, drift, in_time=data.time is not None))
        evidence[name] = {
            "auc": drift.auc.to_json(),
            "rows": {"train": drift.rows[0], name: drift.rows[1]},
            "folds": drift.folds,
            "clues": [asdict(clue) for clue in drift.clues],
        }
    locked = "Of the test part only the texts were looked at here, which tunes nothing."
    notes = [locked] if "test" in evidence else []
    if data.out_of_scope is not None and evidence:
        notes.append("Rows out of scope are not among the training rows, and are among the others.")
    return Section("drift", "Are the parts drawn alike?", remarks, evidence, notes)


def _unlabelled(part: PartRows, data: DataConfig) -> Rows:
    texts = (
        part.texts
        if part.pairs is None
        else [f"{a} {b}" for a, b in zip(part.texts, part.pairs, strict=True)]
    )
    return Rows(texts, {name: part.numbers[:, k] for k, name in enumerate(data.numeric)})


def _judge_drift(name: str, drift: Drift, *, in_time: bool) -> Remark:
    auc = drift.auc
    figure = f"AUC {auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}], 0.5 being chance"
    if auc.low <= 0.5 or auc.value < DRIFT:
        apart = "no classifier" if auc.low <= 0.5 else "a classifier hardly"
        return Remark("safe", f"Training and {name} rows look alike: {apart} tells them apart ({figure}).")
    sentence = (
        f"A classifier tells {name} rows from training rows ({figure}); most telling: "
        f"{'; '.join(clue_in_words(clue, name) for clue in drift.clues[:3])}."
    )
    if auc.low >= STRONG_DRIFT and name == "validation":
        advice = (
            "Draw the validation part from the same source, or a score on it will not be that of the task."
        )
        return Remark("unsafe" if not in_time else "look", sentence, advice)
    advice = (
        "Later rows differ from earlier ones; recent training rows may deserve more weight."
        if in_time
        else "Look at what differs: a sign of another source, or of something that will not be there in use."
    )
    return Remark("look", sentence, advice)


def clue_in_words(clue: Clue, name: str) -> str:
    """Say what tells the parts apart: ``'refund' (2.1 % of training and 14.0 % of validation rows)``."""
    if clue.kind == "word":
        return f"{clue.name!r} ({percent(clue.first)} of training and {percent(clue.second)} of {name} rows)"
    return f"the {clue.name} (on average {clue.first:.3g} and {clue.second:.3g})"


def group_section(parts: Parts, data: DataConfig) -> Section | None:
    """Do groups and times keep the parts apart? None where neither is configured."""
    if data.group is None and data.time is None:
        return None
    remarks: list[Remark] = []
    evidence: dict[str, Any] = {}
    train = parts.found["train"]
    for name in ("validation", "test"):
        other = parts.found.get(name)
        if other is None:
            continue
        if train.groups is not None and other.groups is not None:
            shared = shared_values(train.groups, other.groups)
            remarks.append(_judge_groups(data.group or "", name, shared))
            evidence[f"groups_shared_with_{name}"] = [
                {"group": group, "train": a, name: b} for group, (a, b) in sorted(shared.items())
            ]
        if train.times is not None and other.times is not None:
            early = int((other.times < train.times.max()).sum())
            remarks.append(_judge_times(data.time or "", name, early, other.rows))
            evidence[f"{name}_rows_before_the_last_training_row"] = early
    return Section("groups", "Do groups and times keep the parts apart?", remarks, evidence)


def _judge_groups(column: str, name: str, shared: Mapping[Any, tuple[int, int]]) -> Remark:
    if not shared:
        return Remark("safe", f"No group of {column!r} is in both the training and the {name} part.")
    rows = sum(b for _, b in shared.values())
    return Remark(
        "unsafe",
        f"{len(shared):,} group(s) of {column!r}, as {next(iter(shared))!r}, have rows both in training and "
        f"in {name}, {rows:,} of them in {name}: what is learned of a group there is known here.",
        "Move each group whole into one part.",
    )


def _judge_times(column: str, name: str, early: int, rows: int) -> Remark:
    if not early:
        return Remark("safe", f"All {name} rows are later than the training rows by {column!r}.")
    return Remark(
        "unsafe",
        f"{early:,} of {rows:,} {name} rows are earlier than the latest training row by {column!r}: the "
        "model would have learned from their future.",
        "Move the rows, or let data.validation be a fraction, which takes the latest ones.",
    )


def simple_part(part: PartRows) -> BaselinePart:
    """The rows as simple models read them."""
    numbers = part.numbers.astype(np.float32) if part.numbers.shape[1] else None
    return BaselinePart(part.texts, part.targets, None, part.pairs, numbers)


def noise_section(task: Task, parts: Parts, metric: str, *, seed: int, reporter: Reporter) -> Section | None:
    """How much of a score is chance? None without a validation part."""
    question = "How much of a score is chance?"
    validation = parts.found.get("validation")
    if validation is None:
        return None
    if parts.found["train"].rows < FEWEST:
        return Section("noise", question, [_too_few(parts)])
    train = simple_part(parts.found["train"])
    noise = repeat(task, train, simple_part(validation), metric=metric, seed=seed, reporter=reporter)
    return Section("noise", question, [_judge_noise(noise, validation.rows)], _noise(noise))


def _too_few(parts: Parts) -> Remark:
    n = parts.found["train"].rows
    return Remark("look", f"There are {n} training rows, too few to fit even a simple model ({FEWEST}).")


def _judge_noise(noise: Noise, rows: int) -> Remark:
    runs = noise.runs
    sentence = (
        f"{runs.runs} runs of a cheap model that differ by chance alone give {noise.metric} {runs.mean:.3f}, "
        f"standard deviation {runs.std:.4f} and standard error of the mean {runs.standard_error:.4f}; "
        f"one score on {rows:,} rows has a standard error of {noise.sampling_error:.4f}."
    )
    if max(runs.std, noise.sampling_error) <= NOISE:
        return Remark("safe", sentence)
    advice = "Repeat runs with several seeds and compare means, or make the validation part larger."
    return Remark("look", sentence, advice)


def _noise(noise: Noise) -> dict[str, Any]:
    return {
        "metric": noise.metric,
        "model": "logistic regression on TF-IDF, on bootstrap samples of the training rows",
        "scores": noise.scores,
        "mean": noise.runs.mean,
        "std": noise.runs.std,
        "standard_error": noise.runs.standard_error,
        "sampling_error": noise.sampling_error,
    }


def agreement_section(
    task: Task, parts: Parts, test: PartRows, source: str, metric: str, *, seed: int, reporter: Reporter
) -> Section:
    """Does a better score on the validation part mean a better one on a test part?"""
    question = "Do models that are better on validation turn out better on the test rows?"
    if parts.found["train"].rows < FEWEST:
        return Section("agreement", question, [_too_few(parts)])
    named = {"validation": simple_part(parts.found["validation"]), "test": simple_part(test)}
    rungs = ladder(
        task, simple_part(parts.found["train"]), named, metric=metric, seed=seed, reporter=reporter
    )
    scores = {name: [rung.scores[name] for rung in rungs] for name in named}
    evidence: dict[str, Any] = {"metric": metric, "test": source, "models": _rungs(rungs)}
    try:
        found = agreement(scores["validation"], scores["test"])
    except ValueError as error:
        return Section("agreement", question, [Remark("look", f"Nothing can be said: {error}.")], evidence)
    evidence |= {"pearson": found.pearson.to_json(), "spearman": found.spearman.to_json()}
    return Section("agreement", question, [_judge_agreement(found, metric, source)], evidence)


def _rungs(rungs: Sequence[Rung]) -> list[dict[str, Any]]:
    return [{"share_of_training_rows": rung.share, **rung.scores} for rung in rungs]


def _judge_agreement(found: Agreement, metric: str, source: str) -> Remark:
    r, rho = found.pearson, found.spearman
    sentence = (
        f"Over {found.models} cheap models of different quality {metric} on validation and on {source} "
        f"correlate with r = {r.value:.2f} [{r.low:.2f}, {r.high:.2f}] and rank correlation {rho.value:.2f} "
        f"[{rho.low:.2f}, {rho.high:.2f}]."
    )
    if min(r.value, rho.value) >= AGREEMENT and r.low > 0:
        return Remark("safe", sentence)
    advice = "Draw the validation part anew, so that it resembles the rows that the model will see."
    return Remark("unsafe" if r.high < AGREEMENT else "look", sentence, advice)
