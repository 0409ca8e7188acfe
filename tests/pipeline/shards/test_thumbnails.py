"""Thumbnails: what they look like, and which blocks get some."""

import numpy as np
import pytest
import sets

from job.cli import main
from pipeline.shards.block import Block, read_shard, regrouped
from pipeline.shards.manifest import load_manifest
from pipeline.shards.thumbnails import (
    column,
    decoded,
    encoded,
    ending_of,
    from_column,
    with_thumbnails,
)


def ramp(*shape: int, dtype=np.uint8) -> np.ndarray:
    """Smooth images [2, d] of a shape."""
    rows = np.linspace(0, 255, shape[0])
    image = np.broadcast_to(rows.reshape(-1, *[1] * (len(shape) - 1)), shape).reshape(1, -1)
    return np.concatenate([image, 255 - image]).astype(dtype)


def test_grey_is_exact_unless_shrunk():
    pixels = ramp(20, 30)
    for thumbnail, row in zip(encoded(pixels, (20, 30), 96), pixels, strict=True):
        np.testing.assert_array_equal(decoded(thumbnail), row.reshape(20, 30))
        assert ending_of(thumbnail) == ".png"
    (small, _) = encoded(pixels, (20, 30), 15)
    assert decoded(small).shape == (10, 15)


def test_colour_is_close_and_small():
    (thumbnail, _) = encoded(ramp(200, 100, 3), (200, 100, 3), 96)
    assert decoded(thumbnail).shape == (96, 48, 3)
    assert ending_of(thumbnail) == ".webp"
    expected = np.linspace(0, 255, 96)[:, None, None]
    assert np.abs(decoded(thumbnail) - expected).max() < 8
    assert len(thumbnail) < 1000


@pytest.mark.parametrize(
    ("shape", "seen"), [((9, 8, 1), (9, 8)), ((9, 8, 4), (9, 8, 3)), ((9, 8, 3), (9, 8, 3))]
)
def test_channels(shape, seen):
    assert decoded(encoded(ramp(*shape), shape, 96)[0]).shape == seen


def test_floats_are_between_black_and_white():
    pixels = ramp(9, 8)
    floats = pixels / np.float32(255)
    assert encoded(floats, (9, 8), 96) == encoded(pixels, (9, 8), 96)
    assert encoded(floats + 9, (9, 8), 96) == encoded(np.full_like(pixels, 255), (9, 8), 96)


@pytest.mark.parametrize(
    ("shape", "side", "always", "made"),
    [
        ((97, 3), 96, False, True),
        ((96, 96), 96, False, False),
        ((8, 8), 96, True, True),
        ((97, 97), 0, True, False),
        ((200,), 96, True, False),
        ((8, 8, 2), 96, True, False),
    ],
)
def test_who_gets_some(shape, side, always, made):
    block = Block(["a", "b"], None, ramp(*shape))
    other, found = with_thumbnails(["no block", block], shape, side, always)
    assert other == "no block"
    assert (found.thumbnails is not None) == made


def test_zeros_at_an_end_that_numpy_leaves_out():
    thumbnails = [*encoded(ramp(9, 8, 3), (9, 8, 3), 96), b"RIFF\0\0"]
    found = from_column(column(thumbnails))
    assert [one.startswith(other) for one, other in zip(found, thumbnails, strict=True)] == [
        True
    ] * 3
    np.testing.assert_array_equal(decoded(found[0]), decoded(thumbnails[0]))


def test_they_stay_with_their_images():
    whole = Block(list("abcdef"), None, np.arange(6)[:, None], [bytes([i]) for i in range(6)])
    for block in regrouped([*whole.split(4), *whole.split(1)], 5):
        assert block.thumbnails == [bytes([row]) for row in block.pixels[:, 0]]


def thumbnails_in(folder) -> dict[str, bytes]:
    manifest = load_manifest(str(folder))
    blocks = [b for s in manifest.shards for b in read_shard(str(folder), s, manifest)]
    return {k: v for b in blocks for k, v in zip(b.ids, b.thumbnails or [], strict=False)}


@pytest.mark.parametrize("flags", [["--transform", "pca:2"], ["--normalize"], []])
def test_shards_hold_them_beside_vectors_and_large_images(tmp_path, flags):
    shape = (100, 60, 3)
    images = np.random.default_rng(0).integers(0, 256, (9, *shape)).astype(np.uint8)
    images[:, 40:] = 0
    if "pca:2" in flags:
        images, shape = images[:, :12, :10], (12, 10, 3)
    path = sets.write_npz(tmp_path, images, np.arange(9) % 2)
    expected = encoded(images.reshape(9, -1), shape, 40 if flags else 96)
    for count in (1, 4):
        out = tmp_path / str(count)
        command = ["shard", "--input", path, "--output", str(out), "--num-shards", str(count)]
        more = ["--thumbnails", "40"] if flags else []
        assert main([*command, *flags, *more, "--quiet"]) == 0
        assert [one for _, one in sorted(thumbnails_in(out).items())] == expected
        assert load_manifest(str(out)).thumbnails == (40 if flags else 96)
    command = ["shard", "--input", path, "--output", str(tmp_path / "none"), "--thumbnails", "0"]
    assert main([*command, *flags, "--quiet"]) == 0
    assert thumbnails_in(tmp_path / "none") == {}


@pytest.mark.parametrize("kind", ["folder", "npz"])
@pytest.mark.parametrize(
    ("flags", "shape"),
    [
        (["--image-size", "20x20", "--transform", "pca:2"], (48, 96, 3)),
        (["--image-size", "20x20", "--transform", "pca:2", "--color", "gray"], (48, 96)),
        (["--image-size", "20x20", "--transform", "pca:2", "--resize", "crop"], (20, 20, 3)),
        (["--image-size", "100x100"], (48, 96, 3)),
        (["--image-size", "64x64"], None),  # the images themselves are as small
    ],
)
def test_of_images_that_are_stretched_in_their_own_proportions(tmp_path, kind, flags, shape):
    images = np.zeros((4, 100, 200, 3), np.uint8)
    images[:, :50, :, 0] = 255
    write = sets.write_folder if kind == "folder" else sets.write_npz
    path = write(tmp_path, images, np.arange(4) % 2)
    command = ["shard", "--input", path, "--output", str(tmp_path / "out"), "--quiet"]
    assert main([*command, *flags]) == 0
    found = thumbnails_in(tmp_path / "out")
    assert len(found) == (0 if shape is None else 4)
    for thumbnail in found.values():
        picture = decoded(thumbnail)
        assert picture.shape == shape
        top, bottom = picture[:10].mean(), picture[-10:].mean()
        assert top > bottom + 50
