"""Word edits: replace, insert, swap or delete a few words of a text, others at every step.

Idea: a text says much the same after a small edit, and its label stays. Four edits that need no
dictionary give as many versions of a text as there are steps (easy data augmentation, EDA).

Formula, for the n words of a text (tokens that are no special ones), the share α and m = max(1,
round(α n)); a text is edited with probability r, by one of the four, drawn evenly:

* replace: m words become one of their k nearest in the backbone's embeddings, by the cosine
* insert: m times, a word of the text is put before or behind another one
* swap: m times, two words change places
* delete: each word goes with probability α; one of them always stays

Paper: Wei and Zou 2019 (1901.11196), section 2.

When it helps: up to a few thousand short texts; small models from scratch gain 3 points with 500 texts
in the paper, and 0.8 with whole data sets.
When not: much data; labels that hang on the order of words or on a negation; well pretrained
transformers, which gain little (Longpre et al. 2020, 2010.01764).

Suggested values: α = 0.1, or 0.05 with fewer than 5,000 texts; r = 0.5, so that the model sees as many
texts as they are.

Cost: 1 pass; for replace, one more copy of the embedding table in memory and one search in it for each
word that is replaced for the first time. Features of a frozen backbone cannot be cached.

Clashes: none; it acts before examples are mixed.

NOTE[DIFF]: words are tokens. Their replacements are neighbours in the table of the checkpoint, as it was
before training, and not WordNet's synonyms; what is inserted is any word of the text itself. Texts stay
within the length of the batch, so that an insertion may push the last word out, as a tokenizer's limit
does. The paper writes 4 to 16 edited copies beside each text, once; here edits are drawn at each step.
"""

from __future__ import annotations

from typing import Literal, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from etude.config.fields import Probability, SearchRange, setting
from etude.core.backbone import Backbone
from etude.core.batch import Batch
from etude.core.phases import AUGMENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.techniques._token_rows import Positions, real_tokens, rearranged, stretches, words_of

Draws = np.random.Generator


class WordEditsConfig(TechniqueConfig):
    """Settings of the word edits."""

    name: Literal["word_edits"] = "word_edits"
    share: Probability = setting(
        0.1, help="share of a text's words that an edit touches", search=SearchRange(0.0, 0.3)
    )
    texts: Probability = setting(
        0.5, help="probability that a text is edited in a step", search=SearchRange(0.1, 1.0)
    )
    replace: bool = setting(True, help="whether words are replaced by their neighbours in the embeddings")
    insert: bool = setting(True, help="whether words of the text are inserted")
    swap: bool = setting(True, help="whether words are swapped")
    delete: bool = setting(True, help="whether words are deleted")
    neighbours: int = setting(5, help="how many neighbours a replacement is drawn from", unit="words", ge=1)


class Tokens(Protocol):
    """What a backbone with the capability ``"tokens"`` knows of its vocabulary."""

    pad_token_id: int
    special_ids: tuple[int, ...]


def inserted(row: Positions, words: Positions, n: int, room: int, draws: Draws) -> Positions:
    """Return a row with n of its words inserted anew, and the last words off where there is no room.

    Args:
        row: positions of all real tokens, special ones too.
        words: positions of the words among them, one stretch.
        n: how many are inserted.
        room: the length that must not be exceeded.
        draws: what is drawn from.

    >>> draws = np.random.default_rng(0)
    >>> inserted(np.arange(5), np.array([1, 2, 3]), 1, 8, draws).tolist()
    [0, 1, 2, 3, 2, 4]
    >>> inserted(np.arange(5), np.array([1, 2, 3]), 1, 5, draws).tolist()
    [0, 1, 2, 1, 4]
    """
    start = int(np.flatnonzero(row == words[0])[0])
    before, middle, after = row[:start], words, row[start + len(words) :]
    for _ in range(n):
        middle = np.insert(middle, draws.integers(len(middle) + 1), draws.choice(words))
    middle = middle[: max(room - len(before) - len(after), 0)]
    return np.concatenate([before, middle, after])


def swapped(row: Positions, words: Positions, n: int, draws: Draws) -> Positions:
    """Return a row in which, n times, two of the words have changed places; a lone word stays.

    >>> swapped(np.arange(4), np.array([1, 2]), 1, np.random.default_rng(0)).tolist()
    [0, 2, 1, 3]
    """
    if len(words) < 2:
        return row
    row, places = row.copy(), np.flatnonzero(np.isin(row, words))
    for _ in range(n):
        pair = draws.choice(places, 2, replace=False)
        row[pair] = row[pair[::-1]]
    return row


def deleted(row: Positions, words: Positions, share: float, draws: Draws) -> Positions:
    """Return a row without some of the words, each gone with probability ``share``; one always stays.

    >>> len(deleted(np.arange(12), np.arange(1, 11), 1.0, np.random.default_rng(0)))
    3
    """
    gone = draws.random(len(words)) < share
    if gone.all():
        gone[draws.integers(len(words))] = False
    return row[~np.isin(row, words[gone])]


