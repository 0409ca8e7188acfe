"""Several steps: the vectors of one are what the next one works on."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import sets

from job.cli import main
from pipeline.errors import UserError
from pipeline.features import FORMS, feature_of, first_feature, keras_model, specification
from pipeline.features.chain import ChainFeature, LearnedChainFeature
from pipeline.features.kept import keep, read_kept
from pipeline.features.pca import Pca
from pipeline.features.source import load
from pipeline.features.unit import Unit
from pipeline.shards.block import Block
from pipeline.shards.rejected import Rejection
from pipeline.sources.labels import Unnamed


@pytest.fixture(scope="module")
def model(cpus, new_folder) -> str:
    """A saved model that makes six numbers of a 6 × 5 image."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Flatten(), keras.layers.Dense(6, activation="relu")]
    keras.Sequential([keras.Input((6, 5)), *layers]).save(path := new_folder() / "a,b.keras")
    return str(path)


def shard(path, folder, *words) -> int:
    flags = ["--input", str(path), "--output", str(folder), "--quiet"]
    return main(["shard", *flags, *map(str, words)])


def test_specifications():
    assert specification("keras:a,b.keras,pca:007") == "keras:a,b.keras,pca:7"
    chain = feature_of("keras:a,b.keras,pca:7,unit")
    assert isinstance(chain, LearnedChainFeature)
    assert (len(chain.steps), chain.normalize, chain.file) == (2, True, "transform.zip")
    assert not isinstance(feature_of("keras:a.keras,keras:b.keras"), LearnedChainFeature)
    assert first_feature("keras:a,b.keras,pca:7,unit") == feature_of("keras:a,b.keras")
    with pytest.raises(ValueError, match=f"'pca:x' is neither {FORMS[0]} nor "):
        specification("keras:a.keras,pca:x")
    with pytest.raises(UserError, match="--transform: pca:N can only be the last of several"):
        feature_of("pca:7,keras:a.keras")


def test_a_model_is_loaded_once(tmp_path, monkeypatch, model):
    import keras

    loaded, load_model = [], keras_model._load
    monkeypatch.setattr(
        keras_model, "_load", lambda *paths: loaded.append(paths) or load_model(*paths)
    )
    keras_model._embedding.cache_clear()
    chain = feature_of(f"keras:{model},pca:2")
    assert chain.num_features((6, 5), "uint8") == 2
    chain.save(path := str(tmp_path / chain.file), (6, 5), "uint8")
    pixels = sets.digits(3)[0][:, :6, :5].reshape(3, 30)
    vectors = chain.first(path, (6, 5), "uint8").apply(pixels)
    assert len(loaded) == 1
    # What decides is the content, not the path.
    (altered := keras.models.load_model(model)).set_weights([w + 1 for w in altered.get_weights()])
    altered.save(other := str(tmp_path / "model.keras"))
    changed = feature_of(f"keras:{other}").load(other, (6, 5), "uint8").apply(pixels)
    assert len(loaded) == 2
    assert not np.array_equal(changed, vectors)


def test_what_is_kept_between_two_passes(tmp_path):
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    block = Block(["a", "b", "c"], np.array([1, -1, 0]), vectors, [b"x", b"y", b"z"])
    bare = Block(["d"], None, vectors[:1])
    others = [Rejection("e", "damaged"), Unnamed("cat"), Unnamed(7)]
    path = str(tmp_path / "kept")
    assert list(keep(iter([block, *others, bare]), path)) == [block, *others, bare]
    first, *passed, last = read_kept(path)
    assert passed == others
    assert (first.ids, first.thumbnails) == (block.ids, block.thumbnails)
    assert first.labels.tolist() == [1, -1, 0]
    np.testing.assert_array_equal(first.pixels, vectors)
    assert (last.ids, last.labels.tolist(), last.thumbnails) == (["d"], [-1], None)


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_the_same_set_however_it_is_sharded(tmp_path, model, kind):
    path = sets.FORMATS[kind](tmp_path, *sets.digits(90))
    if kind == "folder":
        (tmp_path / "folder" / "0" / "broken.png").write_bytes(b"")
    spec = f"keras:{model},pca:3"
    found = []
    for count in (1, 2, 7):
        words = ["--transform", spec, "--normalize", "--num-shards", count, "--max-rejected", 1]
        assert shard(path, tmp_path / str(count), *words) == 0
        found.append(sets.read_set(tmp_path / str(count)))
        names = sorted(file.name for file in (tmp_path / str(count)).iterdir())
        assert not [name for name in names if name.endswith((".tmp", ".partial"))]
        assert ("rejected.jsonl" in names) == (kind == "folder")
    (manifest, vectors), *others = found
    assert manifest.transform.spec == f"{spec},unit"
    for other, again in others:
        assert again.pixels.tobytes() == vectors.pixels.tobytes()
        assert again.labels.tolist() == vectors.labels.tolist()
        assert (other.fingerprint, other.transform) == (manifest.fingerprint, manifest.transform)
    assert shard(path, tmp_path / "plain", "--max-rejected", 1) == 0
    _, images = sets.read_set(tmp_path / "plain")
    embedding = feature_of(f"keras:{model}").load(model, (6, 5), "uint8")
    transform = load(str(tmp_path / "1"), manifest.transform)
    pca = transform.steps[1]
    assert isinstance(pca, Pca)
    expected = Unit(None).apply(pca.apply(embedding.apply(images.pixels)))
    assert transform.apply(images.pixels).tobytes() == expected.tobytes()
    np.testing.assert_allclose(vectors.pixels, expected, atol=1e-6)


def test_a_result_and_new_images(tmp_path, model):
    path = sets.write_npz(tmp_path, *sets.digits(60))
    out = str(tmp_path / "out")
    command = ["run", "--input", path, "--output", out, "--k", "3", "--quiet", "--transform"]
    assert main([*command, f"keras:{model},pca:2"]) == 0
    assert (tmp_path / "out" / "transform.zip").exists()
    assign = ["assign", "--model", out, "--input", path, "--output", str(tmp_path / "new")]
    assert main([*assign, "--quiet"]) == 0
    rows = [pq.read_table(tmp_path / name / "assignments") for name in ("out", "new")]
    assert rows[0].sort_by("id")["cluster"].equals(rows[1].sort_by("id")["cluster"])
    chain = feature_of(f"keras:{model},pca:2")
    assert isinstance(chain, ChainFeature)
    assert chain.is_same(str(tmp_path / "out" / "transform.zip"))
    with open(model, "ab") as file:
        file.write(b"another")
    assert not chain.is_same(str(tmp_path / "out" / "transform.zip"))
