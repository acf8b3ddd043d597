"""Boosted trees and logistic regression: over the columns of a table, or over the words of texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from etude.config.estimators import EstimatorConfig, LinearBackboneConfig
from etude.config.run import BackboneConfig, Config
from etude.core.backbone import Backbone
from etude.core.examples import Examples
from etude.core.observe import Reporter
from etude.core.task import Task
from etude.data.load import Data
from etude.data.loader import Loader
from etude.data.numeric import read_numbers
from etude.data.table import Table
from etude.data.table_content import TableContent
from etude.data.tabular import FittedTable, TableLoader, build_table_examples
from etude.data.text import check_texts
from etude.data.texts import TextLoader
from etude.errors import ConfigError, DataError
from etude.estimators import make_estimator
from etude.estimators.backbone import EstimatorBackbone
from etude.estimators.base import Floats
from etude.estimators.examples import EstimatorExamples, terms_of
from etude.evaluation.tfidf import Tfidf
from etude.kinds.base import Kind, Saved, table_of

NAMES = ("trees", "linear")

_Optional = NDArray[np.float32] | None


def _text_examples(
    columns: Sequence[Sequence[str]],
    numbers: Floats,
    terms: Sequence[Tfidf],
    targets: _Optional = None,
    weights: _Optional = None,
) -> EstimatorExamples:
    n = len(numbers)
    return EstimatorExamples(
        numbers,
        torch.zeros(n, 0, dtype=torch.int64),
        torch.zeros(n, 0) if targets is None else torch.from_numpy(targets),
        torch.ones(n) if weights is None else torch.from_numpy(weights),
        terms=terms_of(terms, columns),
    )


def _table_examples(
    content: TableContent,
    fitted: FittedTable,
    terms: Sequence[Tfidf],
    targets: _Optional = None,
    weights: _Optional = None,
) -> EstimatorExamples:
    table = build_table_examples(content, fitted.scale, targets, weights)
    texts = [content.texts] if content.texts is not None else []
    return EstimatorExamples(
        table.raw_numbers,
        table.categories,
        table.targets,
        table.weights,
        terms=terms_of(terms, texts[: len(terms)]),
        numbers=table.numbers,
        number_names=table.number_names,
        category_names=table.category_names,
    )


@dataclass(frozen=True)
class FittedTexts:
    """What is kept of texts and the numbers beside them.

    Attributes:
        terms: the TF-IDF of the texts, and of the second ones.
        numeric: the columns of numbers.
        fill: whether a number may be missing.
    """

    terms: tuple[Tfidf, ...]
    numeric: tuple[str, ...]
    fill: bool

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; the terms are saved in a file of their own."""
        return {"numeric": list(self.numeric), "fill": self.fill}


