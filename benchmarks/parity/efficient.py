"""Prompts, prefixes and quantised weights against peft, transformers' own cache, and tables written out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import BertConfig, BertModel, DynamicCache, LlamaConfig, LlamaModel

from etude.backbones.attention import use_keyed_attention
from etude.backbones.dropout import DropoutKeys
from etude.backbones.encode import behind_prompt, encode, own_tokens
from etude.backbones.prefixes import hang_prefix
from etude.parts.prefix import Prefix
from etude.parts.prompt import Prompt
from etude.parts.quantised_linear import QuantisedLinear, bitsandbytes, dequantise, quantise

_SIZES: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}
NF4 = (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
       -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
       0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
       0.7229568362236023, 1.0)  # fmt: skip
"""Appendix E of the paper."""
FP4 = tuple(
    sign * value
    for sign in (1.0, -1.0)
    for value in (0.0, 0.0625 / 12, 8 / 12, 1.0, 4 / 12, 6 / 12, 2 / 12, 3 / 12)
)
"""One sign, two bits of exponent, one of mantissa, over the largest of them."""


def rows() -> Iterator[tuple[str, str, float]]:
    """Yield technique, reference and the largest absolute difference."""
    generator = torch.Generator().manual_seed(0)
    yield "prompt_tuning", "peft's PromptTuningConfig on a BERT, hidden states", _prompt(generator)
    yield "prefix_tuning", "transformers' cache of keys and values in a Llama", _prefix(generator)
    weight = torch.randn(24, 40, generator=generator)
    for kind, table in (("nf4", NF4), ("fp4", FP4)):
        apart = _apart(dequantise(*quantise(weight, kind), kind, weight.shape), nearest(weight, table))  # type: ignore[arg-type]
        yield "quantised", f"{kind}: the nearest of the paper's table, in float32", apart
    row = weight.abs().amax(dim=1, keepdim=True)
    bytes_ = (weight * (127.0 / row)).round() * (row / 127.0)
    apart = _apart(dequantise(*quantise(weight, "int8"), "int8", weight.shape), bytes_)
    yield "quantised", "int8: 127 steps of each row's largest, in float32", apart
    yield "quantised", "torch's linear layer with the whole weight, product and gradient", _product(weight)


def nearest(weight: Tensor, table: tuple[float, ...]) -> Tensor:
    """Each number as the nearest of the table times the largest of its block of 64."""
    steps = torch.tensor(table)
    blocks = F.pad(weight.flatten(), (0, -weight.numel() % 64)).view(-1, 64)
    largest = blocks.abs().amax(dim=1, keepdim=True)
    found = steps[((blocks / largest)[..., None] - steps).abs().argmin(dim=-1)] * largest
    return found.flatten()[: weight.numel()].view_as(weight)


def _prompt(generator: torch.Generator) -> float:
    bitsandbytes()  # first, and so without its warning: peft imports it too
    import peft

    network = BertModel(BertConfig(**_SIZES), add_pooling_layer=False).double().eval()
    ids, mask = _tokens(generator)
    prompt = Prompt(n_tokens=5, width=16).double()
    prompt.draw(3)
    settings = peft.PromptTuningConfig(
        task_type="FEATURE_EXTRACTION",
        num_virtual_tokens=5,
        token_dim=16,
        num_layers=3,
        num_attention_heads=4,
    )
    given = behind_prompt(prompt, network.get_input_embeddings()(ids), mask, {})
    ours = own_tokens(encode(network, *given, decoder=False), mask)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's, of its own calls
        theirs: Any = peft.get_peft_model(network, settings).double().eval()
        theirs.prompt_encoder["default"].embedding.weight.data.copy_(prompt.vectors)
        whole = theirs(input_ids=ids, attention_mask=mask)
    return _apart(ours, whole.last_hidden_state[:, 5:])


def _prefix(generator: torch.Generator) -> float:
    network = LlamaModel(LlamaConfig(**_SIZES, num_key_value_heads=2)).double().eval()
    ids, mask = _tokens(generator)
    prefix = Prefix(n_tokens=5, n_layers=3, n_heads=2, d_head=4).double()
    with torch.no_grad():
        prefix.vectors.copy_(torch.randn(prefix.vectors.shape, generator=generator, dtype=torch.float64))
    cache = DynamicCache(config=network.config)
    for layer in range(3):
        cache.update(*prefix.of_layer(layer).expand(len(ids), -1, -1, -1, -1).transpose(0, 1), layer)
    theirs = network(
        input_ids=ids,
        attention_mask=F.pad(mask, (5, 0), value=1),
        past_key_values=cache,
        position_ids=torch.arange(ids.shape[1])[None].expand_as(ids),
    )
    use_keyed_attention(network, DropoutKeys())
    hang_prefix(network, prefix)
    ours = encode(network, network.get_input_embeddings()(ids), mask, {}, decoder=True)
    real = mask.bool()
    return _apart(ours[real], theirs.last_hidden_state[real])


def _tokens(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ids and mask of three texts of 7, 4 and 2 tokens."""
    ids = torch.randint(1, 30, (3, 7), generator=generator)
    mask = (torch.arange(7)[None] < torch.tensor([7, 4, 2])[:, None]).long()
    return ids, mask


def _product(weight: Tensor) -> float:
    layer = torch.nn.Linear(40, 24)
    with torch.no_grad():
        layer.weight.copy_(weight)
    quantised = QuantisedLinear(layer, "nf4").double()
    x = torch.linspace(-2, 2, 120, dtype=torch.float64).view(3, 40).requires_grad_()
    ours = quantised(x)
    (gradient,) = torch.autograd.grad((ours**2).sum(), x)
    theirs = F.linear(x, quantised.weight.double(), quantised.bias)
    return max(_apart(ours, theirs), _apart(gradient, torch.autograd.grad((theirs**2).sum(), x)[0]))


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).detach().abs().max())
