"""`fit` and `assign` of images that the caller holds: the bits of the same images in files."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

import kmeans_job
from kmeans_job import UserError

FAST = {"init": "random", "algorithm": "lloyd", "max_iterations": 4}


@pytest.fixture(scope="module")
def pixels():
    return np.rint(load_digits().images[:300] * (255 / 16)).astype(np.uint8)


@pytest.fixture(scope="module")
def result(cpus, new_folder, pixels):
    return kmeans_job.fit(pixels, new_folder() / "out", 4, **FAST)


def test_a_fit_of_an_array_has_the_bits_of_its_file(cpus, tmp_path, pixels, result):
    np.save(tmp_path / "digits.npy", pixels)
    kmeans_job.shard(tmp_path / "digits.npy", tmp_path / "shards", num_shards=3)
    expected = kmeans_job.fit(tmp_path / "shards", tmp_path / "out", 4, **FAST)
    np.testing.assert_array_equal(result.centroids, expected.centroids)
    assert result.assignments.equals(expected.assignments.sort_by("id"))
    assert result.metrics["fingerprint"] == expected.metrics["fingerprint"]
    assert result.metrics["source"]["input"] == "ndarray 300 × 8 × 8"


def test_the_images_stay_beside_the_result(tmp_path, result):
    assert result.export(tmp_path / "out", what="representatives") == 4


def test_a_result_of_images_is_not_replaced(pixels, result, tmp_path):
    before = result.assignments
    with pytest.raises(UserError, match="holds a result; add --overwrite"):
        kmeans_job.fit(pixels, result.folder, 4)
    assert kmeans_job.load_result(result.folder).assignments.equals(before)
    (tmp_path / "shards").mkdir()
    kmeans_job.shard("digits", tmp_path / "shards")
    with pytest.raises(UserError, match=r"shards of another input .*'digits'"):
        kmeans_job.fit(pixels, tmp_path, 4)


def test_assignments_of_an_array_are_those_of_the_fit(tmp_path, pixels, result):
    made = kmeans_job.assign(result.folder, pixels, tmp_path / "new", num_shards=2)
    assert made.num_images == 300
    assert made.source["input"] == "ndarray 300 × 8 × 8"
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "new" / "assignments").sort_by("id")
    assert table.equals(result.assignments.sort_by("id"))
    with pytest.raises(UserError, match="add --overwrite"):
        kmeans_job.assign(result.folder, pixels, tmp_path / "new")
    with pytest.raises(UserError, match="images of 4 × 4 uint8, but"):
        kmeans_job.assign(result.folder, pixels[:, :4, :4], tmp_path / "small")


def test_workers_share_no_array(tmp_path, pixels, monkeypatch):
    task = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}'
    monkeypatch.setenv("TF_CONFIG", task)
    with pytest.raises(UserError, match="TF_CONFIG: shard the images once, then fit"):
        kmeans_job.fit(pixels, tmp_path, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda out: kmeans_job.shard("digits", out, num_shard=2), "did you mean num_shards"),
        (lambda out: kmeans_job.fit("shards", out, 2, algoritm="x"), "did you mean algorithm"),
        (lambda out: kmeans_job.fit([("a", [1])], out, 2, sead=1), "did you mean seed"),
        (lambda out: kmeans_job.assign("out", "digits", out, colour="x"), "did you mean color"),
    ],
)
def test_an_option_that_does_not_exist_is_named(tmp_path, call, message):
    with pytest.raises(TypeError, match=message):
        call(tmp_path)
    assert not [*tmp_path.iterdir()]
