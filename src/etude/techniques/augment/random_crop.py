"""Random crop: train on a part of each text, another one at every step.

Idea: a text says its label in more than one place. Seen through a window that moves, the model has to
find it wherever it stands, and sees each text in as many versions as there are windows.

Formula, for n words in a row (tokens that are no special ones) and the smallest share s, with draws
u, v in [0, 1):

* length of the window: k = max(1, round(n (s + u (1 - s))))
* its first word: a = floor(v (n - k + 1)); words a to a + k - 1 stay, the others go
* special tokens stay, in their order; each text of a pair has a window of its own

Paper: Krizhevsky et al. 2012 (NeurIPS), section 4.1, for images; on texts: Shen et al. 2020 (2009.13818),
span cutoff, which removes a span where this keeps one.

When it helps: long texts with more than one clue, little data, many epochs; texts that were cut off at
the model's longest length anyway.
When not: short texts; labels that hang on one word or on how a text ends.

Suggested values: s = 0.7, from 0.5 to 0.9.

Cost: less than 1 pass, since the texts are shorter. Features of a frozen backbone cannot be cached.

Clashes: none; it acts before examples are mixed.

NOTE[DIFF]: words between two special tokens are a stretch of their own, so that a tokenizer's token for
what it does not know divides a text.
"""

from __future__ import annotations

from typing import Literal, Protocol, cast

import numpy as np

from etude.config.fields import SearchRange, setting
from etude.core.batch import Batch
from etude.core.phases import AUGMENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.techniques._token_rows import Positions, real_tokens, rearranged, stretches, words_of


class RandomCropConfig(TechniqueConfig):
    """Settings of the random crop."""

    name: Literal["random_crop"] = "random_crop"
    smallest: float = setting(
        0.7,
        help="smallest share of a text's words that stays; 1 keeps all",
        gt=0.0,
        le=1.0,
        search=SearchRange(0.4, 1.0),
    )


class Tokens(Protocol):
    """What a backbone with the capability ``"tokens"`` knows of its vocabulary."""

    pad_token_id: int
    special_ids: tuple[int, ...]


def window(n_words: int, smallest: float, size: float, place: float) -> slice:
    """Return which of n words stay.

    Args:
        n_words: n, at least 1.
        smallest: s in (0, 1].
        size: u in [0, 1), 0 for the shortest window.
        place: v in [0, 1), 0 for the first window.

    Raises:
        ValueError: ``smallest`` is out of (0, 1].

    >>> window(10, 0.5, 0.2, 0.5)
    slice(2, 8, None)
    >>> window(10, 0.5, 0.0, 0.99)
    slice(5, 10, None)
    """
    if not 0.0 < smallest <= 1.0:
        raise ValueError(f"smallest is {smallest} and must lie in (0, 1]")
    kept = max(1, round(n_words * (smallest + size * (1.0 - smallest))))
    first = int(place * (n_words - kept + 1))
    return slice(first, first + kept)


class RandomCrop(Technique[RandomCropConfig]):
    """Keeps a window of the words of each text of a step."""

    Config = RandomCropConfig
    facts = Facts(
        family="augment",
        phase=AUGMENT,
        paper="Krizhevsky et al. 2012, NeurIPS; Shen et al. 2020, arXiv 2009.13818",
        needs=frozenset({"tokens"}),
        changes_inputs=True,
        neutral={"smallest": 1.0},
    )

    def attach(self, plan: Plan) -> None:
        smallest = self.config.smallest
        if smallest == 1.0:
            return
        tokens = cast("Tokens", plan.context.backbone)
        special_ids, pad_token_id = tokens.special_ids, tokens.pad_token_id

        def augment(batch: Batch, moment: Moment) -> Batch:
            draws = moment.numpy("random_crop")
            words, real = words_of(batch.inputs, special_ids), real_tokens(batch.inputs)
            rows: list[Positions] = []
            for i in range(len(batch)):
                kept = real[i] & ~words[i]
                for run in stretches(words[i]):
                    kept[run[window(len(run), smallest, draws.random(), draws.random())]] = True
                rows.append(np.flatnonzero(kept))
            return batch.replace(inputs=rearranged(batch.inputs, rows, pad_token_id))

        # Before techniques that exchange single tokens, which then need not look at what is cut off.
        plan.add(AUGMENT, augment, rank=-1)
