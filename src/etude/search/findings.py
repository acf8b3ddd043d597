"""What the runs of a study say of each variant: means, paired differences, costs, and a verdict in words.

Everything here is a pure function of the runs' records, so that a page can be made from whatever a study that
was stopped has left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from etude.evaluation.paired_seeds import (
    Mean,
    PairedDifference,
    holm,
    mean_of,
    paired_difference,
    visible_difference,
)

Verdict = Literal["helped", "hurt", "nothing", "unknown", "failed"]
Record = Mapping[str, Any]
LEVEL = 0.05

IN_WORDS: Mapping[Verdict, str] = {
    "helped": "helped",
    "hurt": "hurt",
    "nothing": "did nothing that can be seen",
    "unknown": "cannot be judged",
    "failed": "failed",
}


@dataclass(frozen=True)
class Finding:
    """One variant, or one technique, against the base.

    Attributes:
        name, role: of the variant.
        score: its own mean.
        effect: what it does to the metric: variant minus base, but base minus variant where a technique was
            left out, so that it is always what the technique brings. None where no seed has both.
        p: of the effect, corrected by Holm for the number of variants.
        win_rate: the share of seeds on which it is better with than without, equal ones counted half.
        scores: by seed.
        effects: by seed, in the order of ``seeds``.
        seeds: those that both were scored on.
        time, memory: what it costs, as a ratio with to without; None where it is not known.
        failures: sentences by seed.
        same_rows: whether the validation parts are of the same number of rows as the base's on every seed.
        verdict, sentence: the outcome.
    """

    name: str
    role: str
    score: Mean
    effect: PairedDifference | None
    p: float | None
    win_rate: float | None
    scores: dict[int, float]
    effects: list[float]
    seeds: list[int]
    time: float | None
    memory: float | None
    failures: dict[int, str]
    same_rows: bool
    verdict: Verdict
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """Everything by name, for a file."""
        return asdict(self)


def findings_of(
    records: Mapping[str, Mapping[int, Record]],
    roles: Mapping[str, str],
    metric: str,
    *,
    greater_is_better: bool = True,
    score: Callable[[Record], float | None] | None = None,
) -> list[Finding]:
    """Return a finding for every variant, the base left out, best effects first.

    Args:
        records: by variant and seed; the base's under ``"base"``.
        roles: of every variant, in the order of the study.
        metric: its name.
        greater_is_better: of it.
        score: takes the score out of a record; the validation part's by default.
    """
    take = score or (lambda record: record["scores"].get(metric) if record["status"] == "done" else None)
    sign = 1.0 if greater_is_better else -1.0
    base = records.get("base", {})
    found = [
        _measured(name, role, records.get(name, {}), base, take, sign)
        for name, role in roles.items()
        if role != "base"
    ]
    tested = [f for f in found if f.effect is not None and f.effect.p is not None]
    corrected = dict(
        zip((f.name for f in tested), holm([f.effect.p or 0.0 for f in tested if f.effect]), strict=True)
    )
    judged = [_judged(replace(f, p=corrected.get(f.name)), metric, sign) for f in found]
    return sorted(judged, key=lambda f: -sign * f.effect.mean if f.effect else math.inf)


def _measured(
    name: str,
    role: str,
    own: Mapping[int, Record],
    base: Mapping[int, Record],
    take: Callable[[Record], float | None],
    sign: float,
) -> Finding:
    scores = {seed: value for seed, record in own.items() if (value := take(record)) is not None}
    rivals = {seed: value for seed, record in base.items() if (value := take(record)) is not None}
    seeds = [seed for seed in scores if seed in rivals]
    turned = role == "removed"
    without, with_it = ((scores, rivals) if turned else (rivals, scores)) if seeds else ({}, {})
    pairs = [(without[seed], with_it[seed]) for seed in seeds]
    effect = paired_difference([a for a, _ in pairs], [b for _, b in pairs]) if pairs else None
    win_rate = None if effect is None else effect.win_rate if sign > 0 else 1 - effect.win_rate
    done = [(own[seed], base[seed]) for seed in seeds]
    return Finding(
        name=name,
        role=role,
        score=mean_of(list(scores.values())),
        effect=effect,
        p=None,
        win_rate=win_rate,
        scores=scores,
        effects=[b - a for a, b in pairs],
        seeds=seeds,
        time=_ratio([(a["seconds"].get("train"), b["seconds"].get("train")) for a, b in done], turned=turned),
        memory=_ratio([(a.get("memory"), b.get("memory")) for a, b in done], turned=turned),
        failures={seed: record["why"] for seed, record in own.items() if record["status"] == "failed"},
        same_rows=all(a.get("rows") == b.get("rows") for a, b in done),
        verdict="unknown",
        sentence="",
    )


def _ratio(pairs: Sequence[tuple[float | None, float | None]], *, turned: bool) -> float | None:
    """The geometric mean of ratios, first to second of each pair, or the other way round."""
    logs = [math.log(a / b) for a, b in pairs if a and b]
    if not logs or len(logs) < len(pairs):
        return None
    mean = sum(logs) / len(logs)
    return math.exp(-mean if turned else mean)


def _judged(found: Finding, metric: str, sign: float) -> Finding:
    """Add the verdict, and the sentence that says why."""
    effect, k = found.effect, len(found.seeds)
    if effect is None:
        why = next(iter(found.failures.values()), None)
        if why is not None:
            return replace(found, verdict="failed", sentence=f"failed: {why}")
        return replace(found, verdict="unknown", sentence="has not been trained yet")
    lost = f"; {len(found.failures)} of its runs failed" if found.failures else ""
    size = f"{effect.mean:+.4f} {metric}"
    if effect.p is None or found.p is None or effect.low is None or effect.high is None:
        return replace(
            found, verdict="unknown", sentence=f"{size} on one seed, which says nothing of chance{lost}"
        )
    size += f" ({effect.low:+.4f} to {effect.high:+.4f})"
    if found.p < LEVEL:
        verdict: Verdict = "helped" if sign * effect.mean > 0 else "hurt"
        return replace(found, verdict=verdict, sentence=f"{verdict}: {size}{lost}")
    seen = _what_can_be_seen(effect, k, metric)
    return replace(
        found, verdict="nothing", sentence=f"did nothing that {k} seeds can see: {size}{seen}{lost}"
    )


def _what_can_be_seen(effect: PairedDifference, k: int, metric: str) -> str:
    if effect.mean == 0 and effect.se == 0:
        return ", not one score differs"
    if not effect.se:
        return ", the same on every seed, of which there are too few"
    return f"; less than {visible_difference(effect.se, k):.4f} is not visible with them"
