"""The fast way through BERT's layers equals transformers' own, and is taken only where it may be."""

import copy
import platform
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from etude.backbones.attention import use_keyed_attention
from etude.backbones.dropout import DropoutKeys, key_dropout_layers
from etude.backbones.encode import encode
from etude.backbones.encoder_layer import Shape, Weights, encoder_layer
from etude.backbones.fast_encoder import encode_fast, follows_bert, layer_weights
from etude.backbones.kept_memory import keep_freed_memory

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 20,
}


def make_network(name: str = "bert", **settings: Any) -> tuple[Any, DropoutKeys]:
    torch.manual_seed(0)
    network: Any
    if name == "bert":
        network = BertModel(BertConfig(**SIZES, **settings), add_pooling_layer=False)
    else:
        network = RobertaModel(RobertaConfig(**SIZES, **settings), add_pooling_layer=False)
    keys = DropoutKeys()
    key_dropout_layers(network, keys)
    use_keyed_attention(network, keys)
    keys.set(7)
    return network.train(), keys


def make_tokens() -> tuple[Tensor, Tensor]:
    ids = torch.arange(3 * 7).view(3, 7) % 37 + 2
    mask = torch.ones(3, 7, dtype=torch.long)
    mask[1, 4:] = 0
    return ids, mask


def run(network: Any, keys: DropoutKeys, *, fast: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """The features of the real tokens, and the gradients of a loss on them."""
    ids, mask = make_tokens()
    network.zero_grad(set_to_none=True)
    keys.set(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = network.get_input_embeddings()(ids)
        hidden = encode_fast(network, embedding, mask, {}, keys) if fast else None
        assert fast == (hidden is not None)
        if hidden is None:
            hidden = encode(network, embedding, mask, {}, decoder=False)
    real = hidden.float()[mask.bool()]
    real.square().mul(torch.linspace(0.5, 1.5, real.shape[1])).mean().backward()
    return real.detach(), {n: p.grad for n, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["bert", "roberta"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_it_equals_transformers_to_the_rounding_of_bfloat16(name: str, dropout: float) -> None:
    """With dropout too: the masks are drawn in the same order."""
    network, keys = make_network(
        name, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, layer_norm_eps=1e-12
    )
    plain, plain_grads = run(network, keys, fast=False)
    fast, fast_grads = run(network, keys, fast=True)
    torch.testing.assert_close(fast, plain, rtol=0.05, atol=0.05)
    assert fast_grads.keys() == plain_grads.keys()
    assert len(fast_grads) >= 37
    for parameter, grad in fast_grads.items():
        if "key.bias" in parameter:  # zero but for rounding: a softmax does not see what all scores share
            continue
        expected = plain_grads[parameter]
        assert (grad - expected).norm() <= 0.03 * expected.norm(), parameter
        assert grad.dtype == torch.float32


def test_a_layer_equals_transformers_in_float64() -> None:
    network, _ = make_network(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    layer = network.double().encoder.layer[0]
    given = torch.randn(3, 7, 32, dtype=torch.float64, requires_grad=True)
    _, mask = make_tokens()
    expected = layer(given, attention_mask=mask.bool()[:, None, None, :].expand(3, 1, 7, 7))
    shape = Shape(3, 7, 4, 32, (1e-12, 1e-12), torch.float64)
    added = torch.zeros(3, 7, dtype=torch.float64).masked_fill(mask == 0, -1e300)
    filled = torch.cat([given.reshape(21, 32), torch.zeros(11, 32, dtype=torch.float64)])
    rows = encoder_layer(
        filled, added[:, None].repeat_interleave(4, dim=0), (None, None, None), shape, layer_weights(layer)
    )
    found = rows[:21].view(3, 7, 32)
    torch.testing.assert_close(found, expected)
    upstream = torch.randn_like(expected) * mask[:, :, None]
    parameters = [given, *layer_weights(layer)]
    theirs = torch.autograd.grad(expected, parameters, upstream)
    ours = torch.autograd.grad(found, parameters, upstream)
    for name, one, other in zip(("x", *Weights._fields), ours, theirs, strict=True):
        torch.testing.assert_close(one, other, msg=name)


def test_frozen_parameters_get_no_gradient() -> None:
    network, keys = make_network()
    frozen = network.encoder.layer[0].attention.self.query.weight
    frozen.requires_grad_(requires_grad=False)
    _, grads = run(network, keys, fast=True)
    assert "encoder.layer.0.attention.self.query.weight" not in grads
    assert "encoder.layer.0.attention.self.key.weight" in grads


def test_a_weight_changed_behind_autograds_back_is_heeded() -> None:
    network, keys = make_network()
    before, _ = run(network, keys, fast=True)
    network.encoder.layer[1].output.dense.weight.data.mul_(1.5)
    after, _ = run(network, keys, fast=True)
    assert not torch.equal(before, after)


def hook(network: Any) -> None:
    network.encoder.layer[1].output.dense.register_forward_hook(lambda *given: given[-1])


def exchange(network: Any) -> None:
    network.encoder.layer[0].intermediate.dense = nn.Sequential(network.encoder.layer[0].intermediate.dense)


def parametrise(network: Any) -> None:
    torch.nn.utils.parametrizations.weight_norm(network.encoder.layer[0].output.dense)


def replace_forward(network: Any) -> None:
    layer = network.encoder.layer[0]
    layer.forward = copy.copy(layer.forward)


def checkpoint(network: Any) -> None:
    network.activation_checkpointing_enable()


@pytest.mark.parametrize("change", [hook, exchange, parametrise, replace_forward, checkpoint])
def test_a_network_that_was_changed_goes_its_own_way(change: Any) -> None:
    network, _ = make_network()
    assert follows_bert(network)
    change(network)
    assert not follows_bert(network)


def test_freed_memory_is_kept_where_the_library_is_glibc() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


def test_other_precisions_go_their_own_way() -> None:
    network, keys = make_network()
    ids, mask = make_tokens()
    assert encode_fast(network, network.get_input_embeddings()(ids), mask, {}, keys) is None


def test_other_activations_go_their_own_way() -> None:
    network, _ = make_network(hidden_act="relu")
    assert not follows_bert(network)