def nearest(table: Tensor, ids: Tensor, k: int, *, never: Tensor) -> Tensor:
    """Return the k nearest other rows of each id's row by the cosine, nearest first: (n, k).

    Args:
        table: (V, D), rows of length 1.
        ids: (n,).
        k: at most V - 1 less those that never come.
        never: ids that are nobody's neighbour.

    >>> table = normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 0.3]]))
    >>> nearest(table, torch.tensor([0, 2]), 2, never=torch.tensor([1])).tolist()
    [[3, 2], [3, 0]]
    """
    cosines = table[ids] @ table.T
    cosines[:, never] = -torch.inf
    cosines[torch.arange(len(ids)), ids] = -torch.inf
    return cosines.topk(k, dim=1).indices


def vocabulary_size(backbone: Backbone) -> int:
    """Return the rows of the table that tokens are looked up in; not those of positions or segments.

    >>> from etude.testing.tiny import TinyTransformer
    >>> vocabulary_size(TinyTransformer(3))
    50
    """
    looked_up: list[int] = []

    def note(module: nn.Module, inputs: object, output: object) -> None:
        looked_up.append(int(getattr(module, "num_embeddings", 0)))

    device = next(backbone.parameters()).device
    hooks = [module.register_forward_hook(note) for module in backbone.modules()]
    try:
        with torch.no_grad():
            backbone.embed({"input_ids": torch.zeros(1, 1, dtype=torch.long, device=device)})
    finally:
        for hook in hooks:
            hook.remove()
    return max(looked_up)


class Neighbours:
    """The nearest words of each word in a backbone's token embeddings, found when asked for."""

    def __init__(self, backbone: Backbone, k: int, special_ids: tuple[int, ...]) -> None:
        device = next(backbone.parameters()).device
        tokens = torch.arange(vocabulary_size(backbone), device=device)
        with torch.no_grad():
            table = backbone.embed({"input_ids": tokens[None]})[0]
        self._table = normalize(table.detach().float().cpu(), dim=1)
        self._never = torch.tensor(special_ids)
        self._k = max(1, min(k, len(table) - len(special_ids) - 1))
        self._known: dict[int, list[int]] = {}

    def of(self, ids: list[int]) -> list[list[int]]:
        """The neighbours of some tokens, nearest first."""
        new = sorted(set(ids) - set(self._known))
        if new:
            found = nearest(self._table, torch.tensor(new), self._k, never=self._never)
            self._known.update(zip(new, found.tolist(), strict=True))
        return [self._known[i] for i in ids]

    def replaced(self, ids: Tensor, places: list[tuple[int, int]], draws: Draws) -> Tensor:
        """Return the ids (B, L) with a neighbour at each of the places (row, position)."""
        if not places:
            return ids
        rows, columns = (torch.tensor(axis) for axis in zip(*places, strict=True))
        # All of a step's words at once, since each search reads the whole table.
        options = self.of(ids[rows, columns].tolist())
        found = torch.tensor([near[draws.integers(len(near))] for near in options])
        return ids.index_put((rows, columns), found.to(ids.device))


class WordEdits(Technique[WordEditsConfig]):
    """Edits some texts of a step."""

    Config = WordEditsConfig
    facts = Facts(
        family="augment",
        phase=AUGMENT,
        paper="Wei and Zou 2019, arXiv 1901.11196",
        needs=frozenset({"tokens"}),
        changes_inputs=True,
        neutral={"share": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        config = self.config
        edits = [name for name in ("replace", "insert", "swap", "delete") if getattr(config, name)]
        if config.share == 0.0 or config.texts == 0.0 or not edits:
            return
        backbone = plan.context.backbone
        tokens = cast("Tokens", backbone)
        special_ids, pad_token_id = tokens.special_ids, tokens.pad_token_id
        # The table of before training: a resumed run must find the same neighbours.
        near = Neighbours(backbone, config.neighbours, special_ids) if config.replace else None

        def augment(batch: Batch, moment: Moment) -> Batch:
            draws = moment.numpy("word_edits")
            words, real = words_of(batch.inputs, special_ids), real_tokens(batch.inputs)
            rows = [np.flatnonzero(row) for row in real]
            ids, places = batch.inputs["input_ids"], list[tuple[int, int]]()
            for i, runs in enumerate(map(stretches, words)):
                if draws.random() >= config.texts or not runs:
                    continue
                run, edit = _one_of(runs, draws), edits[draws.integers(len(edits))]
                n = max(1, round(config.share * len(run)))
                if edit == "replace":
                    places += [(i, int(at)) for at in draws.choice(run, n, replace=False)]
                elif edit == "insert":
                    rows[i] = inserted(rows[i], run, n, ids.shape[1], draws)
                elif edit == "swap":
                    rows[i] = swapped(rows[i], run, n, draws)
                else:
                    rows[i] = deleted(rows[i], run, config.share, draws)
            if near is not None:
                ids = near.replaced(ids, places, draws)
            return batch.replace(inputs=rearranged({**batch.inputs, "input_ids": ids}, rows, pad_token_id))

        # After techniques that mask tokens, which must find a text's words in their places.
        plan.add(AUGMENT, augment, rank=1)


def _one_of(runs: list[Positions], draws: Draws) -> Positions:
    """One text of a pair, or one stretch of a text; longer ones are drawn more often."""
    lengths = np.array([len(run) for run in runs])
    return runs[draws.choice(len(runs), p=lengths / lengths.sum())]
