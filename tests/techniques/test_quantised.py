"""Quantised weights: what is kept and how much, gradients through it, and whole matrices when saved."""

import logging
from pathlib import Path

import pytest
import torch
from tiny_contexts import make_context
from torch import Tensor, nn

from etude.backbones.saving import network_state
from etude.backbones.text import load_saved, load_text_backbone
from etude.config.run import BackboneConfig
from etude.core.plan import build_plan, refuse_early
from etude.core.task import make_task
from etude.errors import ConfigError, ConflictError
from etude.parts.quantised_linear import Kind, QuantisedLinear, quantise
from etude.techniques import technique_class
from etude.techniques.efficient.lora import LoRA, LoRAConfig, add_adapters
from etude.techniques.efficient.quantised import Quantised, quantise_frozen, refuse_unable
from etude.testing.harness import Setup, make, make_engine
from etude.testing.tiny import TinyMLP, TinyTransformer

KINDS: tuple[Kind, ...] = ("nf4", "fp4", "int8")


def layer_of(n_in: int, n_out: int) -> nn.Linear:
    layer = nn.Linear(n_in, n_out)
    with torch.no_grad():
        layer.weight.normal_(generator=torch.Generator().manual_seed(0))
    return layer


@pytest.mark.parametrize(("kind", "bytes_each", "error"), [("nf4", 0.5625, 0.16), ("fp4", 0.5625, 0.17)])
def test_four_bits_by_blocks_of_64(kind: Kind, bytes_each: float, error: float) -> None:
    layer = layer_of(64, 32)
    kept = QuantisedLinear(layer, kind)
    n_bytes = sum(buffer.numel() * buffer.element_size() for buffer in kept.buffers())
    assert n_bytes / layer.weight.numel() == bytes_each
    whole = layer.weight.detach()
    largest = whole.abs().amax(dim=1, keepdim=True)  # a row is a block here
    assert float(((kept.weight - whole) / largest).abs().max()) < error
    assert list(dict(kept.named_parameters())) == ["bias"]


def test_eight_bits_are_off_by_half_a_step_of_their_row() -> None:
    layer = layer_of(10, 7)
    kept = QuantisedLinear(layer, "int8")
    step = layer.weight.abs().amax(dim=1, keepdim=True) / 127
    assert kept.packed.dtype == torch.int8
    assert bool(((kept.weight - layer.weight).abs() <= step * 0.501).all())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bf16", [False, True])
def test_product_and_gradient_are_those_of_the_whole_weight(kind: Kind, bf16: bool) -> None:
    layer = layer_of(13, 5)  # an odd number of numbers
    kept = QuantisedLinear(layer, kind)
    with torch.no_grad():
        layer.weight.copy_(kept.weight)
    found: list[tuple[Tensor, Tensor]] = []
    for module in (layer, kept):
        x = torch.linspace(-1, 1, 52).view(2, 2, 13).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = module(x)
            assert y.dtype == (torch.bfloat16 if bf16 else torch.float32)
        found.append((y, torch.autograd.grad(y.float().square().sum(), x)[0]))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.02 if bf16 else 1e-6, atol=0.05 if bf16 else 1e-6)


def test_every_frozen_matrix_is_quantised_and_no_other() -> None:
    backbone = add_adapters(TinyTransformer(3), LoRAConfig(r=2, layers=["out"]), seed=0)
    assert quantise_frozen(backbone, "nf4") == 4  # also those without an adapter
    kinds = {name: type(module).__name__ for name, module in backbone.named_modules()}
    assert kinds["layers.0.query_key"] == kinds["layers.1.out.base_layer"] == "QuantisedLinear"
    assert kinds["layers.1.out.lora_A.default"] == kinds["head.1"] == "Linear"


