"""Masked patches and momentum contrast: the draws, the losses by hand, and a network that has learned."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

import etude
from etude.config.load import parse_config
from etude.core.observe import Reporter
from etude.errors import EtudeError, Interrupted
from etude.pretraining.contrast import MOMENTUM, N_QUEUE, info_nce, random_view
from etude.pretraining.masked_patches import COVERED, ORIGINAL, cover_patches, painting_losses
from etude.runs.build import build
from etude.runs.pretrain import as_pretraining, build_pretraining


def write_images(path: Path, n: int = 200) -> None:
    """Bright discs and bars at random places, 16 by 16."""
    rng = np.random.default_rng(0)
    down, across = np.mgrid[:16, :16]
    images, labels = np.zeros((n, 16, 16), dtype=np.uint8), rng.integers(0, 2, n)
    for i, label in enumerate(labels):
        y, x = rng.uniform(4, 11, 2)
        inside = (down - y) ** 2 + (across - x) ** 2 < 12 if label else np.abs(down - y) < 1.5
        images[i] = (inside * 200 + rng.integers(0, 40, (16, 16))).astype(np.uint8)
    np.savez(path, x=images, y=labels)


def image_config(**sections: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "data": {"train": "images.npz", "validation": 0.2},
        "backbone": {"kind": "image", "model": "convnet", "width": 8},
        "train": {"epochs": 2, "batch_size": 32, "precision": "fp32"},
        "pretrain": {"epochs": 3, "head": 64},
        "optimizer": {"lr": 3e-3},
        "run": {"dir": "run", "baselines": False, "resamples": 0, "report": False},
    }
    return {name: config.get(name, {}) | sections.get(name, {}) for name in {*config, *sections}}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "images.npz"
    write_images(path)
    return path


@pytest.fixture
def project(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "images.npz").symlink_to(images)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_equally_many_whole_patches_are_covered() -> None:
    covered = cover_patches(50, 14, 21, 7, 0.5, np.random.default_rng(0))
    assert covered.shape == (50, 14, 21)
    patches = covered.reshape(50, 2, 7, 3, 7).swapaxes(2, 3).reshape(50, 6, 49)
    assert (patches.all(axis=2) | ~patches.any(axis=2)).all()
    assert (patches.all(axis=2).sum(axis=1) == 3).all()
    ragged = cover_patches(5, 5, 5, 2, 0.99, np.random.default_rng(0))
    assert not ragged.all(axis=(1, 2)).any()


def test_the_painting_loss_counts_covered_pixels_alone() -> None:
    painted, target = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    covered = (torch.rand(3, 4, 4) < 0.5).float()
    found = painting_losses(painted, target, covered)
    by_hand = [((painted[i] - target[i]) ** 2)[:, covered[i].bool()].mean() for i in range(3)]
    assert torch.allclose(found[:, 0] / found[:, 1], torch.stack(by_hand))
    assert torch.equal(found[:, 1], covered.sum(dim=(1, 2)))


def test_what_is_covered_is_the_mean_and_the_rest_is_shown(project: Path) -> None:
    run = build_pretraining(as_pretraining(parse_config(image_config())))
    inputs = run.engine.validation.inputs(np.arange(8))
    again = run.engine.validation.inputs(np.arange(8))
    assert torch.equal(inputs["pixels"], again["pixels"])
    hidden = inputs[COVERED][:, None]
    assert torch.equal(inputs["pixels"][~hidden], inputs[ORIGINAL][~hidden])
    assert torch.allclose(inputs["pixels"][hidden], run.backbone.inner.mean.flatten())


def test_info_nce_is_the_cross_entropy_of_the_own_key() -> None:
    queries, keys, queue = (F.normalize(torch.randn(n, 6), dim=1) for n in (4, 4, 9))
    losses, nearest = info_nce(queries, keys, queue, 0.2)
    for i in range(4):
        others = torch.cat([keys[i : i + 1], queue]) @ queries[i] / 0.2
        assert losses[i] == pytest.approx(float(-others.log_softmax(dim=0)[0]), abs=1e-5)
        assert bool(nearest[i]) == (int(others.argmax()) == 0)
    same, right = info_nce(queries, queries, -queries, 0.01)
    assert right.all()
    assert float(same.max()) < 1e-6


def test_views_differ_and_replay() -> None:
    pixels = torch.rand(6, 3, 12, 12)
    one, other = (random_view(pixels, np.random.default_rng(seed)) for seed in (0, 1))
    assert not torch.equal(one, other)
    assert torch.equal(one, random_view(pixels, np.random.default_rng(0)))


def test_the_copy_and_the_queue_follow(project: Path) -> None:
    config = as_pretraining(parse_config(image_config(pretrain={"objective": "contrast"})))
    pretext = build_pretraining(config).backbone
    assert not [name for name, _ in pretext.named_parameters() if "momentum" in name or "projection" in name]
    name, weight = next(iter(pretext.inner.named_parameters()))
    before = dict(pretext.momentum.named_buffers())[name].clone()
    with torch.no_grad():
        weight.add_(1.0)
    keys = F.normalize(torch.randn(N_QUEUE - 3, 128), dim=1)
    pretext.follow(keys)
    pretext.follow(keys[:5])
    after = dict(pretext.momentum.named_buffers())[name]
    share = 1 - MOMENTUM**2
    assert torch.allclose(after, before + share, atol=1e-5)
    assert torch.equal(pretext.queue[-3:], keys[:3])
    assert torch.equal(pretext.queue[:2], keys[3:5])
    assert int(pretext.next_key) == 2


@pytest.mark.parametrize(
    ("objective", "epochs", "model"),
    [("masked_patches", 6, "convnet"), ("contrast", 8, "convnet"), ("masked_patches", 4, "resnet")],
)
def test_it_learns_and_the_main_job_goes_on_from_it(
    objective: str, epochs: int, model: str, project: Path
) -> None:
    said = {"objective": objective, "epochs": epochs}
    backbone = {"model": model, "depth": 1}
    result = etude.pretrain(image_config(pretrain=said, backbone=backbone))
    assert result.losses["after"]["loss"] < result.losses["before"]["loss"] * 0.95
    main = image_config(backbone=backbone | {"path": str(result.path)}, run={"dir": "second"})
    begun = build(parse_config(main)).backbone.network.state_dict()
    saved = load_file(result.path / "model.safetensors")
    assert all(torch.equal(value, saved[f"network.{name}"]) for name, value in begun.items())
    trained = etude.train(main)
    assert trained.scores["validation"]["accuracy"] > 0.5


@pytest.mark.parametrize("objective", ["masked_patches", "contrast"])
def test_a_stopped_pre_training_ends_with_the_same_bits(objective: str, project: Path) -> None:
    said = {"objective": objective, "epochs": 3}
    backbone = {"dropout": 0.1}
    config = image_config(pretrain=said, backbone=backbone, train={"save_every": "4st", "log_every": "1st"})
    whole = etude.pretrain(config)

    class Stop(Reporter):
        def line(self, text: str) -> None:
            if text.startswith("validation after step 10"):
                raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        etude.pretrain(config | {"run": config["run"] | {"dir": "stopped"}}, reporter=Stop())
    resumed = etude.resume("stopped")
    assert resumed.losses == whole.losses
    weights = [load_file(result.path / "model.safetensors") for result in (whole, resumed)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_an_objective_of_tables_is_refused(project: Path) -> None:
    with pytest.raises(EtudeError, match=r"'denoise' does not fit, and backbone\.kind = 'image'"):
        etude.pretrain(image_config(pretrain={"objective": "denoise"}))
