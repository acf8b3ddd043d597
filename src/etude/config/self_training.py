"""``[self_training]``: how ``etude self-train`` labels the rows without labels, round by round.

The rest of the file is a run as any other, with ``data.unlabelled``. Round 1 trains it on the labelled rows;
each further round is a training of its own, from the first weights, on what the last model labelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from etude.config.explain import validated
from etude.config.fields import Strict, setting
from etude.config.load import Table, merge, of_the_run, parse_overrides, read_tables
from etude.errors import ConfigError

Method = Literal[
    "threshold", "k_best", "confident_share", "pretrain_then_finetune", "noisy_student", "self_distillation"
]


class SelfTrainingConfig(Strict):
    """What ``etude self-train`` does with rows without labels.

    ``threshold`` and ``k_best`` add rows, which keep the label that they came with (Yarowsky 1995, as
    scikit-learn's SelfTrainingClassifier). The others label all rows anew in every round.
    """

    method: Method = setting("threshold", help="which rows join, and what a round learns")
    rounds: int = setting(5, help="trainings after the first one, at most", ge=1)
    labels: Literal["hard", "soft"] = setting(
        "hard", help="decisions of the last model, or its probabilities"
    )
    threshold: float | None = setting(
        None,
        help="confidence above which a row joins, with method = 'threshold' (absent: 0.9) and "
        "'noisy_student' (absent: 0.3)",
        ge=0.0,
        lt=1.0,
    )
    k_best: int = setting(10, help="rows that join in a round, with method = 'k_best'", unit="rows", ge=1)
    per_class: bool = setting(True, help="k_best counts for each class; false is of all rows together")
    drop: float = setting(0.2, help="share of the least confident rows that is left out", ge=0.0, lt=1.0)
    weight: float = setting(1.0, help="weight of a pseudo-labelled row beside 1 of a labelled one", gt=0.0)
    average_rounds: bool = setting(
        False, help="label by the mean probabilities of all rounds so far, an ensemble, not of the last alone"
    )
    share: float = setting(
        1.0, help="what the teacher's probabilities count for in self_distillation; the rest is the label",
        gt=0.0, le=1.0,
    )  # fmt: skip
    student: dict[str, Any] = setting(
        {}, help="settings of the run that differ from the second round on, as the noise of a noisy student"
    )
    finetune: dict[str, Any] = setting(
        {}, help="settings that differ while pretrain_then_finetune learns the true labels, as a lower lr"
    )

    @model_validator(mode="after")
    def _noise_is_there(self) -> Self:
        if self.method == "noisy_student" and not self.student:
            raise ValueError(
                "method = 'noisy_student' trains its students under noise that the teacher has not, and none "
                "is given; add it as [self_training.student.techniques.NAME] or student.backbone.dropout"
            )
        if self.finetune and self.method != "pretrain_then_finetune":
            raise ValueError(
                f"finetune is for method = 'pretrain_then_finetune' and the method is {self.method!r}; "
                "remove it, or change the method"
            )
        fixed = {"data", "run", "seed", "task"} & (self.student.keys() | self.finetune.keys())
        if fixed:
            raise ValueError(
                f"student and finetune may not change {min(fixed)!r}, which all rounds share; remove it"
            )
        return self

    @property
    def least_confidence(self) -> float:
        """The threshold, or the method's own where none is given."""
        if self.threshold is not None:
            return self.threshold
        return 0.3 if self.method == "noisy_student" else 0.9


def read_self_training(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()
) -> tuple[SelfTrainingConfig, Table]:
    """Read how to train, and the tables of the run, which are not yet validated.

    Args:
        source: a TOML file, or a mapping of the same shape; without the section its defaults hold.
        overrides: ``"self_training.rounds=3"`` and the like.

    Raises:
        ConfigError: the section holds what cannot be used.
    """
    if isinstance(source, Mapping):
        tables, where = merge(source, parse_overrides(overrides)), ""
    else:
        tables, where = read_tables(source, overrides), f"{source}: "
    section = tables.get("self_training", {})
    if not isinstance(section, Mapping):
        raise ConfigError(f"{where}self_training is {section!r} and must be a table of settings")
    try:
        return validated(SelfTrainingConfig, section, "self_training"), of_the_run(tables)
    except ConfigError as error:
        raise ConfigError(f"{where}{error}") from error
