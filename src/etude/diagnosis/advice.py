"""What to try next: every piece of advice follows from a verdict, whose sentence is its reason."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence

from etude.config.load import merge
from etude.core.task import Kind
from etude.diagnosis import rounds
from etude.diagnosis.evidence import Evidence
from etude.diagnosis.verdict import Advice, Verdict
from etude.techniques import technique_class

LONGER = 1.5
"""How much longer to train where the loss still falls."""
MORE_EPOCHS = "Train for more epochs"
"""Advice that holds only where new rows would profit as well."""


def what_next(verdicts: Sequence[Verdict], evidence: Evidence | None = None) -> list[Advice]:
    """Return what to try, from the verdicts that are not good: the bad ones' advice comes first.

    What the run's config says already is not advised.

    Args:
        verdicts: as :func:`~etude.diagnosis.diagnose` gives them.
        evidence: what they were given of; without it, settings that depend on the run are left out.

    >>> from etude.diagnosis.verdict import Verdict
    >>> labels = Verdict("labels", "Is every label predicted?", "bad", "'b' is never predicted.")
    >>> for advice in what_next([labels]):
    ...     print(advice.title)
    Weigh rare labels more
    """
    found = [
        (verdict, advice)
        for verdict in verdicts
        if verdict.verdict in ("look", "bad") and verdict.step in _RULES
        for advice in _RULES[verdict.step](verdict, evidence)
        if not _is_so_already(advice, evidence)
    ]
    if evidence is not None and rounds.backbone_of(evidence) is not None:
        found = [(verdict, advice) for verdict, advice in found if rounds.can_act(advice)]
        found += [(verdict, own) for verdict in verdicts for own in rounds.advice_on(verdict, evidence)]
    if any((v.step == "best_epoch" and v.verdict == "bad") or _overfits(v) for v in verdicts):
        found = [(verdict, advice) for verdict, advice in found if advice.title != MORE_EPOCHS]
    found.sort(key=lambda pair: pair[0].verdict != "bad")
    unique: dict[tuple[str, str], Advice] = {}
    for _, advice in found:
        unique.setdefault((advice.title, advice.config), advice)
    return list(unique.values())


def _convergence(verdict: Verdict, evidence: Evidence | None) -> Iterator[Advice]:
    if verdict.verdict == "look":
        yield from _epochs(verdict, evidence, LONGER, MORE_EPOCHS)
        return
    yield from _lr(verdict, evidence, 1 / 3, "Lower the learning rate")
    if _fact(verdict, "fall") > 0 or "broken" in verdict.evidence:
        yield from _technique(
            verdict, evidence, "Lengthen the warm-up", "warmup", 'duration = "0.2dur"', anyway=True
        )


def _fit(verdict: Verdict, evidence: Evidence | None) -> Iterator[Advice]:
    if "gap" in verdict.evidence and _fact(verdict, "gap", 1) <= 0:
        yield from _lr(verdict, evidence, 2.0, "Raise the learning rate")
        yield from _epochs(verdict, evidence, 2.0, MORE_EPOCHS)
        return
    if _fact(verdict, "loss_risen") > 0:
        yield from _technique(verdict, evidence, "Smooth the labels", "label_smoothing", "smoothing = 0.1")
    yield from _technique(
        verdict, evidence, "Make two dropout masks agree, for twice the time", "r_drop", "alpha = 1.0"
    )
    yield _advice(verdict, "More dropout in front of the head", "[backbone]\nhead_dropout = 0.3")


def _baselines(verdict: Verdict, evidence: Evidence | None) -> Iterator[Advice]:
    yield _advice(
        verdict, "Check the data first: duplicates, leaks, and what truncation cuts",
        command="etude check-data CONFIG",
    )  # fmt: skip
    if verdict.verdict == "bad":
        yield from _lr(verdict, evidence, 3.0, "Raise the learning rate")
        yield from _epochs(verdict, evidence, 2.0, MORE_EPOCHS)


def _failures(verdict: Verdict, evidence: Evidence | None) -> Iterator[Advice]:
    if _fact(verdict, "doubtful") > 0:
        yield _advice(
            verdict,
            "A loss that believes wrong labels less",
            '[loss]\nname = "generalized_cross_entropy"\nq = 0.7',
        )


def _confusion(verdict: Verdict, evidence: Evidence | None) -> Iterator[Advice]:
    yield from _technique(
        verdict,
        evidence,
        "Pull the features of different labels apart",
        "supervised_contrastive",
        "weight = 0.2",
    )


def _best_epoch(verdict: Verdict, evidence: Evidence | None) -> Iterator[Advice]:
    epochs = int(_fact(verdict, "epochs"))
    yield _advice(
        verdict,
        "Train again with the epochs of the best score",
        f"[train]\nepochs = {epochs}" if epochs else "",
        command="etude retrain --epochs-from RUN",
    )
    yield _advice(verdict, "Keep the best evaluation's weights", '[train]\nfinal = "best"')


def _dynamics(verdict: Verdict, evidence: Evidence | None) -> Iterator[Advice]:
    findings = " ".join(str(finding) for finding in verdict.evidence.get("findings") or ())
    if "gradient norm" in findings or "exploded" in findings:
        yield from _technique(
            verdict, evidence, "Clip gradients more tightly", "clip", "max_norm = 0.5", anyway=True
        )
        yield from _lr(verdict, evidence, 1 / 3, "Lower the learning rate")
    if "Large updates" in findings:
        yield from _technique(
            verdict, evidence, "Lower the head's learning rate", "head_lr", "factor = 3.0", anyway=True
        )
    if "Small updates" in findings:
        yield from _lr(verdict, evidence, 3.0, "Raise the learning rate")


def _calibration(verdict: Verdict, evidence: Evidence | None) -> Iterator[Advice]:
    other = "platt" if _kind(evidence) == "multilabel" else "vector"
    yield _advice(verdict, "Another calibration", f'[decision]\ncalibration = "{other}"')
    if verdict.verdict == "bad":
        yield _advice(verdict, "More rows to calibrate on", "[data]\nvalidation = 0.2")


def _thresholds(verdict: Verdict, evidence: Evidence | None) -> Iterator[Advice]:
    if _kind(evidence) != "multilabel":
        yield _advice(verdict, "Decide for the likeliest label", '[decision]\nthresholds = "auto"')
    elif verdict.verdict == "bad":
        yield _advice(verdict, "One threshold for all labels", '[decision]\nthresholds = "global"')
    else:
        yield _advice(verdict, "Shrink thresholds more towards a common one", "[decision]\nshrinkage = 30.0")


def _labels(verdict: Verdict, evidence: Evidence | None) -> Iterator[Advice]:
    if verdict.verdict == "look":
        yield _advice(verdict, "A larger validation part", "[data]\nvalidation = 0.2")
        return
    yield from _technique(
        verdict, evidence, "Weigh rare labels more", "class_weights", 'strategy = "inverse_sqrt"'
    )
    kind = _kind(evidence)
    if kind == "multilabel":
        yield _advice(verdict, "A loss that counts absent labels for less", '[loss]\nname = "asymmetric"')
    elif kind is not None:
        yield _advice(
            verdict, "A loss that allows for rare labels", '[loss]\nname = "logit_adjusted"\ntau = 1.0'
        )


def _rows(verdict: Verdict, evidence: Evidence | None) -> Iterator[Advice]:
    share = min(_fact(verdict, "never_learned") / max(_fact(verdict, "rows"), 1), 0.3)
    yield from _technique(
        verdict, evidence, "Leave out the rows that look wrong", "noisy_examples", f"share = {share:.3f}"
    )


_RULES: Mapping[str, Callable[[Verdict, Evidence | None], Iterator[Advice]]] = {
    "convergence": _convergence,
    "fit": _fit,
    "baselines": _baselines,
    "failures": _failures,
    "confusion": _confusion,
    "best_epoch": _best_epoch,
    "dynamics": _dynamics,
    "calibration": _calibration,
    "thresholds": _thresholds,
    "labels": _labels,
    "rows": _rows,
}


def _overfits(verdict: Verdict) -> bool:
    """Whether it says that training rows do surely better than new ones."""
    return verdict.step == "fit" and verdict.verdict in ("look", "bad") and _fact(verdict, "gap", 1) > 0


def _fact(verdict: Verdict, key: str, place: int | None = None) -> float:
    """A number of the evidence, or of a list in it; 0 where it is missing, as in a file that was changed."""
    value = verdict.evidence.get(key)
    if place is not None:
        value = value[place] if isinstance(value, list | tuple) and len(value) > place else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def _advice(verdict: Verdict, title: str, config: str = "", command: str = "") -> Advice:
    return Advice(verdict.step, title, verdict.sentence, config and f"{config}\n", command)


def _is_so_already(advice: Advice, evidence: Evidence | None) -> bool:
    """Whether the run had the advised settings."""
    if evidence is None or evidence.config is None or not advice.config:
        return False
    had = evidence.config.model_dump(mode="json")
    return merge(had, tomllib.loads(advice.config)) == had


def _technique(
    verdict: Verdict, evidence: Evidence | None, title: str, name: str, settings: str, *, anyway: bool = False
) -> Iterator[Advice]:
    """Advise a technique, unless the run has it already (``anyway``: then with other settings)."""
    used = {} if evidence is None or evidence.config is None else evidence.config.techniques
    if anyway or name not in used:
        yield _advice(verdict, title, f"[techniques.{name}]\n{settings}")


def _lr(verdict: Verdict, evidence: Evidence | None, factor: float, title: str) -> Iterator[Advice]:
    """Advise a multiple of the learning rate that the run had, where it is known."""
    if evidence is None or evidence.config is None:
        return
    optimizer = evidence.config.optimizer
    name = optimizer.get("name", "adamw")
    field = technique_class(name).Config.model_fields.get("lr")
    lr = optimizer.get("lr", None if field is None else field.default)
    if isinstance(lr, int | float) and lr > 0:
        yield _advice(verdict, title, f'[optimizer]\nname = "{name}"\nlr = {lr * factor:.1e}')


def _epochs(verdict: Verdict, evidence: Evidence | None, factor: float, title: str) -> Iterator[Advice]:
    """Advise a multiple of the epochs that the run took, where they are known."""
    if evidence is not None and evidence.epochs is not None:
        yield _advice(verdict, title, f"[train]\nepochs = {math.ceil(evidence.epochs * factor)}")


def _kind(evidence: Evidence | None) -> Kind | None:
    return None if evidence is None else evidence.task.kind
