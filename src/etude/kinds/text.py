"""Texts: encoders and decoders over tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from etude.backbones.model import TextBackbone
from etude.backbones.text import load_saved, load_saved_tokenizer, load_text_backbone, load_tokenizer
from etude.config.run import Config
from etude.core.backbone import Backbone
from etude.core.groups import describe_parameters
from etude.core.observe import Reporter
from etude.core.phases import GROUPS, OPTIMIZER
from etude.core.plan import Plan
from etude.core.task import Task
from etude.data.load import Data
from etude.data.numeric import read_numbers
from etude.data.table import Table
from etude.data.text import TextExamples, build_text_examples, check_texts
from etude.data.texts import TextLoader
from etude.errors import ConfigError, DataError
from etude.kinds.base import Kind, Saved, table_of

NAMES = ("text",)


class SavedText(Saved):
    """A saved text model."""

    backbone: TextBackbone
    thing = "text"

    def __init__(self, folder: Path, schema: Mapping[str, Any]) -> None:
        super().__init__(load_saved(folder), schema)
        self._tokenizer = load_saved_tokenizer(folder)

    def examples(self, table: Table, reporter: Reporter, column: str | None = None) -> TextExamples:
        texts = check_texts(table, column or self.schema["text"])
        pairs = check_texts(table, self.schema["text_pair"]) if self.schema["text_pair"] else None
        scale, numbers = self.backbone.scale, None
        if scale is not None:
            numbers = scale.apply(read_numbers(table, scale.columns, fill=scale.fill))
        return self._build(texts, pairs, numbers, reporter, table.line)

    def examples_of(
        self, inputs: Sequence[Any], pairs: Sequence[str] | None, reporter: Reporter
    ) -> TextExamples:
        """Prepare texts, or rows as mappings, of which one is enough to make all of them rows."""
        if any(isinstance(row, Mapping) for row in inputs):
            if pairs is not None:
                raise DataError(
                    "pairs stand beside rows, which hold their second texts themselves; leave pairs out"
                )
            return self.examples(table_of(inputs), reporter)
        scale = self.backbone.scale
        if scale is not None:
            example = ", ".join(f"{name!r}: ..." for name in (self.schema["text"], *scale.columns))
            raise DataError(
                f"this model reads {', '.join(scale.columns)} beside the text and was given texts alone; "
                f"give rows as {{{example}}}"
            )
        return self._build(inputs, pairs, None, reporter, "text {}".format)

    def _build(
        self,
        texts: Sequence[Any],
        pairs: Sequence[str] | None,
        numbers: NDArray[np.float32] | None,
        reporter: Reporter,
        place: Callable[[int], str],
    ) -> TextExamples:
        for row, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"{place(row)} is {text!r}; a text that is not empty is expected")
        length = self.schema["max_length"]
        return build_text_examples(
            texts, pairs, None, None, self._tokenizer, length, reporter, place=place, numbers=numbers
        )

    def refuse_teaching(self, data: Data, path: str) -> None:
        scale = self.backbone.scale
        if scale not in (None, data.fitted):
            raise ConfigError(
                f"the teacher {path} reads {', '.join(scale.columns)} beside the text, scaled as its own "
                "training rows were; train it on this run's rows and data.numeric, or on the text alone"
            )


class TextKind(Kind):
    """Texts, for one run; the tokenizer is opened once."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._settings: Any = config.backbone
        self.tokenizer: Callable[[], Any] = cache(lambda: load_tokenizer(self._settings))

    @classmethod
    def open_saved(cls, folder: Path, metadata: Mapping[str, Any]) -> SavedText:
        return SavedText(folder, metadata["input"])

    def loader(self) -> TextLoader:
        return TextLoader(self.config.data, self._settings, self.tokenizer)

    def backbone(self, task: Task, data: Data) -> TextBackbone:
        return load_text_backbone(
            self._settings, task, seed=self.config.seed, tokenizer=self.tokenizer(), scale=data.fitted
        )

    def before_training(self, backbone: Backbone, data: Data, plan: Plan) -> None:
        """Train only the embedding rows that occur, where the result is the same."""
        if not (self._settings.compact_vocabulary and _embeddings_without_decay(plan)):
            return
        # The test part's words are left out too: a wider table would round sums differently, and with
        # them the weights. Tokens outside of the table are read from its copy, with the same result.
        parts = [part for part in (data.pool, data.validation) if isinstance(part, TextExamples)]
        cast("TextBackbone", backbone).compact(np.unique(np.concatenate([p.vocabulary for p in parts])))

    def schema(self, data: Data) -> dict[str, Any]:
        columns = self.config.data
        return {
            "text": columns.text,
            "text_pair": columns.text_pair,
            "numeric": None if data.fitted is None else data.fitted.to_json(),
            "max_length": self._settings.max_length,
        }

    def describe(self, backbone: Backbone) -> str:
        return f"{self._settings.path}, pooling {cast('TextBackbone', backbone).pooling}"


KIND = TextKind


def _embeddings_without_decay(plan: Plan) -> bool:
    """Whether embedding rows that never occur stay as they are, so that they may be left out.

    Weight decay would shrink them, and an average or a perturbation of zero gradients leaves them.
    """
    spec = plan.one(OPTIMIZER)
    embeddings = [p for p in describe_parameters(plan.context.backbone) if p.in_embedding]
    ruled = all(any(rule(p).no_decay for rule in plan.many(GROUPS)) for p in embeddings)
    return spec is not None and (spec.weight_decay == 0 or ruled)
