"""Grey where all images are grey, else RGB for all: decided by the set, and by nothing else."""

import io

import numpy as np
import pytest
import sets
from PIL import Image
from sharded import shard

from pipeline.sources import open_source

NOISE = np.random.default_rng(3).integers(0, 256, (221, 5, 4, 3)).astype(np.uint8)


def put(folder, grey: int, mixed: bool = True) -> str:
    """221 images in three folders, all in colour but for one grey JPEG; or all grey."""
    for i, pixels in enumerate(NOISE):
        path = folder / f"{'abc'[i % 3]}" / f"{i:03d}.{'jpg' if i == grey else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = "JPEG" if i == grey else "PNG"
        path.write_bytes(sets.encoded(pixels if mixed and i != grey else pixels[..., 0], kind))
    return str(folder)


@pytest.mark.parametrize("grey", [0, 110, 220])
def test_one_grey_image_among_colours(tmp_path, grey):
    source = open_source(put(tmp_path / "set", grey))
    assert (source.image_shape, source.num_images) == ((5, 4, 3), 221)
    prints = set()
    for num_shards in (1, 2, 7):
        manifest, block = shard(source, tmp_path / str(num_shards), num_shards)
        prints.add(manifest.fingerprint)
    assert len(prints) == 1
    pixels = dict(zip(block.ids, block.pixels.reshape(-1, 5, 4, 3), strict=True))
    for i, expected in enumerate(NOISE):
        if i != grey:
            np.testing.assert_array_equal(pixels[f"{'abc'[i % 3]}/{i:03d}.png"], expected)
    (jpeg,) = (found for name, found in pixels.items() if name.endswith("jpg"))
    assert (jpeg[..., 0] == jpeg[..., 1]).all()
    assert (jpeg[..., 0] == jpeg[..., 2]).all()


def test_all_grey(tmp_path):
    source = open_source(put(tmp_path / "set", 5, mixed=False))
    assert source.image_shape == (5, 4)
    manifest, _ = shard(source, tmp_path / "shards")
    assert manifest.image_shape == (5, 4)


@pytest.mark.parametrize(("color", "shape"), [("gray", (5, 4)), ("rgb", (5, 4, 3))])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_color_that_is_asked_for(tmp_path, color, shape, mixed):
    assert open_source(put(tmp_path, 5, mixed), color=color).image_shape == shape


def saved(image: Image.Image, kind: str, **options) -> bytes:
    image.save(buffer := io.BytesIO(), kind, **options)
    return buffer.getvalue()


GREY, PHOTO = Image.fromarray(NOISE[0, ..., 0]), Image.fromarray(NOISE[0])
JPEG = saved(PHOTO, "JPEG")


@pytest.mark.parametrize(
    "data",
    [
        saved(PHOTO, "TIFF"),
        saved(PHOTO, "GIF"),
        saved(PHOTO, "WEBP"),
        JPEG[:2] + 2 * (b"\xff\xfe\xea\x62" + bytes(60_000)) + JPEG[2:],  # a late header
        saved(PHOTO.convert("P"), "PNG"),
        saved(PHOTO.convert("CMYK"), "TIFF"),
    ],
)
def test_the_last_image_decides_whatever_its_kind(tmp_path, data):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(saved(GREY, "PNG"))
    (tmp_path / "last.png").write_bytes(data)
    assert open_source(str(tmp_path)).image_shape == (5, 4, 3)


@pytest.mark.parametrize(
    "data",
    [
        saved(GREY, "TIFF"),
        saved(GREY, "JPEG"),
        saved(GREY.convert("LA"), "PNG"),
        saved(Image.fromarray(NOISE[0, ..., 0].astype(np.uint16) * 257), "PNG"),
        saved(GREY.convert("1"), "TIFF"),
        saved(GREY, "JPEG2000"),
        saved(PHOTO, "PNG")[:-20],
    ],
)
def test_grey_of_every_kind_and_damaged_colour(tmp_path, data):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(saved(GREY, "PNG"))
    (tmp_path / "last.png").write_bytes(data)
    assert open_source(str(tmp_path)).image_shape == (5, 4)
