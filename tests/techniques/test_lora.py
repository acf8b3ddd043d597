"""LoRA: the matrices rest, thin ones train, and what is saved needs no adapters."""

from pathlib import Path

import pytest
import torch

from etude.backbones.text import load_saved, load_text_backbone
from etude.config.run import BackboneConfig
from etude.core.task import make_task
from etude.errors import ConflictError
from etude.techniques.efficient.lora import LoRA, LoRAConfig, add_adapters, linear_layers
from etude.testing.harness import Setup, make_engine
from etude.testing.tiny import TinyMLP, TinyTransformer


def test_fresh_adapters_change_nothing_and_follow_the_seed() -> None:
    plain, inputs = TinyTransformer(3), {"input_ids": torch.tensor([[3, 4, 5]])}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    before = plain(inputs).logits
    one, again = (add_adapters(TinyTransformer(3), LoRAConfig(dropout=0.0), seed=4) for _ in range(2))
    other = add_adapters(TinyTransformer(3), LoRAConfig(), seed=5)
    assert torch.equal(one(inputs).logits, before)
    first = [p for name, p in one.named_parameters() if "lora_A" in name]
    assert len(first) == 4
    assert all(torch.equal(a, b) for a, b in zip(first, _matrices(again), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, _matrices(other), strict=True))


def _matrices(model: torch.nn.Module) -> list[torch.Tensor]:
    return [p for name, p in model.named_parameters() if "lora_A" in name]


def test_only_adapters_and_the_head_train() -> None:
    engine = make_engine({LoRA: {"r": 2}}, Setup())
    before = {name: value.clone() for name, value in engine.backbone.state_dict().items()}
    engine.fit()
    moved = {
        name for name, value in engine.backbone.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {name for name in before if "lora_" in name or name.startswith("head")}


def test_the_change_is_the_product_of_the_thin_matrices() -> None:
    model = add_adapters(TinyMLP(3), LoRAConfig(r=2, alpha=6.0, dropout=0.0), seed=0)
    layer = model.get_submodule("hidden.0")
    a, b = layer.lora_A.default.weight, layer.lora_B.default.weight  # type: ignore[union-attr]  # peft's
    with torch.no_grad():
        b.copy_(torch.arange(16.0).view(8, 2))  # type: ignore[operator]  # peft's
    x = torch.randn(5, 6)
    base = layer.get_base_layer()  # type: ignore[operator]  # peft's
    assert torch.allclose(layer(x), base(x) + 3.0 * (x @ a.T @ b.T), atol=1e-5)  # type: ignore[operator]


def test_layers_are_named_exactly() -> None:
    model = TinyTransformer(3)
    assert linear_layers(model, ["1.out"]) == ["layers.1.out"]
    assert linear_layers(model, ["out"]) == ["layers.0.out", "layers.1.out"]
    with pytest.raises(ConflictError, match=r"lora: no linear layer is called 'ou'; did you mean 'out'\?"):
        linear_layers(model, ["ou"])


@pytest.mark.minilm
def test_a_real_model_is_saved_without_adapters(tmp_path: Path) -> None:
    task = make_task("multiclass", ["a", "b", "c"])
    backbone = load_text_backbone(BackboneConfig(), task, seed=0)
    inputs = dict(
        backbone.tokenizer(["A dog.", "A longer text on tax law."], padding=True, return_tensors="pt")
    )
    backbone.eval()
    with torch.no_grad():
        before = backbone(inputs).logits
        add_adapters(backbone, LoRAConfig(r=4), seed=0)
        assert torch.allclose(backbone(inputs).logits, before, atol=1e-5)
        for name, value in backbone.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.05, generator=torch.Generator().manual_seed(len(name)))
        after = backbone.eval()(inputs).logits
        assert not torch.allclose(after, before, atol=1e-3)
        backbone.save(tmp_path / "model", {"labels": list(task.labels)})
        saved = load_saved(tmp_path / "model").eval()
        assert not any("lora" in name for name in saved.state_dict())
        assert torch.allclose(saved(inputs).logits, after, atol=1e-4)
