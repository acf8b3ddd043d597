"""The shape of a run's TOML file.

``[optimizer]``, ``[schedule]`` and ``[loss]`` pick the technique of a phase that takes exactly one,
by ``name``; every other technique is a table ``[techniques.NAME]``. What is inside those tables
belongs to the technique, and is validated by its own config class when the run is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from etude.config.columns import ColumnsConfig
from etude.config.decision import DecisionConfig
from etude.config.estimators import LinearBackboneConfig, TreesBackboneConfig
from etude.config.fields import Probability, Strict, Time, setting
from etude.config.images import ImageBackboneConfig
from etude.config.pretrain import PretrainConfig
from etude.config.tables import TableBackboneConfig

Size = Annotated[int, Field(gt=0, strict=True)] | Annotated[float, Field(gt=0, lt=1)]
"""Rows of a part: a count, or a fraction; 1.0 is neither, though Python would count it as one row."""

REST = "rest"
"""What ``data.unlabelled`` calls the training rows that ``data.limit`` leaves out."""


class DataConfig(Strict):
    """Where the examples come from, and which of their columns mean what."""

    train: str = setting(help="csv, tsv, jsonl, json or parquet file, or a hub data set id")
    test: Size | str | None = setting(
        None, help="a file, a fraction or a count; scored once, at the end, and seen by nothing that tunes"
    )
    validation: Size | str | Literal[False] = setting(
        0.1, help="a fraction, a count, a file, or false for none"
    )
    text: str = setting("text", help="column of the text")
    text_pair: str | None = setting(None, help="column of a second text, for pairs")
    image: str = setting("image", help="column of the images: paths, bytes or arrays")
    labels: str | list[str] = setting(
        "label",
        help="column of the label or of the list of labels; several names for 0/1 columns",
    )
    label_separator: str | None = setting(
        None, help="what separates the labels of one cell, for multilabel data in csv files"
    )
    numeric: list[str] = setting([], help="columns of numbers that join the text's features")
    numeric_missing: Literal["error", "mean"] = setting(
        "error", help="a missing number is an error, or counts as the training part's mean"
    )
    weight: str | None = setting(None, help="column of example weights (0 or more)")
    limit: int | None = setting(None, help="use only this many training rows, chosen at random", gt=0)
    unlabelled: str | None = setting(
        None,
        help="rows whose labels are not looked at: a file, or 'rest' for the training rows that data.limit "
        "leaves out",
    )
    pseudo_labels: str | None = setting(
        None,
        help="a file that names the rows to learn, with their targets, as 'etude self-train' writes them",
    )
    group: str | None = setting(
        None, help="column whose equal values stay together: no group is in two parts"
    )
    time: str | None = setting(
        None, help="column of dates or numbers: the latest rows are held out, in place of random ones"
    )
    folds: int | None = setting(
        None, help="validation is one of this many folds, in place of a fraction", ge=2
    )
    fold: int = setting(0, help="which of the folds is the validation part, counted from 0", ge=0)
    out_of_scope: str | None = setting(
        None, help="label of rows that belong to no class: not learned, and scored as 'should abstain'"
    )

    @field_validator("out_of_scope", mode="before")
    @classmethod
    def _labels_are_names(cls, value: Any) -> Any:
        """Take a label that is an integer by its name, as the labels of the rows are."""
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _columns_have_one_meaning(self) -> Self:
        labels = [self.labels] if isinstance(self.labels, str) else self.labels
        others = dict.fromkeys(labels, "the label") | {self.text: "the text"}
        others |= {name: "the second text" for name in [self.text_pair] if name is not None}
        for name in self.numeric:
            if name in others:
                raise ValueError(f"numeric names {name!r}, the column of {others[name]}; name other columns")
            if self.numeric.count(name) > 1:
                raise ValueError(f"numeric names {name!r} {self.numeric.count(name)} times; name it once")
        for key, column in (("group", self.group), ("time", self.time)):
            if column in others:
                raise ValueError(
                    f"{key} names {column!r}, the column of {others[column]}; name another column"
                )
        return self

    @model_validator(mode="after")
    def _rest_is_left(self) -> Self:
        if self.unlabelled == REST and self.limit is None:
            raise ValueError(
                "unlabelled = 'rest' is the training rows that limit leaves out, and there is no limit; set "
                "limit, or name a file"
            )
        return self

    @model_validator(mode="after")
    def _splits_make_sense(self) -> Self:
        if self.folds is None and self.fold:
            raise ValueError(f"fold = {self.fold} needs folds, the number of them; set folds, or remove fold")
        if self.folds is not None:
            if isinstance(self.validation, str) or self.validation is False:
                given = f'"{self.validation}"' if self.validation else "false"
                raise ValueError(
                    f"folds = {self.folds} takes the validation part out of the training file, and "
                    f"validation = {given} says otherwise; remove one of the two"
                )
            if self.fold >= self.folds:
                raise ValueError(
                    f"fold = {self.fold} is none of {self.folds} folds, which are counted from 0; give at "
                    f"most {self.folds - 1}"
                )
        if self.time is not None and not self.splits_validation and not self.splits_test:
            raise ValueError(
                f"time = {self.time!r} says which rows of the training file are held out, and no part is "
                "taken out of it; give validation or test as a fraction or a count, or remove time"
            )
        return self

    @property
    def splits_validation(self) -> bool:
        """Whether the validation part comes out of the training file."""
        return self.validation is not False and not isinstance(self.validation, str)

    @property
    def splits_test(self) -> bool:
        """Whether the test part comes out of the training file."""
        return self.test is not None and not isinstance(self.test, str)


class BackboneConfig(Strict):
    """The network under the head."""

    kind: Literal["text"] = setting("text", help="what the inputs are")
    path: str = setting(
        "sentence-transformers/all-MiniLM-L6-v2",
        help="a folder, a hub id, or 'pkg:PACKAGE' for weights that an installed package carries",
    )
    pooling: Literal["auto", "native", "cls", "mean", "max", "last"] = setting(
        "auto",
        help="how token features become one vector; auto follows the checkpoint, which was at or near the "
        "best of all in docs/defaults.md",
    )
    head: Literal["linear", "mlp"] = setting("linear", help="what stands on the pooled features")
    max_length: int = setting(256, help="texts are cut to this many tokens", unit="tokens", ge=2)
    dropout: Probability | None = setting(None, help="dropout in the backbone; absent keeps the checkpoint's")
    head_dropout: Probability = setting(0.1, help="dropout in front of the head")
    layers: int | None = setting(None, help="use only the first N transformer layers", ge=1)
    trust_remote_code: bool = setting(False, help="run code that the checkpoint carries")
    compact_vocabulary: bool = setting(
        True,
        help="train only the embedding rows that occur in the data: same result, half the optimizer's work",
    )

    @property
    def pretrained(self) -> bool:
        """Whether training starts from weights that were trained before."""
        return True


def _kind_of(value: Any) -> str:
    """The kind of a backbone's settings, as a table of the file or as a config."""
    kind: str = value.get("kind", "text") if isinstance(value, Mapping) else getattr(value, "kind", "text")
    return kind


