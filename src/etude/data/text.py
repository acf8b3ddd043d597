"""Text examples: tokenized once into flat arrays, padded in one operation when they are asked for.

Tokens of all texts stand end to end in one array, with the offset where each text begins: no Python
object for each text, and a batch is one fancy index. Shapes: N examples, B rows of a batch, L tokens
of the longest of them, T tokens in all, C classes, K columns of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from etude.core.observe import Reporter
from etude.data.table import Table
from etude.errors import ConfigError, DataError

_BATCH = 1024
"""Texts handed to the tokenizer at once: enough for its threads, little enough for a live bar."""


class TextExamples:
    """N tokenized texts with their targets and weights.

    Attributes:
        targets: (N, C) float32.
        weights: (N,) float32.
        lengths: (N,) int64, tokens of each text, special tokens counted.
        numbers: (N, K) float32, standardised numbers beside the texts, or none.
        n_truncated: how many texts were cut to the greatest length.
    """

    def __init__(
        self,
        tokens: NDArray[np.int32],
        types: NDArray[np.int32] | None,
        lengths: NDArray[np.int64],
        targets: Tensor,
        weights: Tensor,
        *,
        pad_id: int,
        pad_left: bool,
        n_truncated: int,
        numbers: Tensor | None = None,
    ) -> None:
        """Take T tokens and their types in one row of texts; see :func:`build_text_examples`."""
        # The last element of each flat array is the padding, so that index -1 means "pad".
        self._tokens = np.append(tokens, np.int32(pad_id))
        self._types = None if types is None or not types.any() else np.append(types, np.int32(0))
        self._offsets = np.concatenate([[0], np.cumsum(lengths)])
        self._pad_left = pad_left
        self.lengths = lengths
        self.targets = targets
        self.weights = weights
        self.numbers = numbers
        self.n_truncated = n_truncated

    def __len__(self) -> int:
        return len(self.lengths)

    def tokens_of(self, row: int) -> NDArray[np.int32]:
        """The tokens of one text, unpadded."""
        return self._tokens[self._offsets[row] : self._offsets[row + 1]]

    @property
    def vocabulary(self) -> NDArray[np.int64]:
        """The distinct token ids that occur, the padding's included, ascending."""
        return np.unique(self._tokens).astype(np.int64)

    def inputs(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return ``input_ids``, ``attention_mask``, ``token_type_ids`` if any is not zero, and ``numbers``.

        Args:
            rows: (B,) ids of rows.

        Returns:
            Tensors (B, L) of int64, padded on the tokenizer's side to the longest of the rows; the numbers
            are (B, K) of float32.
        """
        lengths = self.lengths[rows]
        longest = int(lengths.max(initial=0))
        column = np.arange(longest)
        first = (longest - lengths if self._pad_left else np.zeros_like(lengths))[:, None]
        real = (column >= first) & (column < first + lengths[:, None])
        index = np.where(real, self._offsets[rows][:, None] + column - first, -1)
        inputs = {"input_ids": self._tokens[index], "attention_mask": real}
        if self._types is not None:
            inputs["token_type_ids"] = self._types[index]
        found = {name: torch.from_numpy(value.astype(np.int64)) for name, value in inputs.items()}
        return found if self.numbers is None else found | {"numbers": self.numbers[torch.from_numpy(rows)]}


def check_texts(table: Table, column: str) -> list[str]:
    """Return the texts of a column once all of them are texts.

    Raises:
        DataError: a text is null, no string, empty, only white space, or no valid Unicode; names the
            file, the row and the column.
    """
    texts = table.column(column)
    for row, text in enumerate(texts):
        if text is None:
            fault = "has no text"
        elif not isinstance(text, str):
            fault = f"holds {text!r}, which is no text"
        elif not text or text.isspace():
            fault = "has an empty text"
        elif not text.isascii() and _has_surrogate(text):
            fault = "holds half of a surrogate pair, which is no Unicode text"
        else:
            continue
        raise DataError(f"{table.line(row, column)} {fault}; write a text there, or remove the row")
    return texts


def _has_surrogate(text: str) -> bool:
    """Whether the text holds what UTF-8 cannot write (a broken emoji in JSON, mostly)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def build_text_examples(
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    targets: NDArray[np.float32] | None,
    weights: NDArray[np.float32] | None,
    tokenizer: Any,
    max_length: int,
    reporter: Reporter,
    *,
    place: Callable[[int], str] = "text {}".format,
    numbers: NDArray[np.float32] | None = None,
) -> TextExamples:
    """Tokenize N texts.

    Args:
        texts: (N,) the texts.
        pairs: (N,) second texts, or none.
        targets: (N, C), or none for examples without labels.
        weights: (N,), or none for ones.
        tokenizer: a Hugging Face tokenizer; its padding side, padding token and truncation side hold.
        max_length: longer texts are cut to this many tokens, special ones counted.
        reporter: shows a bar.
        place: names a row in an error.
        numbers: (N, K) standardised numbers beside the texts, or none.

    Raises:
        ConfigError: the tokenizer has no padding token, or ``max_length`` has no room for a text.
        DataError: a text gives no token at all.
    """
    if tokenizer.pad_token_id is None:
        raise ConfigError("the tokenizer has no padding token; set tokenizer.pad_token")
    n_special = tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    if max_length <= n_special:
        raise ConfigError(
            f"backbone.max_length is {max_length} and the tokenizer adds {n_special} special tokens; give at "
            f"least {n_special + 1}"
        )
    tokens, types, lengths, n_truncated = _tokenize(texts, pairs, tokenizer, max_length, reporter)
    if not lengths.all():
        row = int(np.flatnonzero(lengths == 0)[0])
        raise DataError(
            f"{place(row)} gives no token ({texts[row]!r}); write a text there, or remove the row"
        )
    n = len(texts)
    return TextExamples(
        tokens,
        types,
        lengths,
        torch.from_numpy(np.zeros((n, 0), np.float32) if targets is None else targets),
        torch.from_numpy(np.ones(n, np.float32) if weights is None else weights),
        pad_id=tokenizer.pad_token_id,
        pad_left=tokenizer.padding_side == "left",
        n_truncated=n_truncated,
        numbers=None if numbers is None else torch.from_numpy(numbers),
    )


_Encoded = tuple[list[list[int]], list[list[int]] | None, int]
"""Tokens of each text, their types if the model takes any, and how many texts were cut."""


def _tokenize(
    texts: Sequence[str], pairs: Sequence[str] | None, tokenizer: Any, max_length: int, reporter: Reporter
) -> tuple[NDArray[np.int32], NDArray[np.int32] | None, NDArray[np.int64], int]:
    """Return tokens (T,), their types (T,) or none, lengths (N,) and the number of cut texts."""
    encode = (
        _fast_encoder(tokenizer, max_length) if tokenizer.is_fast else _slow_encoder(tokenizer, max_length)
    )
    tokens: list[NDArray[np.int32]] = [np.zeros(0, np.int32)]
    types: list[NDArray[np.int32]] = [np.zeros(0, np.int32)]
    lengths = np.zeros(len(texts), dtype=np.int64)
    n_truncated = 0
    with reporter.bar("Tokenizing", len(texts), "texts") as bar:
        for start in range(0, len(texts), _BATCH):
            stop = min(start + _BATCH, len(texts))
            batch_pairs = None if pairs is None else pairs[start:stop]
            ids, type_ids, cut = encode(texts[start:stop], batch_pairs)
            lengths[start:stop] = [len(row) for row in ids]
            tokens.append(np.fromiter(chain.from_iterable(ids), np.int32))
            if type_ids is not None:
                types.append(np.fromiter(chain.from_iterable(type_ids), np.int32))
            n_truncated += cut
            bar.advance(stop - start)
    flat, flat_types = np.concatenate(tokens), np.concatenate(types)
    return flat, flat_types if len(flat_types) == len(flat) else None, lengths, n_truncated


def _fast_encoder(
    tokenizer: Any, max_length: int
) -> Callable[[Sequence[str], Sequence[str] | None], _Encoded]:
    """Encode with the Rust tokenizer itself: the Python layer over it takes as long again."""
    backend = tokenizer.backend_tokenizer
    takes_types = "token_type_ids" in tokenizer.model_input_names

    def encode(texts: Sequence[str], pairs: Sequence[str] | None) -> _Encoded:
        # Other callers of the same tokenizer set these, so we set them each time.
        backend.no_padding()
        backend.enable_truncation(max_length, direction=tokenizer.truncation_side)
        batch = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        encodings = backend.encode_batch_fast(batch)
        ids = [encoding.ids for encoding in encodings]
        types = [encoding.type_ids for encoding in encodings] if takes_types else None
        n_cut = sum(
            bool(encoding.overflowing)
            for row, encoding in zip(ids, encodings, strict=True)
            if len(row) == max_length
        )
        return ids, types, n_cut

    return encode


def _slow_encoder(
    tokenizer: Any, max_length: int
) -> Callable[[Sequence[str], Sequence[str] | None], _Encoded]:
    """Encode with a tokenizer that is written in Python, such as those of byte models."""

    def encode(texts: Sequence[str], pairs: Sequence[str] | None) -> _Encoded:
        batch = (list(texts),) if pairs is None else (list(texts), list(pairs))
        encoded = tokenizer(*batch, truncation=True, max_length=max_length)
        full = [row for row, ids in enumerate(encoded["input_ids"]) if len(ids) == max_length]
        whole = [tokenizer(*(part[row] for part in batch), verbose=False)["input_ids"] for row in full]
        n_cut = sum(len(ids) > max_length for ids in whole)
        return encoded["input_ids"], encoded.get("token_type_ids"), n_cut

    return encode
