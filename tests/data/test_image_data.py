"""Images: every format as the same pixels, sizes, statistics, and files that cannot be used."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from etude.core.observe import Reporter
from etude.data.image_sources import open_images, stream_images
from etude.data.images import ImageContent, ImageExamples, ImageLoader, OnDemand
from etude.data.pixels import decode
from etude.data.sources import table_of_dataset
from etude.data.table import Table
from etude.errors import DataError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (6, 8), dtype=np.uint8)


def file_of(image: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **more)
    return stream.getvalue()


def table_of(cells: list[Any], path: str = "train.parquet") -> Table:
    return Table(path, {"image": cells}, range(1, len(cells) + 1))


def read(cells: list[Any], **more: Any) -> tuple[ImageLoader, ImageContent]:
    loader = ImageLoader(**more)
    content = loader.read(table_of(cells))
    loader.fit(content)
    return loader, content


def pixels_of(cells: list[Any], **more: Any) -> torch.Tensor:
    loader, content = read(cells, **more)
    examples = loader.prepare(content, None, None, Reporter(), str)
    return examples.inputs(np.arange(len(cells)))["pixels"]


def test_every_form_of_a_cell_gives_the_same_pixels(tmp_path: Path) -> None:
    data = file_of(Image.fromarray(COLOUR))
    (tmp_path / "a.png").write_bytes(data)
    path = str(tmp_path / "a.png")
    cells = [path, data, {"bytes": data, "path": "a.png"}, {"bytes": None, "path": path}, COLOUR,
             COLOUR.transpose(2, 0, 1), Image.fromarray(COLOUR), COLOUR / 255.0]  # fmt: skip
    found = pixels_of(cells)
    expected = torch.from_numpy(COLOUR.transpose(2, 0, 1)) / 255
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected.expand(8, 3, 6, 8), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("16 bits", file_of(Image.fromarray(GREY.astype(np.uint16) * 257))),
        ("palette", file_of(Image.fromarray(GREY).convert("P"))),
        ("grey and alpha", file_of(Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (8, 6), 255)]))),
        ("floats", file_of(Image.fromarray(GREY.astype(np.float32)), "TIFF")),
        ("16 bits as an array", GREY.astype(np.uint16) * 257),
        ("32 bits as an array", GREY.astype(np.int64)),
    ],
)
def test_unusual_grey_files(name: str, data: Any) -> None:
    found = decode(data, (1, 6, 8), Path(), "row 1")
    assert np.abs(found[0].astype(int) - GREY).max() <= 1, name
    assert np.array_equal(decode(data, (3, 6, 8), Path(), "row 1")[2], found[0])


def test_transparency_is_white_and_cmyk_is_colour() -> None:
    clear = Image.new("RGBA", (8, 6), (10, 20, 30, 0))
    assert (decode(file_of(clear), (3, 6, 8), Path(), "row 1") == 255).all()
    plain = Image.new("RGB", (8, 6), (200, 100, 50))
    found = decode(file_of(plain.convert("CMYK"), "JPEG", quality=95), (3, 6, 8), Path(), "row 1")
    assert np.abs(found.astype(int) - np.array([200, 100, 50])[:, None, None]).max() <= 4
    gif = Image.fromarray(GREY).convert("P")
    gif.info["transparency"] = int(np.asarray(gif)[0, 0])
    assert decode(file_of(gif, "GIF"), (1, 6, 8), Path(), "row 1")[0, 0, 0] == 255


def test_a_camera_that_was_held_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = file_of(Image.fromarray(COLOUR), exif=exif)
    loader, content = read([data])
    assert loader.fitted is not None
    assert loader.fitted.shape() == (3, 8, 6)
    expected = np.rot90(COLOUR, -1).transpose(2, 0, 1)
    assert np.array_equal(content.store.pixels(np.arange(1))[0], expected)


def test_grey_and_colour_are_found_by_looking() -> None:
    grey, colour = file_of(Image.fromarray(GREY)), file_of(Image.fromarray(COLOUR))
    assert pixels_of([grey, grey]).shape == (2, 1, 6, 8)
    assert pixels_of([grey, colour]).shape == (2, 3, 6, 8)
    assert pixels_of([colour], channels=1).shape == (1, 1, 6, 8)
    assert pixels_of([colour], size=4).shape == (1, 3, 4, 4)


def test_images_of_several_sizes_are_covered_and_cut() -> None:
    wide = np.zeros((4, 12, 3), dtype=np.uint8)
    wide[:, 4:8] = 255  # the middle square
    loader, content = read([wide, np.zeros((6, 4, 3), dtype=np.uint8)])
    assert content.store.pixels(np.arange(2)).shape == (2, 3, 4, 4)
    assert content.store.pixels(np.arange(1)).min() > 200
    examples = loader.prepare(content, None, None, Reporter(), str)
    assert loader.warnings(content, examples) == [
        "the images have 2 sizes, 4 x 12 to 6 x 4, and all are brought to 4 x 4; set backbone.size to choose"
    ]
    chosen, content = read([wide], size=4)
    assert chosen.warnings(content, None) == []


def test_mean_and_deviation_are_those_of_the_training_rows() -> None:
    images = RNG.integers(0, 256, (20, 5, 5, 3), dtype=np.uint8)
    loader = ImageLoader()
    content = loader.read(table_of(list(images)))
    loader.fit(content.take(np.arange(10)))
    assert loader.fitted is not None
    part = images[:10] / 255
    np.testing.assert_allclose(loader.fitted.mean, part.mean((0, 1, 2)), atol=1e-7)
    np.testing.assert_allclose(loader.fitted.std, part.std((0, 1, 2)), atol=1e-7)
    black, _ = read([np.zeros((4, 4), dtype=np.uint8)])
    assert black.fitted is not None
    assert (black.fitted.mean, black.fitted.std) == ((0.0,), (1.0,))


def test_what_does_not_fit_into_memory_is_decoded_when_needed() -> None:
    images = list(RNG.integers(0, 256, (9, 5, 5, 3), dtype=np.uint8))
    within, beyond = read(images), read(images, most_bytes=100)
    assert isinstance(beyond[1].store, OnDemand)
    assert within[0].fitted == beyond[0].fitted
    assert within[1].fingerprints() == beyond[1].fingerprints()
    rows = np.array([3, 0, 8])
    parts = [loader.prepare(content.take(rows), None, None, Reporter(), str) for loader, content in
             (within, beyond)]  # fmt: skip
    assert torch.equal(*[part.inputs(np.array([2, 0]))["pixels"] for part in parts])
    assert isinstance(parts[0], ImageExamples)
    assert parts[0].names == ["image 4", "image 1", "image 9"]


def test_contents_are_joined() -> None:
    images = list(RNG.integers(0, 256, (9, 5, 5, 3), dtype=np.uint8))
    loader, whole = read(images)
    first, second = (loader.read(table_of(part)) for part in (images[:4], images[4:]))
    joined = first.take(np.array([3, 1])).join(second.take(np.array([4, 0, 2])))
    expected = whole.take(np.array([3, 1, 8, 4, 6]))
    assert joined.fingerprints() == expected.fingerprints()
    for rows in ([0, 1, 2, 3, 4], [4, 0, 3], [1, 0], [2]):
        a, b = (loader.prepare(c, None, None, Reporter(), str).inputs(np.array(rows)) for c in
                (joined, expected))  # fmt: skip
        assert torch.equal(a["pixels"], b["pixels"])


def test_large_images_go_in_small_batches() -> None:
    loader, content = read([np.zeros((28, 28), dtype=np.uint8)], size=224)
    assert loader.prepare(content, None, None, Reporter(), str).lengths.tolist() == [196]


WHOLE = file_of(Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)))


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (b"", r"row 2, column 'image': the image is empty, 0 bytes"),
        (WHOLE[:600], r"row 2, column 'image': the image is truncated or damaged \(.*\); replace it"),
        (b"GIF89a", r"row 2, column 'image': the image is no image that can be read"),
        (b"hello, no image", r"row 2, column 'image': the image is no image that can be read; replace it"),
        ("gone.png", r"row 2, column 'image': gone.png does not exist; paths begin at the folder"),
        (None, r"row 2, column 'image' is None; a path, the bytes of a file or an array is expected"),
        ("  ", r"a path, the bytes of a file or an array is expected"),
        (np.zeros(7, dtype=np.uint8), r"holds an array of shape \(7,\); an image is \(height, width\)"),
        (np.zeros((0, 4)), r"holds an array of shape \(0, 4, 1\)"),
        (np.full((4, 4), -1.0), r"holds pixels from -1 to -1; they must lie in 0 to 1, 0 to 255"),
        (np.full((4, 4), np.nan), r"holds pixels from nan to nan"),
        (np.full((4, 4), "x"), r"holds pixels of type <U1; numbers are expected"),
    ],
)
def test_a_bad_cell_is_named(cell: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read([WHOLE, cell], size=8)


def test_sources(tmp_path: Path) -> None:
    for part, label, value in (("train", "cat", 0), ("train", "dog", 200), ("val", "dog", 100)):
        (tmp_path / part / label).mkdir(parents=True, exist_ok=True)
        Image.new("L", (5, 5), value).save(tmp_path / part / label / "a.png")
    (tmp_path / "train" / "cat" / ".hidden.png").write_bytes(b"")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("none")
    table = open_images(str(tmp_path), "train", image="image", label="kind")
    assert table.values == {"image": ["cat/a.png", "dog/a.png"], "kind": ["cat", "dog"]}
    loader = ImageLoader(label="kind")
    assert loader.read(loader.open(str(tmp_path), "train")).shown() == ["cat/a.png", "dog/a.png"]
    assert open_images(str(tmp_path), "validation", image="i", label="l").values["l"] == ["dog"]
    single = list(stream_images(str(tmp_path / "train" / "cat"), 10, image="image", label="label"))
    assert single[0].values == {"image": ["a.png"]}
    (tmp_path / "list.csv").write_text(
        "image,label,split\ntrain/cat/a.png,cat,train\nval/dog/a.png,dog,test\n"
    )
    part = loader.open(f"{tmp_path}/list.csv:test", "train")
    assert part.values["label"] == ["dog"]
    assert loader.read(part).store.pixels(np.arange(1)).max() == 100
    with pytest.raises(DataError, match=r"no rows whose 'split' is 'tset'; did you mean 'test'\?"):
        loader.open(f"{tmp_path}/list.csv:tset", "train")


def test_arrays_of_npz_files(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (5, 4, 4), dtype=np.uint8)
    path = tmp_path / "data.npz"
    np.savez(path, x_train=images[:3], y_train=np.arange(3), x_test=images[3:], y_test=np.arange(2)[:, None])
    train = open_images(str(path), "train", image="image", label="label")
    test = open_images(f"{path}:test", "train", image="image", label="label")
    assert (train.rows, test.rows, test.values["label"]) == (3, 2, [0, 1])
    assert train.line(1, "image") == f"{path}, image 2, column 'image'"
    loader = ImageLoader()
    assert np.array_equal(loader.read(train).store.pixels(np.arange(3))[:, 0], images[:3])
    with pytest.raises(DataError, match=r"holds no images under 'x_validation'; its arrays are x_train, "):
        open_images(str(path), "validation", image="image", label="label")
    np.savez(path, x=images, y=np.arange(4))
    with pytest.raises(DataError, match=r"holds 5 images and y of shape \(4,\); one label for each image"):
        open_images(str(path), "train", image="image", label="label")
    np.savez(path, x=np.array([None, {}]))
    with pytest.raises(DataError, match="is no readable npz file of plain arrays"):
        open_images(str(path), "train", image="image", label="label")
    path.write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(DataError, match="is no readable npz file of plain arrays"):
        open_images(str(path), "train", image="image", label="label")


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no folders; give a folder with one folder of images"):
        open_images(str(tmp_path), "train", image="image", label="label")
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match=r"the class folder .*cat holds no image .* or remove it"):
        open_images(str(tmp_path), "train", image="image", label="label")
    (tmp_path / "cat" / "broken.jpg").write_text("no image")
    loader = ImageLoader()
    with pytest.raises(DataError, match=r"image 1, column 'image': cat/broken.jpg is no image that can be"):
        loader.read(loader.open(str(tmp_path), "train"))


def test_a_data_set_of_the_hub_has_the_same_pixels_and_the_names_of_its_classes() -> None:
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    cells = [{"bytes": file_of(Image.fromarray(COLOUR)), "path": None}] * 3
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["cat", "dog"])})
    dataset = Dataset.from_dict({"image": cells, "label": [1, 0, -1]}, features=features)
    table = table_of_dataset(dataset, "owner/name")
    assert table.values["label"] == ["dog", "cat", None], "-1 is a label that nobody knows"
    expected = torch.from_numpy(COLOUR.transpose(2, 0, 1)) / 255
    torch.testing.assert_close(pixels_of(table.values["image"]), expected.expand(3, 3, 6, 8), rtol=0, atol=0)
    with pytest.raises(DataError, match="owner/name holds no rows"):
        table_of_dataset(dataset.select([]), "owner/name")