AnyBackboneConfig = Annotated[
    Annotated[BackboneConfig, Tag("text")]
    | Annotated[TableBackboneConfig, Tag("table")]
    | Annotated[ImageBackboneConfig, Tag("image")]
    | Annotated[TreesBackboneConfig, Tag("trees")]
    | Annotated[LinearBackboneConfig, Tag("linear")],
    Discriminator(_kind_of),
]
"""The settings of a backbone of any kind."""


class TrainConfig(Strict):
    """How long, how large and how precise."""

    epochs: int = setting(5, help="passes over the training rows", ge=1)
    max_steps: int | None = setting(None, help="stop after this many optimizer steps", ge=1)
    batch_size: int = setting(32, help="rows in one optimizer step, over all devices", ge=1)
    micro_batch_size: int | None = setting(
        None, help="rows in one forward pass; saves memory and changes nothing else", ge=1
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting(
        "auto", help="auto is bf16 where the processor has it natively, else fp32"
    )
    evaluate_every: Time = setting(Time(1, "ep"), help="how often the validation part is scored")
    save_every: Time = setting(Time(1, "ep"), help="how often a checkpoint is written")
    keep_checkpoints: int = setting(2, help="how many checkpoints stay on disk", ge=1)
    log_every: Time = setting(Time(10, "st"), help="how often the training loss is logged")
    final: Literal["auto", "last", "best", "average"] = setting(
        "auto", help="the weights to keep; auto is the average where a technique makes one, else the last"
    )
    cache_features: bool = setting(True, help="compute features once while the backbone is frozen")


class RunSection(Strict):
    """Where the run's folder goes, and what is written there."""

    dir: str = setting("runs/latest", help="the run's folder; it must not hold another run")
    job: Literal["train", "pretrain"] = setting(
        "train", help="learn the labels, or learn from the inputs alone as 'etude pretrain' does"
    )
    score_test: bool = setting(
        True, help="score the test part at the end; false leaves it locked, for jobs of several runs"
    )
    baselines: bool = setting(
        True, help="fit the simple models that any run should beat, for the diagnosis and the report"
    )
    report: bool = setting(True, help="write report.html, the page that explains the run")
    resamples: int = setting(1000, help="bootstrap resamples behind each interval; 0 for none", ge=0)


class Config(Strict):
    """One run: the whole TOML file."""

    task: Literal["binary", "multiclass", "multilabel", "auto"] = setting(
        "auto", help="what is predicted; auto looks at the labels"
    )
    seed: int = setting(0, help="the seed of every random draw", ge=0)
    defaults: bool = setting(
        True, help="start from the recommended techniques; false starts from a bare loop"
    )
    data: DataConfig
    columns: ColumnsConfig = ColumnsConfig()
    backbone: AnyBackboneConfig = BackboneConfig()
    train: TrainConfig = TrainConfig()
    optimizer: dict[str, Any] = setting({}, help="name and settings of the optimizer")
    schedule: dict[str, Any] = setting({}, help="name and settings of the learning-rate schedule")
    loss: dict[str, Any] = setting({}, help="name and settings of the loss")
    techniques: dict[str, dict[str, Any]] = setting(
        {}, help="one table for each technique; enabled = false switches a default one off"
    )
    decision: DecisionConfig = DecisionConfig()
    pretrain: PretrainConfig = PretrainConfig()
    stages: list[dict[str, Any]] = setting(
        [], help="several runs in a row, each from the last one's model: name, job, and settings that differ"
    )
    run: RunSection = RunSection()

    @model_validator(mode="after")
    def _columns_are_read(self) -> Self:
        kind = self.backbone.kind
        if kind in ("text", "image") and self.columns != ColumnsConfig():
            raise ValueError(
                f"[columns] says what the columns of a table are and backbone.kind is '{kind}'; remove it, "
                "or set backbone.kind = 'table'"
            )
        return self