@dataclass(frozen=True)
class FittedColumns:
    """What is kept of a table and the texts in it.

    Attributes:
        table: its columns and their categories.
        terms: the TF-IDF of its texts, where they are read.
    """

    table: FittedTable
    terms: tuple[Tfidf, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; the terms are saved in a file of their own."""
        return self.table.to_json()


class TermsLoader(TextLoader):
    """Reads texts and counts their words."""

    fitted: Any = None

    def __init__(self, config: Config, most_terms: int) -> None:
        super().__init__(config.data, BackboneConfig(), _no_tokenizer)
        self._most_terms = most_terms

    def fit(self, train: Any) -> None:
        data = self._data
        columns = [train.texts] if train.pairs is None else [train.texts, train.pairs]
        terms = tuple(Tfidf(texts, self._most_terms) for texts in columns)
        self.fitted = FittedTexts(terms, tuple(data.numeric), data.numeric_missing == "mean")

    def prepare(
        self,
        content: Any,
        targets: _Optional,
        weights: _Optional,
        reporter: Reporter,
        place: Callable[[int], str],
    ) -> Any:
        columns = [content.texts] if content.pairs is None else [content.texts, content.pairs]
        return _text_examples(columns, content.numbers, self.fitted.terms, targets, weights)

    def warnings(self, train: Any, examples: Any) -> list[str]:
        return []


class ColumnsLoader(TableLoader):
    """Reads tables, with the words of their texts where these are asked for."""

    fitted: Any = None

    def __init__(self, config: Config, most_terms: int | None) -> None:
        super().__init__(config, None if most_terms is None else _no_tokens)
        self._most_terms = most_terms

    def fit(self, train: Any) -> None:
        super().fit(train)
        reads = self._most_terms is not None and train.texts is not None
        terms = (Tfidf(train.texts, self._most_terms or 1),) if reads else ()
        self.fitted = FittedColumns(self.fitted, terms)

    def prepare(
        self,
        content: Any,
        targets: _Optional,
        weights: _Optional,
        reporter: Reporter,
        place: Callable[[int], str],
    ) -> Any:
        return _table_examples(content, self.fitted.table, self.fitted.terms, targets, weights)

    def warnings(self, train: Any, examples: Any) -> list[str]:
        return [note.replace("give [backbone.text] a path", 'use kind = "linear"') for note in
                super().warnings(train, examples)]  # fmt: skip


def _no_tokenizer() -> Any:
    raise RuntimeError("an estimator tokenizes no texts")


def _no_tokens(texts: list[str], reporter: Reporter, place: Callable[[int], str]) -> Examples:
    raise RuntimeError("an estimator tokenizes no texts")


class SavedEstimator(Saved):
    """A saved estimator."""

    backbone: EstimatorBackbone

    def __init__(self, folder: Path, schema: Mapping[str, Any]) -> None:
        super().__init__(EstimatorBackbone.load(folder), schema)
        self._table = FittedTable.from_json(schema["table"]) if schema.get("table") is not None else None
        self.thing = "row" if self._table is not None else "text"

    def examples(self, table: Table, reporter: Reporter, column: str | None = None) -> EstimatorExamples:
        terms = self.backbone.terms
        if self._table is not None:
            return _table_examples(self._table.content(table), self._table, terms)
        columns = [check_texts(table, column or self.schema["text"])]
        if self.schema["text_pair"]:
            columns.append(check_texts(table, self.schema["text_pair"]))
        told = self.schema["texts"]
        return _text_examples(columns, read_numbers(table, told["numeric"], fill=told["fill"]), terms)

    def examples_of(
        self, inputs: Sequence[Any], pairs: Sequence[str] | None, reporter: Reporter
    ) -> EstimatorExamples:
        """Prepare texts with their pairs, or rows as mappings from columns to cells."""
        if self._table is not None or any(isinstance(row, Mapping) for row in inputs):
            if pairs is not None:
                raise DataError("pairs stand beside rows; leave them out")
            return self.examples(table_of(inputs), reporter)
        columns = {self.schema["text"]: list(inputs)}
        if pairs is not None and self.schema["text_pair"]:
            columns[self.schema["text_pair"]] = list(pairs)
        return self.examples(Table("the list of texts", columns, range(len(inputs))), reporter)

    def refuse_teaching(self, data: Data, path: str) -> None:
        raise ConfigError(
            f"the teacher {path} is no network, and reads columns and words in a form of its own; use a "
            "teacher of this run's kind"
        )


class EstimatorKind(Kind):
    """Trees or logistic regression, for one run."""

    trained_by_steps = False

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._settings = cast("EstimatorConfig", config.backbone)

    @classmethod
    def open_saved(cls, folder: Path, metadata: Mapping[str, Any]) -> SavedEstimator:
        return SavedEstimator(folder, metadata["input"])

    def loader(self) -> Loader:
        settings = self._settings
        if not isinstance(settings, LinearBackboneConfig):
            return ColumnsLoader(self.config, None)
        if settings.inputs == "text":
            return TermsLoader(self.config, settings.max_terms)
        return ColumnsLoader(self.config, settings.max_terms)

    def backbone(self, task: Task, data: Data) -> EstimatorBackbone:
        estimator = make_estimator(self._settings, task.kind, task.n_classes)
        return EstimatorBackbone(estimator, data.fitted.terms)

    def schema(self, data: Data) -> dict[str, Any]:
        columns = self.config.data
        if isinstance(data.fitted, FittedTexts):
            return {
                "text": columns.text,
                "text_pair": columns.text_pair,
                "texts": data.fitted.to_json(),
            }
        return {"table": data.fitted.to_json()}

    def describe(self, backbone: Backbone) -> str:
        settings = self._settings
        if isinstance(settings, LinearBackboneConfig):
            strength = settings.strength if settings.strength == "auto" else f"{settings.strength:g}"
            return f"logistic regression of scikit-learn, penalty {settings.penalty}, C {strength}"
        return (
            f"boosted trees of {settings.library}, at most {settings.n_rounds} rounds of "
            f"{settings.max_leaves} leaves, learning rate {settings.learning_rate:g}"
        )


KIND = EstimatorKind