def test_only_adapters_and_the_head_train() -> None:
    engine = make_engine({LoRA: {"r": 2}, Quantised: {}}, Setup())
    before = {name: value.clone() for name, value in engine.backbone.state_dict().items()}
    assert before["layers.0.out.base_layer.packed"].dtype == torch.uint8
    engine.fit()
    moved = {
        name for name, value in engine.backbone.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {name for name in before if "lora_" in name or name.startswith("head")}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_whole_and_predicts_the_same(kind: Kind) -> None:
    backbone = add_adapters(TinyMLP(3), LoRAConfig(r=2), seed=0)
    quantise_frozen(backbone, kind)
    with torch.no_grad():
        for name, value in backbone.named_parameters():
            if "lora_B" in name:
                value.normal_(generator=torch.Generator().manual_seed(1))
    inputs = {"numbers": torch.linspace(-1, 1, 30).view(5, 6)}
    expected = backbone.eval()(inputs).logits
    plain = TinyMLP(3).eval()
    state = network_state(backbone)
    assert {name: value.dtype for name, value in state.items()} == dict.fromkeys(
        plain.state_dict(), torch.float32
    )
    plain.load_state_dict(state)
    torch.testing.assert_close(plain(inputs).logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.minilm
def test_a_real_model_is_saved_whole(tmp_path: Path) -> None:
    task = make_task("multiclass", ["a", "b", "c"])
    backbone = load_text_backbone(BackboneConfig(), task, seed=0).eval()
    texts = ["A dog.", "A longer text on tax law."]
    inputs = dict(backbone.tokenizer(texts, padding=True, return_tensors="pt"))
    with torch.no_grad():
        before = backbone.features(inputs)
        add_adapters(backbone, LoRAConfig(r=4, layers=["query"]), seed=0)
        assert quantise_frozen(backbone, "nf4") == 36  # six in each of six layers
        features = backbone.features(inputs)
        assert torch.nn.functional.cosine_similarity(features, before).min() > 0.95
        expected = backbone(inputs).logits
        backbone.save(tmp_path / "model", {})
        saved = load_saved(tmp_path / "model")
        torch.testing.assert_close(saved(inputs).logits, expected, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, QuantisedLinear) for module in saved.modules())


def test_a_layer_without_an_adapter_is_saved_whole_too() -> None:
    backbone = TinyTransformer(3)
    quantise_frozen(backbone, "int8")
    state = network_state(backbone)
    assert state.keys() == TinyTransformer(3).state_dict().keys()
    assert torch.equal(state["layers.1.out.weight"], backbone.get_submodule("layers.1.out").weight)  # type: ignore[arg-type]


def test_without_lora_it_is_refused() -> None:
    said = r"quantised works only together with lora; add \[techniques.lora\] or remove quantised"
    techniques = [make(technique_class(name), {}) for name in ("quantised", "cross_entropy")]
    with pytest.raises(ConflictError, match=said):
        build_plan(techniques, make_context())
    with pytest.raises(ConflictError, match=said):
        refuse_early(techniques)


def test_a_library_that_cannot_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    functional = pytest.importorskip("bitsandbytes").functional
    refuse_unable("nf4")

    def unable(*args: object, **named: object) -> None:
        raise NotImplementedError("no kernel for 'cpu'\nand much more")

    monkeypatch.setattr(functional, "quantize_4bit", unable)
    with pytest.raises(
        ConfigError,
        match=r"^quantised: bitsandbytes \d\S+ cannot keep weights as nf4 on this machine \(no kernel for "
        r"'cpu'\); install a newer bitsandbytes or remove quantised$",
    ):
        refuse_unable("nf4")
    refuse_unable("int8")

    def wrong(weight: Tensor) -> tuple[Tensor, Tensor, None]:
        packed = torch.zeros(weight.shape, dtype=torch.int8)
        return packed, torch.ones(len(weight)), None

    monkeypatch.setattr(functional, "int8_vectorwise_quant", wrong)
    with pytest.raises(ConfigError, match=r"is off by 1 for a weight of at most 1 kept as int8"):
        refuse_unable("int8")


def test_the_librarys_warning_is_silenced(caplog: pytest.LogCaptureFixture) -> None:
    quantise(torch.ones(1, 64), "nf4")
    assert logging.getLogger("bitsandbytes.backends.cpu.ops").level == logging.ERROR
    assert not caplog.records
