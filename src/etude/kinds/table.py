"""Tables: networks over columns of numbers and categories, with a text backbone beside them for texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from etude.backbones.model_folder import METADATA
from etude.backbones.tabular.model import TEXT, TableBackbone
from etude.backbones.tabular.opening import load_saved_table, make_table_backbone
from etude.config.run import BackboneConfig, Config
from etude.config.tables import TableBackboneConfig, TextBesideConfig
from etude.core.backbone import Backbone
from etude.core.examples import Examples
from etude.core.observe import Reporter
from etude.core.phases import WARMUP
from etude.core.plan import Plan
from etude.core.task import Task
from etude.data.load import Data
from etude.data.table import Table
from etude.data.tabular import FittedTable, TableExamples, TableLoader, build_table_examples
from etude.data.text import build_text_examples
from etude.errors import ConfigError
from etude.kinds.base import Kind, Saved

NAMES = ("table",)

NO_TEXT = "."
"""What the text backbone reads where a row has no text."""


class SavedTable(Saved):
    """A saved table model."""

    backbone: TableBackbone

    def __init__(self, folder: Path, schema: Mapping[str, Any]) -> None:
        super().__init__(load_saved_table(folder), schema)
        self.fitted = FittedTable.from_json(schema["columns"])
        self._tokenizer = _saved_tokenizer(folder / TEXT) if self.backbone.text is not None else None

    def examples(self, table: Table, reporter: Reporter, column: str | None = None) -> TableExamples:
        content = self.fitted.content(table)
        texts = None
        if self._tokenizer is not None and content.texts is not None:
            length = self.schema["max_length"]
            texts = _tokenized(content.texts, self._tokenizer, length, reporter, table.line)
        return build_table_examples(content, self.fitted.scale, None, None, texts)

    def refuse_teaching(self, data: Data, path: str) -> None:
        if self.fitted.scale != data.fitted.scale:
            raise ConfigError(
                f"the teacher {path} reads columns that are others than this run's, or are scaled as its own "
                "training rows were; train it on this run's rows and columns"
            )


class TableKind(Kind):
    """Tables, for one run."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._settings = cast("TableBackboneConfig", config.backbone)
        self._tokenizer: Callable[[], Any] = cache(lambda: _tokenizer(self._beside))

    @property
    def _beside(self) -> TextBesideConfig:
        if self._settings.text is None:
            raise RuntimeError("there is no text backbone")
        return self._settings.text

    @classmethod
    def open_saved(cls, folder: Path, metadata: Mapping[str, Any]) -> SavedTable:
        return SavedTable(folder, metadata["input"])

    def loader(self) -> TableLoader:
        make_texts = None if self._settings.text is None else self._make_texts
        path = self._settings.path
        return TableLoader(self.config, make_texts, None if path is None else _fitted_of(Path(path)))

    def _make_texts(self, texts: Sequence[str], reporter: Reporter, place: Callable[[int], str]) -> Examples:
        return _tokenized(texts, self._tokenizer(), self._beside.max_length, reporter, place)

    def backbone(self, task: Task, data: Data) -> TableBackbone:
        train = cast("TableExamples", data.train)
        text, d_text = None, 0
        if self._settings.text is not None and train.texts is None:
            raise ConfigError(
                "[backbone.text] is there and the table has no column of text; remove it, or name the "
                "column in columns.text"
            )
        if train.texts is not None:
            text, d_text = _text_backbone(self._beside, task, self.config.seed, self._tokenizer())
        return make_table_backbone(
            self._settings,
            task,
            seed=self.config.seed,
            numbers=train.numbers.numpy(),
            cardinalities=tuple(train.cardinalities),
            text=text,
            d_text=d_text,
        )

    def doubts(self, backbone: Backbone, plan: Plan) -> list[str]:
        """Ask for a warm-up where norms stand behind the sums: Xiong et al. 2020, arXiv 2002.04745."""
        if not cast("TableBackbone", backbone).is_post_norm or plan.one(WARMUP) is not None:
            return []
        return [
            f"{self._settings.model} with post-norm diverges easily in its first steps and there is no "
            'warm-up; add [techniques.warmup], or set backbone.norm = "pre"'
        ]

    def schema(self, data: Data) -> dict[str, Any]:
        text = self._settings.text
        return {
            "columns": data.fitted.to_json(),
            "max_length": None if text is None else text.max_length,
        }

    def describe(self, backbone: Backbone) -> str:
        table = cast("TableBackbone", backbone)
        sizes, model = table.sizes, self._settings.model
        beside = "" if table.text is None else f", beside {self._beside.path}"
        return f"{model}, {sizes.n_numbers} numbers and {len(sizes.cardinalities)} categories{beside}"


KIND = TableKind


def _fitted_of(path: Path) -> FittedTable:
    """What a saved model knows of its columns: a network goes on with the numbers that it was trained on.

    Raises:
        ConfigError: there is no saved table model.
    """
    folder = path if (path / METADATA).is_file() else path / "model"
    try:
        return FittedTable.from_json(json.loads((folder / METADATA).read_text("utf-8"))["input"]["columns"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"backbone.path = '{path}' holds no saved table model ({type(error).__name__}: {error}); name a "
            "run's folder or its model/"
        ) from None


def _tokenized(
    texts: Sequence[str], tokenizer: Any, max_length: int, reporter: Reporter, place: Callable[[int], str]
) -> Examples:
    # A row may lack its text, and a tokenizer may make nothing of nothing.
    texts = [text or NO_TEXT for text in texts]
    return build_text_examples(texts, None, None, None, tokenizer, max_length, reporter, place=place)


# What reads texts imports transformers, which a table without texts does not need.


def _text_config(beside: TextBesideConfig, pooling: str | None = None) -> BackboneConfig:
    return BackboneConfig(
        path=beside.path,
        pooling=pooling or beside.pooling,
        max_length=beside.max_length,
        layers=beside.layers,
    )


def _tokenizer(beside: TextBesideConfig) -> Any:
    from etude.backbones.text import load_tokenizer

    return load_tokenizer(_text_config(beside))


def _saved_tokenizer(folder: Path) -> Any:
    from etude.backbones.text import load_saved_tokenizer

    return load_saved_tokenizer(folder)


def _text_backbone(beside: TextBesideConfig, task: Task, seed: int, tokenizer: Any) -> tuple[Backbone, int]:
    """The backbone of the texts and the width of its features."""
    from etude.backbones.text import load_text_backbone

    backbone = load_text_backbone(_text_config(beside), task, seed=seed, tokenizer=tokenizer)
    if backbone.pooling == "native":
        # An architecture's own pooling comes with its own head, and here both are joined to a table.
        pooling = "last" if backbone.decoder else "cls"
        backbone = load_text_backbone(_text_config(beside, pooling), task, seed=seed, tokenizer=tokenizer)
    return backbone, int(np.asarray(backbone.network.config.hidden_size))
