"""The loader of texts, with pairs and columns of numbers beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.config.numbers import NumberScale
from etude.config.run import BackboneConfig, DataConfig
from etude.core.observe import Reporter
from etude.data.duplicates import fold_text
from etude.data.loader import Loader, Rows
from etude.data.numeric import constant_columns, fit_scale, read_numbers
from etude.data.table import Table
from etude.data.text import TextExamples, build_text_examples, check_texts


@dataclass(frozen=True)
class TextContent:
    """N checked texts.

    Attributes:
        texts, pairs: (N,) the texts, and the second ones if there are any.
        numbers: (N, K) the numeric columns, NaN where a number is missing.
        table: where they come from.
    """

    texts: list[str]
    pairs: list[str] | None
    numbers: NDArray[np.float64]
    table: Table

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Rows) -> TextContent:
        """Some of the rows, in the order given."""
        chosen = rows.tolist()
        return TextContent(
            [self.texts[row] for row in chosen],
            None if self.pairs is None else [self.pairs[row] for row in chosen],
            self.numbers[rows],
            self.table,
        )

    def join(self, other: TextContent) -> TextContent:
        """These rows and others behind them."""
        return TextContent(
            self.texts + other.texts,
            None if self.pairs is None else self.pairs + (other.pairs or []),
            np.concatenate([self.numbers, other.numbers]),
            self.table,
        )

    def shown(self) -> list[str]:
        """The texts; second ones are kept apart."""
        return self.texts

    def fingerprints(self) -> list[str]:
        """The texts, but for case and white space."""
        texts = [fold_text(text) for text in self.texts]
        if self.pairs is None:
            return texts
        return [f"{a}\0{fold_text(b)}" for a, b in zip(texts, self.pairs, strict=True)]


class TextLoader(Loader):
    """Reads texts and tokenizes them.

    Args:
        data: the columns.
        backbone: how long texts may be.
        tokenizer: returns the Hugging Face tokenizer; called when the first part is prepared.
    """

    same = "the same text"
    fitted: NumberScale | None = None

    def __init__(self, data: DataConfig, backbone: BackboneConfig, tokenizer: Callable[[], Any]) -> None:
        self._data, self._backbone, self._tokenizer = data, backbone, tokenizer

    def read(self, table: Table) -> TextContent:
        data = self._data
        return TextContent(
            check_texts(table, data.text),
            None if data.text_pair is None else check_texts(table, data.text_pair),
            read_numbers(table, data.numeric, fill=data.numeric_missing == "mean"),
            table,
        )

    def fit(self, train: Any) -> None:
        data = self._data
        if data.numeric:
            fill = data.numeric_missing == "mean"
            self.fitted = fit_scale(train.table, data.numeric, train.numbers, fill=fill)

    def prepare(
        self,
        content: Any,
        targets: NDArray[np.float32] | None,
        weights: NDArray[np.float32] | None,
        reporter: Reporter,
        place: Callable[[int], str],
    ) -> TextExamples:
        build = partial(build_text_examples, content.texts, content.pairs, targets, weights)
        numbers = None if self.fitted is None else self.fitted.apply(content.numbers)
        length = self._backbone.max_length
        return build(self._tokenizer(), length, reporter, place=place, numbers=numbers)

    def warnings(self, train: Any, examples: Any) -> list[str]:
        found = [
            f"column {column!r} of data.numeric holds the same number in all training rows and tells "
            "nothing; remove it"
            for column in constant_columns(self._data.numeric, train.numbers)
        ]
        if examples.n_truncated:
            length = self._backbone.max_length
            cut = (
                f"{examples.n_truncated} of {len(examples)} training texts are longer than {length} tokens "
                "and are cut; raise backbone.max_length to use more of them"
            )
            return [cut, *found]
        return found
