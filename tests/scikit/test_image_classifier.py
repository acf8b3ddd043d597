"""The image estimator: arrays, paths and bytes, and pixels that are no 8-bit numbers."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

import etude
from etude import ImageClassifier


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Forty images of 12 x 12 pixels: bright at the top, or at the bottom."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 60, (40, 12, 12))
    pixels[:20, :6] += 150
    pixels[20:, 6:] += 150
    return pixels.astype(np.uint8)


Y = np.array([7] * 20 + [3] * 20)


def make(**arguments: object) -> ImageClassifier:
    return ImageClassifier(
        backbone={"width": 8}, precision="fp32", **{"epochs": 12, "batch_size": 10, **arguments}
    )


def test_it_learns_arrays_and_copies_predict_alike(images: np.ndarray, tmp_path: Path) -> None:
    model = make().fit(images, Y)
    assert model.classes_.tolist() == [3, 7]
    assert model.score(images, Y) == 1.0
    assert model.predict_proba(images).shape == (40, 2)
    model.save(tmp_path / "model")
    said = etude.load(tmp_path / "model").predict(list(images[:3]))
    assert [prediction.label for prediction in said] == ["7", "7", "7"]


def test_paths_and_bytes_are_what_arrays_are(images: np.ndarray, tmp_path: Path) -> None:
    model = make(epochs=1).fit(images, Y)
    paths, encoded = [], []
    for i, pixels in enumerate(images[:4]):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        paths.append(str(tmp_path / f"{i}.png"))
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        encoded.append(stream.getvalue())
    expected = model.predict_proba(images[:4])
    assert np.array_equal(model.predict_proba(paths), expected)
    assert np.array_equal(model.predict_proba(encoded), expected)


def test_colours_weights_and_cross_validation(images: np.ndarray) -> None:
    colours = np.repeat(images[..., None], 3, axis=-1)
    model = make(epochs=2)
    assert clone(model).get_params() == model.get_params()
    model.fit(colours, Y, sample_weight=np.arange(1, 41))
    assert model.predict(colours).shape == (40,)
    assert cross_val_score(make(epochs=2), images, Y, cv=2).shape == (2,)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda x: x / 255.0,
            r"fractions up to .*, and pixels from 0 to 255 are expected; give \(255 \* X\)",
        ),
        (lambda x: x.astype(int) - 300, "X holds numbers from .*, and pixels from 0 to 255 are expected"),
        (lambda x: x[:0], "X holds 0 images and at least 1 is required"),
        (lambda x: ["/no/such/image.png"] * len(x), "image.png"),
    ],
)
def test_what_is_no_image_gets_one_sentence(change: object, words: str, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=words):
        make().fit(change(images), Y)
