"""Runs on images from end to end: sources, the saved model, techniques, views, resuming, bad input."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from etude.api import evaluate, resume, train
from etude.config.load import parse_config
from etude.core.observe import Reporter
from etude.data.inspect_tables import propose_config
from etude.errors import ConfigError, DataError, Interrupted
from etude.runs.baseline import baseline
from etude.runs.build import build
from etude.runs.model import Classifier

CORNERS = ("bottom", "top")


def images(n: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Noise with a bright upper or lower half, (n, 12, 12)."""
    rng = np.random.default_rng(seed)
    found = rng.integers(0, 120, (n, 12, 12), dtype=np.uint8)
    labels = [CORNERS[i % 2] for i in range(n)]
    for image, label in zip(found, labels, strict=True):
        half = slice(0, 6) if label == "top" else slice(6, 12)
        image[half] += 100
    return found, labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, n in (("train", 64), ("test", 16)):
        for i, (image, label) in enumerate(zip(*images(n, seed=n), strict=True)):
            place = tmp_path / "images" / part / label
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{i}.png")
    return tmp_path


def config_of(folder: Path, **sections: Any) -> dict[str, Any]:
    source = str(folder / "images")
    return {
        "data": {"train": source, "test": source, "validation": 0.25, **sections.pop("data", {})},
        "backbone": {"kind": "image", "width": 4, **sections.pop("backbone", {})},
        "train": {"epochs": 3, "batch_size": 8, "precision": "fp32", **sections.pop("train", {})},
        "run": {"dir": str(folder / "run"), "baselines": False, "report": False, "resamples": 0},
        **sections,
    }


