"""Every format: the same images give the same pixels and labels."""

import numpy as np
import pytest
import sets

from pipeline.__main__ import main


def shard(*arguments: str) -> int:
    return main([*arguments, "--quiet"])


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("kind", sets.FORMATS)
def test_pixels_and_labels_are_those_written(tmp_path, kind, num_shards):
    images, labels = sets.digits()
    spec = sets.FORMATS[kind](tmp_path, images, labels)
    out = tmp_path / "shards"
    assert shard("--input", spec, "--output", str(out), "--num-shards", str(num_shards)) == 0
    manifest, block = sets.read_set(out)
    assert len(manifest.shards) == num_shards
    assert manifest.image_shape == (6, 5)
    assert manifest.label_names == ("0", "1", "2")
    assert manifest.num_rejected == 0
    # Ids of a folder are its paths, sorted by label first.
    order = np.argsort(labels, kind="stable") if kind == "folder" else np.arange(len(images))
    np.testing.assert_array_equal(block.pixels, images[order].reshape(len(images), -1))
    np.testing.assert_array_equal(block.labels, labels[order])
