"""`--normalize`: vectors of length 1, after any transform or none."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import sets

from job.cli import main
from pipeline.features import feature_of, specification, with_unit, without_unit
from pipeline.features.source import load
from pipeline.features.unit import Unit


@pytest.mark.parametrize("spec", [None, "pca:3", "keras:a,b.keras"])
def test_the_step_in_a_specification(spec):
    assert with_unit(spec, False) == spec
    unit = with_unit(spec, True)
    assert unit is not None
    assert unit.endswith("unit")
    assert without_unit(unit) == (spec, True)
    if spec:
        assert without_unit(spec) == (spec, False)


def test_nobody_asks_for_it_by_name():
    with pytest.raises(ValueError, match="'unit' is neither pca:N nor "):
        specification("unit")


def test_vectors_get_length_1_and_zeros_stay():
    vectors = np.array([[3, 4], [0, 0], [1e-30, 0], [3e38, 3e38]], np.float32)
    half = np.float32(np.sqrt(0.5))
    found = Unit(None).apply(vectors)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0], [1, 0], [half, half]], rtol=1e-7)


def test_bytes_do_not_depend_on_neighbours():
    rows = np.random.default_rng(0).normal(size=(100, 129)).astype(np.float32)
    alone = [Unit(None).apply(row[None]) for row in rows]
    assert np.concatenate(alone).tobytes() == Unit(None).apply(rows).tobytes()


def shard(*words) -> int:
    return main(["shard", "--quiet", *map(str, words)])


def test_embeddings_of_ones_own(tmp_path, cpus):
    rows = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    arguments = ["--input", tmp_path / "rows.npy", "--output", tmp_path / "out"]
    assert shard(*arguments, "--normalize", "--num-shards", 2) == 0
    manifest, block = sets.read_set(tmp_path / "out")
    assert (manifest.transform.spec, manifest.transform.file) == ("unit", "transform.json")
    assert block.pixels.tobytes() == Unit(None).apply(rows).tobytes()
    transform = load(str(tmp_path / "out"), manifest.transform)
    assert transform.apply(rows).tobytes() == block.pixels.tobytes()
    fit = ["fit", "--shards", str(tmp_path / "out"), "--k", "3", "--quiet"]
    assert main([*fit, "--output", str(tmp_path / "fit")]) == 0
    assign = ["assign", "--model", str(tmp_path / "fit"), "--input", str(tmp_path / "rows.npy")]
    assert main([*assign, "--output", str(tmp_path / "new"), "--quiet"]) == 0
    fitted, new = (pq.read_table(tmp_path / name / "assignments") for name in ("fit", "new"))
    assert new.sort_by("id").equals(fitted.sort_by("id"))


def test_components_get_length_1(tmp_path):
    path = sets.write_npz(tmp_path, *sets.digits(50))
    for number, words in enumerate([[], ["--normalize"], ["--normalize", "--num-shards", 3]]):
        flags = ["--input", path, "--output", tmp_path / str(number), "--transform", "pca:4"]
        assert shard(*flags, *words) == 0
    blocks = [sets.read_set(tmp_path / str(number))[1] for number in range(3)]
    assert blocks[1].pixels.tobytes() == Unit(None).apply(blocks[0].pixels).tobytes()
    assert blocks[2].pixels.tobytes() == blocks[1].pixels.tobytes()
    assert not feature_of("pca:4,unit").is_drawable
