"""Photos in the report and in exports where vectors are clustered, as thumbnails of the shards."""

import json

import numpy as np
import pytest
import sets
from report_page import decoded, page_of

from job.cli import main
from job.config import ExportConfig
from job.export import export
from job.result import examples
from pipeline.shards import thumbnails

SHAPE = (100, 60, 3)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Photos of three colours, with noise."""
    colours = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]])
    noise = np.random.default_rng(0).integers(0, 30, (30, *SHAPE))
    return (colours[np.arange(30) % 3][:, None, None] + noise).astype(np.uint8)


@pytest.fixture(scope="module")
def result(fit, images, new_folder):
    """A result of photos as vectors, for flags of `shard`."""
    made = {}

    def make(*flags: str):
        if flags not in made:
            folder = new_folder()
            path = sets.write_npz(folder, images, np.arange(30) % 3)
            shards = str(folder / "shards")
            command = ["shard", "--input", path, "--output", shards, "--quiet"]
            assert main([*command, *flags]) == 0
            made[flags] = fit(shards, 3)
        return made[flags]

    return make


def test_examples_have_them(result, images):
    with np.load(result("--normalize").folder / "examples.npz") as file:
        found = dict(file)
    assert len(found["thumbnails"]) == len(found["ids"])
    expected = thumbnails.encoded(images.reshape(30, -1), SHAPE, 96)
    numbers = [int(name.split("/")[-1]) for name in found["ids"]]
    for number, one in zip(numbers, thumbnails.from_column(found["thumbnails"]), strict=True):
        assert one.startswith(expected[number].rstrip(b"\0"))


def test_where_large_photos_have_no_room_the_nearest_stands_for_a_cluster(
    fit, make_shards, images, monkeypatch
):
    monkeypatch.setattr(examples, "MAX_MEMBER_BYTES", 1)
    folder = fit(make_shards(images), 3).folder
    with np.load(folder / "examples.npz") as file:
        kinds = file["kinds"].tolist()
    assert (kinds.count("nearest"), kinds.count("farthest"), kinds.count("random")) == (3, 0, 0)
    assert len(page_of(folder).all("img", "member")) == 3


def test_members_are_photos_and_stand_for_centroids(result):
    page = page_of(result("--normalize").folder)
    assert "scaled to length 1. No picture belongs to a centroid: the images nearest" in page.text
    assert "The images nearest to the mean of each cluster" in page.text
    assert not page.all("svg", "spark")
    members = page.all("img", "member")
    assert len(members) == 3 * 20
    colours = {tuple(decoded(m["src"]).reshape(-1, 3).mean(axis=0) > 100) for m in members}
    assert colours == {(True, False, False), (False, True, False), (False, False, True)}
    assert decoded(members[0]["src"]).shape == (96, 58, 3)
    assert page.all("img", "finding")
    assert len(page.all("image")) == 3  # the faces of the clusters on the map of centroids


def test_the_map_of_images_shows_them(result):
    page = page_of(result("--normalize").folder)
    (sheet,) = [image for image in page.all("img") if image.get("id") == "sheet"]
    drawn = decoded(sheet["src"])
    assert drawn.shape[0] % 20 == 0
    assert (drawn.reshape(-1, 3).min(axis=0) < 60).all()


def test_components_show_photos_and_drawn_centroids(result):
    page = page_of(result("--transform", "pca:2", "--image-size", "16x12").folder)
    assert "Pictures of centroids are drawn from these vectors." in page.text
    # As they were before they were resized.
    assert decoded(page.all("img", "member")[0]["src"]).shape == (96, 58, 3)
    assert page.all("img", "centroid")


def test_without_thumbnails_there_are_words(result):
    page = page_of(result("--normalize", "--thumbnails", "0").folder)
    assert "centroids are drawn as lines, members named by their ids." in page.text
    assert not page.all("img", "member")


def test_exports_are_thumbnails(result, tmp_path):
    run = result("--normalize").folder
    assert export(ExportConfig(run=str(run), output=str(tmp_path / "out"), quiet=True)) == 30
    files = sorted((tmp_path / "out").rglob("*.webp"))
    assert len(files) == 30
    sizes = json.loads((run / "metrics.json").read_text())["cluster_sizes"]
    assert sorted(sizes) == [10, 10, 10]
    reds = [thumbnails.decoded(path.read_bytes()).mean(axis=(0, 1)).argmax() for path in files]
    assert [len(set(reds[start : start + 10])) for start in (0, 10, 20)] == [1, 1, 1]


def test_new_images_keep_them_too(result, images, tmp_path):
    run, flipped = result("--normalize").folder, images[::-1]
    path = sets.write_npz(tmp_path, flipped, np.arange(30) % 3)
    command = ["assign", "--model", str(run), "--input", path, "--quiet"]
    for output, *flags in (["one"], ["three", "--num-shards", "3"], ["none", "--thumbnails", "0"]):
        assert main([*command, "--output", str(tmp_path / output), *flags]) == 0
    made = [(tmp_path / output / "examples.npz").read_bytes() for output in ("one", "three")]
    assert made[0] == made[1]
    with np.load(tmp_path / "one" / "examples.npz") as file:
        found = dict(file)
    expected = thumbnails.encoded(flipped.reshape(30, -1), SHAPE, 96)
    numbers = [int(name.split("/")[-1]) for name in found["ids"]]
    assert set(found["kinds"]) >= {"finding"}
    for number, one in zip(numbers, thumbnails.from_column(found["thumbnails"]), strict=True):
        assert one.startswith(expected[number].rstrip(b"\0"))
    page = page_of(tmp_path / "one")
    assert decoded(page.all("img", "member")[0]["src"]).shape == (96, 58, 3)
    assert not page_of(tmp_path / "none").all("img", "member")
