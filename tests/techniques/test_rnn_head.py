"""The RNN head against torch's cells, step by step in both directions."""

import pytest
import torch
from torch import nn

from etude.techniques.heads.rnn_head import rnn_pooler


@pytest.mark.parametrize("tokens", ["last", "mean", "max"])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_by_single_steps_in_both_directions(kind: str, tokens: str) -> None:
    generator = torch.Generator().manual_seed(0)
    pooler = rnn_pooler(4, cell=kind, hidden=3, tokens=tokens, dropout=0.0, seed=2).double()
    for value in pooler.parameters():
        value.data += 0.2
    text = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    states = []
    for suffix, order in (("l0", range(5)), ("l0_reverse", range(4, -1, -1))):
        cell = (nn.LSTMCell if kind == "lstm" else nn.GRUCell)(4, 3).double()
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(cell, name).data.copy_(pooler.cells.get_parameter(f"{name}_{suffix}"))
        state, by_place = None, {}
        for i in order:
            state = cell(text[i : i + 1], state)
            by_place[i] = state[0] if kind == "lstm" else state
        states.append((by_place, by_place[order[-1]]))
    both = torch.cat([torch.cat([states[0][0][i], states[1][0][i]], dim=1) for i in range(5)])
    expected = {
        "last": torch.cat([states[0][1], states[1][1]], dim=1)[0],
        "mean": both.mean(dim=0),
        "max": both.amax(dim=0),
    }[tokens]
    padded = torch.cat([torch.full((2, 4), 9.0), text, torch.full((1, 4), -9.0)])[None].double()
    found = pooler([padded], torch.tensor([[0, 0, 1, 1, 1, 1, 1, 0]]))
    assert torch.allclose(found[0], pooler.out(expected), rtol=0, atol=1e-12)


def test_the_states_are_half_as_wide_as_the_features() -> None:
    assert rnn_pooler(8).cells.hidden_size == 4
    assert rnn_pooler(5)([torch.ones(2, 3, 5)], torch.ones(2, 3)).shape == (2, 5)
