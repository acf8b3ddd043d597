"""Heads and poolers against torch's and scikit-learn's own, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import ClassifierChain as TheirChain
from torch import Tensor, nn
from torch.nn import functional as F

from etude.parts.attention_pooling import pool_by_scores
from etude.parts.classifier_chain import follow_chain
from etude.parts.cnn_head import max_over_time
from etude.parts.label_embedding import scaled_cosine
from etude.parts.layer_pooling import mix_layers
from etude.parts.transformer_head import EncoderLayer
from etude.techniques.heads.cnn_head import cnn_pooler
from etude.techniques.heads.rnn_head import rnn_pooler
from etude.techniques.heads.transformer_head import transformer_pooler

LENGTHS = (5, 2, 4)


def rows() -> Iterator[tuple[str, str, float]]:
    """Yield technique, reference, and the largest absolute difference in float64."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 5, 8, generator=generator, dtype=torch.float64)
    mask = torch.arange(5)[None] < torch.tensor(LENGTHS)[:, None]
    yield "attention_pooling", "each text alone, token by token", _attention(hidden, mask, generator)
    yield "layer_pooling", "Σ softmax(w) h, layer by layer", _layers(generator)
    yield "cnn_head", "torch.nn.functional.conv1d of each text alone", _cnn(hidden, mask)
    yield "rnn_head", "torch.nn.LSTM of each text alone", _rnn(hidden, mask)
    yield "transformer_head", "torch.nn.TransformerEncoderLayer", _transformer(hidden, mask)
    texts, labels = (torch.randn(9, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    cosines = 7.5 * F.cosine_similarity(texts[:, None], labels[None], dim=2)
    found = scaled_cosine(texts, labels, torch.tensor(7.5, dtype=torch.float64))
    yield "label_embedding", "torch.nn.functional.cosine_similarity", _apart(found, cosines)
    for hard, method in ((True, "predict"), (False, "predict_proba")):
        told = f"sklearn.multioutput.ClassifierChain, chain_method = '{method}'"
        yield "classifier_chain", told, _chain(hard=hard, method=method)


def _attention(hidden: Tensor, mask: Tensor, generator: torch.Generator) -> float:
    scores = torch.randn(3, 5, 2, generator=generator, dtype=torch.float64)
    expected = torch.zeros(3, 8, dtype=torch.float64)
    for b, length in enumerate(LENGTHS):
        for j in range(2):
            weights = scores[b, :length, j].exp()
            for token, weight in zip(hidden[b], weights / weights.sum(), strict=False):
                expected[b, 4 * j : 4 * j + 4] += weight * token[4 * j : 4 * j + 4]
    return _apart(pool_by_scores(hidden, scores, mask), expected)


def _layers(generator: torch.Generator) -> float:
    layers = [torch.randn(2, 6, generator=generator, dtype=torch.float64) for _ in range(4)]
    weights = torch.randn(4, generator=generator, dtype=torch.float64)
    shares = weights.exp() / weights.exp().sum()
    expected = shares[0] * layers[0] + shares[1] * layers[1] + shares[2] * layers[2] + shares[3] * layers[3]
    return _apart(mix_layers(layers, weights), expected)


def _cnn(hidden: Tensor, mask: Tensor) -> float:
    filters = cast("nn.Conv1d", cnn_pooler(8, windows=[3], filters=6).double().filters[0])
    expected = []
    for text, length in zip(hidden, LENGTHS, strict=True):
        padded = torch.cat([text[:length], text.new_zeros(2, 8)]).T[None]
        expected.append(F.conv1d(padded, filters.weight, filters.bias).relu().amax(dim=2))
    return _apart(max_over_time(hidden, mask, filters), torch.cat(expected))


def _rnn(hidden: Tensor, mask: Tensor) -> float:
    pooler = rnn_pooler(8, cell="lstm", tokens="max").double().eval()
    expected = []
    for text, length in zip(hidden, LENGTHS, strict=True):
        states, _ = pooler.cells(text[None, :length])
        expected.append(pooler.out(states.amax(dim=1)))
    return _apart(pooler([hidden], mask), torch.cat(expected))


def _transformer(hidden: Tensor, mask: Tensor) -> float:
    pooler = transformer_pooler(8, heads=2, hidden=12, dropout=0.0).double()
    mine = cast("EncoderLayer", pooler.layers[0])
    theirs = nn.TransformerEncoderLayer(
        8, 2, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).double()
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(mine.query_key_value.weight)
        theirs.self_attn.in_proj_bias.copy_(mine.query_key_value.bias)
    theirs.self_attn.out_proj.load_state_dict(mine.attention_out.state_dict())
    theirs.linear1.load_state_dict(mine.dense.state_dict())
    theirs.linear2.load_state_dict(mine.out.state_dict())
    return _apart(mine(hidden, mask)[mask], theirs(hidden, src_key_padding_mask=~mask)[mask])


def _chain(*, hard: bool, method: str) -> float:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 4))
    first = x[:, 0] + rng.standard_normal(100) > 0
    y = np.stack([first, first ^ (x[:, 1] > 0.5), (x[:, 2] > 0) | first], axis=1).astype(int)
    order = [2, 0, 1]
    theirs = TheirChain(LogisticRegression(), order=order, chain_method=method).fit(x, y)
    base, dependence = np.zeros((100, 3)), np.zeros((3, 3))
    for place, (c, fitted) in enumerate(zip(order, theirs.estimators_, strict=True)):
        base[:, c] = x @ fitted.coef_[0, :4] + fitted.intercept_[0]
        dependence[c, order[:place]] = fitted.coef_[0, 4:]
    found = follow_chain(torch.from_numpy(base), torch.from_numpy(dependence), order, hard=hard)
    return _apart(torch.sigmoid(found), torch.from_numpy(theirs.predict_proba(x)))


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).detach().abs().max())
