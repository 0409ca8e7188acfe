"""Models for other programs answer with the published assignments."""

import sys

import numpy as np
import onnxruntime
import pytest
import sets
import tensorflow as tf

from job.cli import main
from job.config import ExportConfig
from job.export import export
from job.result import onnx_model
from pipeline.errors import UserError

IMAGES = {
    "uint8": sets.digits(200)[0],
    "float32": np.random.default_rng(0).normal(size=(200, 12)).astype(np.float32),
    "far away": (np.random.default_rng(0).normal(size=(200, 12)) + 1e5).astype(np.float32),
}


@pytest.fixture(scope="module", params=IMAGES)
def pair(request, fit, make_shards):
    """Images, and a result."""
    images = IMAGES[request.param]
    return images, fit(make_shards(images, num_shards=2), 7, saved_model=True)


def answers(images: np.ndarray, path: str) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


def test_onnx_says_what_was_published(pair, tmp_path):
    images, result = pair
    assert export(ExportConfig(run=str(result.folder), output=str(tmp_path), what="onnx")) == 0
    said = answers(images, str(tmp_path / "model.onnx"))
    np.testing.assert_array_equal(said["cluster"], result.clusters)
    np.testing.assert_allclose(said["distance"], result.distances, rtol=2e-7)
    if images.dtype == np.uint8:
        np.testing.assert_array_equal(said["distance"], result.distances)
    assert said["cluster"].dtype == np.int32
    model = tf.saved_model.load(str(result.folder / "model"))
    expected = model.signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(said["distances"], expected["distances"], rtol=1e-5, atol=1e-6)
    alone = answers(images[:1], str(tmp_path / "model.onnx"))
    np.testing.assert_allclose(alone["distances"], said["distances"][:1], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_ties_go_to_the_lowest_cluster(tmp_path, dtype):
    scale = 255 if dtype == "uint8" else 1
    centroids = np.array([[40, 0], [0, 0], [40, 0], [20, 20]], np.float32) / np.float32(scale)
    (tmp_path / "model.onnx").write_bytes(onnx_model.onnx_model(centroids, (2,), dtype))
    images = np.array([[40, 0], [0, 1], [20, 10]], dtype)
    said = answers(images, str(tmp_path / "model.onnx"))
    assert said["cluster"].tolist() == [0, 1, 3]
    np.testing.assert_allclose(said["distance"] * scale, [0, 1, 10], rtol=1e-6)


def test_one_cluster(tmp_path):
    model = onnx_model.onnx_model(np.ones((1, 2), np.float32), (2,), "float32")
    (tmp_path / "model.onnx").write_bytes(model)
    said = answers(np.array([[4, 5]], np.float32), str(tmp_path / "model.onnx"))
    assert said["cluster"].tolist() == [0]
    assert said["distance"].tolist() == said["distances"][0].tolist() == [5]


def test_serving_finds_the_model_as_version_1(pair, tmp_path, capsys):
    images, result = pair
    flags = ["--run", str(result.folder), "--output", str(tmp_path / "out"), "--what", "serving"]
    assert main(["export", *flags]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["1"]
    model = tf.saved_model.load(str(tmp_path / "out" / "1"))
    said = model.signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_array_equal(said["cluster"], result.clusters)


@pytest.mark.parametrize("what", ["onnx", "serving"])
def test_what_is_there_stays(pair, tmp_path, what):
    asked = {"run": str(pair[1].folder), "output": str(tmp_path), "what": what}
    with pytest.raises(UserError, match=f"--per-cluster: not with --what {what}, which exports no"):
        export(ExportConfig(**asked, per_cluster=2))
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="is there already; give a new or empty folder"):
        export(ExportConfig(**asked))


def test_without_onnx(pair, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    message = r"--what onnx: needs onnx: pip install 'kmeans-job\[onnx\]' \(in a checkout: pip"
    with pytest.raises(UserError, match=message):
        export(ExportConfig(run=str(pair[1].folder), output=str(tmp_path / "out"), what="onnx"))
    assert not (tmp_path / "out").exists()