@pytest.mark.parametrize(
    "backbone", [{"views": "flip"}, {"model": "resnet", "depth": 1, "size": 16}], ids=str
)
def test_a_folder_is_trained_saved_and_predicted(folder: Path, backbone: dict[str, Any]) -> None:
    result = train(parse_config(config_of(folder, backbone=backbone)), reporter=Reporter())
    assert result.scores["test"]["accuracy"] >= 0.9
    classifier = Classifier(folder / "run" / "model", precision="fp32")
    paths = sorted((folder / "images" / "test").rglob("*.png"))
    by_path = classifier.predict_proba([str(path) for path in paths])
    arrays = [np.asarray(Image.open(path)) for path in paths]
    assert np.allclose(classifier.predict_proba(arrays), by_path)
    assert np.allclose(classifier.predict_proba([{"image": path.read_bytes()} for path in paths]), by_path)
    assert [found.label for found in classifier.predict(arrays[:1])] == ["bottom"]
    classifier.predict_file(str(folder / "images"), str(folder / "out.csv"))
    with (folder / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["image"] == "bottom/0.png"
    expected = {f"{path.parent.name}/{path.name}": p for path, p in zip(paths, by_path, strict=True)}
    for row in rows:
        assert abs(float(row["p:top"]) - expected[row["image"]][classifier.task.position("top")]) < 2e-6
    assert evaluate(folder / "run").scores["accuracy"] == result.scores["test"]["accuracy"]
    files = {path.name for path in (folder / "run" / "model").iterdir()}
    assert files == {"config.json", "etude.json", "model.safetensors"}
    with pytest.raises(DataError, match=r"image 0, column 'image' is 7; a path, the bytes"):
        classifier.predict_proba([7])


def test_names_of_images_are_no_baseline(folder: Path) -> None:
    config = config_of(folder, train={"epochs": 1})
    found = baseline(parse_config(config), reporter=Reporter())
    assert sorted(found) == ["frozen_logistic", "zero_rule"]
    assert found["frozen_logistic"].metrics["test"]["accuracy"] >= 0.75


def test_arrays_and_tables_of_bytes_are_the_same_data(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    found, labels = images(40)
    np.savez(
        folder / "data.npz", x_train=found, y_train=np.array([label == "top" for label in labels]).astype(int)
    )
    names = []
    for i, image in enumerate(found):
        names.append(f"{i}.png")
        Image.fromarray(image).save(folder / names[-1])
    cells = [{"bytes": (folder / name).read_bytes(), "path": name} for name in names]
    pq.write_table(pa.table({"image": cells, "label": labels}), folder / "data.parquet")
    with (folder / "data.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label"])
        writer.writerows(zip(names, labels, strict=True))
    weights = []
    for source in ("data.npz", "data.parquet", "data.csv"):
        data = {"train": str(folder / source), "test": None}
        run = build(parse_config(config_of(folder, data=data)), reporter=Reporter())
        run.engine.fit()
        weights.append(run.backbone.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
        assert torch.equal(value, weights[2][name]), name


@pytest.mark.parametrize(
    "techniques",
    [
        {"mixup": {}, "random_crop_flip": {}},
        {"cutmix": {}, "rand_augment": {}},
        {"random_erasing": {}, "progressive_resizing": {}},
        {"layerwise_lr": {"decay": 0.8}, "ema": {}},
        {"freeze": {"until": "1ep"}, "progressive_dropout": {"end": 0.3}},
        {"sam": {}},
        {"swa": {}},
        {"weighted_sampling": {}, "init_weights": {"scope": "all"}},
        {"gradual_unfreezing": {}},
        {"linear_probe": {}, "head_lr": {}},
    ],
    ids=lambda t: "+".join(t),
)
def test_techniques_act_on_images(folder: Path, techniques: dict[str, Any]) -> None:
    config = parse_config(config_of(folder, techniques=techniques, train={"epochs": 2}))
    run = build(config, reporter=Reporter())
    assert set(techniques) <= {entry.technique for entry in run.plan.entries()}
    run.engine.fit()
    assert all(torch.isfinite(value).all() for value in run.backbone.state_dict().values())


def test_a_stopped_run_goes_on_as_if_it_had_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more: dict[str, Any] = {"techniques": {"mixup": {}, "random_erasing": {}}, "train": {"save_every": "4st"}}
    config = config_of(folder, **more)
    train(parse_config(config), reporter=Reporter())
    whole = (folder / "run" / "model" / "model.safetensors").read_bytes()
    config["run"]["dir"] = str(folder / "stopped")
    from etude.core.engine import Engine

    before = Engine._after_step

    def stop(self: Engine, *args: Any, **kwargs: Any) -> None:
        if self.step == 9:
            self.request_stop("enough")
        before(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_after_step", stop)
        with pytest.raises(Interrupted):
            train(parse_config(config), reporter=Reporter())
    resume(folder / "stopped", reporter=Reporter())
    assert (folder / "stopped" / "model" / "model.safetensors").read_bytes() == whole


def test_features_of_a_frozen_network_are_computed_once(folder: Path) -> None:
    techniques: dict[str, Any] = {"freeze": {"until": "1dur"}}
    config = config_of(folder, techniques=techniques, backbone={"views": "shifts"})
    run = build(parse_config(config), reporter=Reporter())
    seen: list[int] = []
    run.backbone.network.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    run.engine.fit()
    n_rows = len(run.data.train) + len(run.data.validation or [])
    assert sum(seen) == 5 * n_rows, "each image is seen once, in five views"


def test_bad_images_end_a_run_with_a_sentence(folder: Path) -> None:
    (folder / "images" / "train" / "top" / "zero.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"top/zero.png is empty, 0 bytes; replace it, or remove its row"):
        build(parse_config(config_of(folder)), reporter=Reporter())
    with pytest.raises(ConfigError, match=r'model = "hf" needs path'):
        parse_config(config_of(folder, backbone={"model": "hf"}))
    with pytest.raises(ConfigError, match="mean and std belong together; give both or neither"):
        parse_config(config_of(folder, backbone={"mean": [0.5]}))


def test_a_single_row_is_refused_and_two_are_enough(folder: Path) -> None:
    found, _ = images(2)
    np.savez(folder / "one.npz", x=found[:1], y=np.array([0]))
    data = {"train": str(folder / "one.npz"), "test": None, "validation": False}
    with pytest.raises(DataError, match="label"):
        build(parse_config(config_of(folder, data=data)), reporter=Reporter())
    np.savez(folder / "two.npz", x=found, y=np.array([0, 1]))
    run = build(
        parse_config(config_of(folder, data={**data, "train": str(folder / "two.npz")})), reporter=Reporter()
    )
    run.engine.fit()
    assert run.engine.step == 3


def test_a_saved_model_is_the_start_of_another_run(folder: Path) -> None:
    train(parse_config(config_of(folder)), reporter=Reporter())
    config = config_of(folder, backbone={"path": str(folder / "run" / "model")})
    config["run"]["dir"] = str(folder / "second")
    run = build(parse_config(config), reporter=Reporter())
    first = Classifier(folder / "run" / "model").metadata["input"]["format"]
    assert run.data.fitted.to_json()["height"] == first["height"]
    saved = json.loads((folder / "run" / "model" / "config.json").read_text())
    assert list(run.backbone.format.mean) == saved["format"]["mean"]


def test_init_proposes_images(folder: Path) -> None:
    for source in ("images", "data.npz"):
        if source == "data.npz":
            found, labels = images(20)
            np.savez(folder / source, x_train=found, y_train=np.array(labels))
        text = propose_config(str(folder / source), run_dir=str(folder / source.replace(".", "-")))
        (folder / "etude.toml").write_text(text)
        from etude.config.load import load_config

        config = load_config(folder / "etude.toml")
        assert (config.backbone.kind, config.data.labels, config.task) == ("image", "label", "binary")
        assert build(config, reporter=Reporter()).data.task.labels == CORNERS
