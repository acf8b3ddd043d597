"""The CNN head against a loop over windows and filters."""

import pytest
import torch
from pydantic import ValidationError

from etude.techniques.heads.cnn_head import CNNHeadConfig, cnn_pooler


def test_by_loops_over_texts_windows_and_filters() -> None:
    generator = torch.Generator().manual_seed(0)
    pooler = cnn_pooler(3, windows=[2, 4], filters=5, dropout=0.0, seed=1).double()
    for value in pooler.parameters():
        value.data += 0.1
    tokens = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]])
    found = pooler([tokens], mask)
    for b, length in enumerate([5, 2]):
        # Zeros follow the text, so that each real token begins a window, of four tokens too.
        text = torch.cat([tokens[b, :length], torch.zeros(3, 3, dtype=torch.float64)])
        answers = []
        for filters, window in zip(pooler.filters, [2, 4], strict=True):
            weight, bias = filters.get_parameter("weight"), filters.get_parameter("bias")
            for f in range(5):
                at = [(weight[f].T * text[i : i + window]).sum() + bias[f] for i in range(length)]
                answers.append(max(torch.zeros((), dtype=torch.float64), *at))
        expected = pooler.out(torch.stack(answers))
        assert torch.allclose(found[b], expected, rtol=0, atol=1e-12)


def test_dropout_only_in_training() -> None:
    pooler = cnn_pooler(3, dropout=0.5)
    tokens, mask = torch.ones(1, 4, 3), torch.ones(1, 4)
    assert not torch.equal(pooler([tokens], mask), pooler([tokens], mask))
    pooler.eval()
    assert torch.equal(pooler([tokens], mask), pooler([tokens], mask))


@pytest.mark.parametrize("windows", [[], [0], [3, 65]])
def test_windows_out_of_bounds(windows: list[int]) -> None:
    with pytest.raises(ValidationError, match="windows"):
        CNNHeadConfig(windows=windows)
