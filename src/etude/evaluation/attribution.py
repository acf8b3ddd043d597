"""Attribution: how much each token, and each word, speaks for a label or against it.

* Integrated gradients (Sundararajan et al. 2017, 1703.01365) walk on a straight line from the embedding of
  an empty text to that of the text and add up the score's slopes on the way, here at the points of
  Gauss-Legendre quadrature. Completeness (their proposition 1): the attributions add up to the difference
  of the score between the two texts; what the sum misses is the error of the quadrature.
* Gradient x input (Shrikumar et al. 2016, 1605.01713) takes the slope at the text alone: one pass instead
  of fifty, less exact, and nothing adds up.

Both are captum's. The score is the label's log-odds, ``log p / (1 - p)``: the logit itself where labels
stand for themselves, the difference of the logits of two classes, and of many the logit less the
log-sum-exp of the others. A raw logit of a softmax would not do: all of them may move together and change
no probability.

NOTE[DIFF]: the paper leaves the empty text open. Here it has the same special tokens, every other token is
the padding (or the mask) token, and all of them are attended to, so that only the words are taken away.

Shapes: B texts (one, or points on its line), L tokens, D width, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from etude.core.backbone import Backbone
from etude.core.task import Task
from etude.evaluation.writing import joined
from etude.extras import require

Method = Literal["integrated_gradients", "gradient_x_input"]

Empty = Literal["pad", "mask"]
"""What stands in the place of each word in the empty text."""

TOKENS_AT_ONCE = 1024
"""Tokens of one forward and backward pass over points on the line."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text with what its tokens add to the score.

    Attributes:
        text: as it stands in the text.
        start, end: its characters in the text.
        attribution: the sum over its tokens, in log-odds; above 0 it speaks for the label.
    """

    text: str
    start: int
    end: int
    attribution: float


@dataclass(frozen=True, slots=True)
class Passage:
    """A text (or the second one of a pair) with its words.

    Attributes:
        text: the whole text.
        start, end: the characters that the model read; the rest was cut.
        words: in the text's order.
    """

    text: str
    start: int
    end: int
    words: list[Word]

    @property
    def n_cut(self) -> int:
        """Characters that the model did not read."""
        return len(self.text) - (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Interpretation:
    """What speaks for one label of one text.

    Attributes:
        label: the label in question.
        predicted: the labels that the model gives.
        probability: the label's, calibrated.
        passages: the text, and the second one of a pair.
        method: how the attributions were found.
        steps: points on the line.
        score: the label's log-odds for the text, before calibration.
        empty_score: the same for the empty text.
        special: what the special tokens add.
        error: by how much the sum of all attributions misses ``score - empty_score``; None for gradient x
            input, which promises no sum.
    """

    label: str
    predicted: list[str]
    probability: float
    passages: list[Passage]
    method: Method
    steps: int
    score: float
    empty_score: float
    special: float
    error: float | None

    @property
    def words(self) -> list[Word]:
        """The words of all passages, in their order."""
        return [word for passage in self.passages for word in passage.words]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Attribution:
    """What each token of one text adds to the score.

    Attributes:
        values: (L,).
        score: of the text.
        empty_score: of the empty text.
    """

    values: Tensor
    score: float
    empty_score: float

    @property
    def error(self) -> float:
        """By how much the values miss the difference of the scores."""
        return float(self.values.sum()) - (self.score - self.empty_score)


def log_odds(task: Task, logits: Tensor, column: int) -> Tensor:
    """Return the log-odds (B,) of the label ``column`` from logits (B, C).

    >>> from etude.core.task import Multiclass
    >>> logits = torch.tensor([[0.6, 0.3, 0.1]]).log()
    >>> round(float(log_odds(Multiclass(["a", "b", "c"]), logits, 0).exp()), 4)  # 0.6 to 0.4
    1.5
    """
    if task.kind == "multilabel":
        return logits[:, column]
    others = [c for c in range(logits.shape[1]) if c != column]
    return logits[:, column] - logits[:, others].logsumexp(dim=1)


def attribute(
    backbone: Backbone,
    inputs: Mapping[str, Tensor],
    empty_ids: Tensor,
    score: Callable[[Tensor], Tensor],
    *,
    method: Method = "integrated_gradients",
    steps: int = 50,
    advance: Callable[[int], None] | None = None,
) -> Attribution:
    """Attribute the score of one text to its tokens.

    Args:
        backbone: in evaluation mode; it must be able to ``embed``.
        inputs: of one text, (1, L) each and whatever else the backbone takes, with one row.
        empty_ids: (1, L), the token ids of the empty text.
        score: from logits (B, C) to the score (B,).
        method: see the module.
        steps: points on the line, for integrated gradients.
        advance: told of every few points that were passed; there are ``steps + 2``, or 3.

    Raises:
        ConfigError: captum is not installed.
    """
    captum = require("captum.attr", extra="interpret", technique="etude interpret")

    def forward(embedding: Tensor) -> Tensor:
        n_points = len(embedding)
        given = {name: value.expand(n_points, *value.shape[1:]) for name, value in inputs.items()}
        points = score(backbone.head(backbone.features_from(embedding, given)))
        if advance is not None:
            advance(n_points)
        return points

    with torch.no_grad():
        embedding = backbone.embed(inputs)
        empty = backbone.embed({**inputs, "input_ids": empty_ids})
        scores = [float(forward(point)) for point in (embedding, empty)]
    embedding.requires_grad_()
    if method == "gradient_x_input":
        values = captum.InputXGradient(forward).attribute(embedding)
    else:
        at_once = max(1, TOKENS_AT_ONCE // embedding.shape[1])
        integrated = captum.IntegratedGradients(forward)
        values = integrated.attribute(embedding, empty, n_steps=steps, internal_batch_size=at_once)
    return Attribution(values.detach().sum(dim=-1)[0].double().cpu(), *scores)


def words_of(text: str, spans: Sequence[tuple[int, int]], values: Sequence[float]) -> list[Word]:
    """Merge tokens into words of the text.

    A token continues the word before it where the two touch inside a word: between letters or digits of a
    script that writes spaces, inside ``don't``, before a combining mark, and inside an emoji that is made of
    several characters or tokens. Everything else is a word of its own.

    Args:
        text: what was tokenized.
        spans: (L,) the characters of each token, in the text's order; white space around them is left out.
        values: (L,) what each token adds.

    >>> words = words_of("un|do it", [(0, 2), (2, 3), (3, 5), (6, 8)], [1.0, 0.5, 2.0, 4.0])
    >>> [(word.text, word.attribution) for word in words]
    [('un', 1.0), ('|', 0.5), ('do', 2.0), ('it', 4.0)]
    >>> [(word.text, word.attribution) for word in words_of("undo", [(0, 2), (2, 4)], [1.0, 2.0])]
    [('undo', 3.0)]
    """
    found: list[Word] = []
    ahead = 0.0
    for (first, last), value in zip(spans, values, strict=True):
        start, end = _trimmed(text, first, last)
        if start == end:  # a token that stands for no character: a part of the word before it
            if found:
                found[-1] = replace(found[-1], attribution=found[-1].attribution + value)
            else:
                ahead += value
            continue
        if found and (start < found[-1].end or (start == found[-1].end and joined(text, start))):
            before = found.pop()
            start, end, value = before.start, max(end, before.end), value + before.attribution
        found.append(Word(text[start:end], start, end, value + ahead))
        ahead = 0.0
    return found


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A span without the white space at its ends; one of nothing but white space stays as it is."""
    piece = text[start:end]
    if not piece.strip():
        return start, end
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
