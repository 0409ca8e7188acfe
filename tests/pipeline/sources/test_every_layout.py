"""One set in every layout: the same labels and pixels, whatever it is stored in."""

import numpy as np
import pytest
from every_layout import LAYOUTS, ordered
from layout_writers import NUM_IMAGES
from sharded import shard

from pipeline.sources import open_source


@pytest.mark.parametrize("color", [False, True], ids=["grey", "colour"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_labels_and_pixels_are_those_written(tmp_path, name, color):
    layout = LAYOUTS[name]
    spec = layout.write(tmp_path, layout.given(color))
    source = open_source(spec, **layout.options)
    manifest, block = shard(source, tmp_path / "shards", num_shards=2)
    names = [manifest.label_names[label] if label >= 0 else None for label in block.labels]
    found = ordered(zip(names, (row.tobytes() for row in block.pixels), strict=True))
    assert manifest.image_shape == ((6, 6, 3) if color else (6, 6))
    assert manifest.num_rejected == (2 if layout.has_files else 0)
    assert manifest.num_images + manifest.num_rejected == NUM_IMAGES
    assert found == layout.expected(color)


def test_inertia_is_the_same_from_one_start(cpus, tmp_path):
    from job.config import FitConfig
    from job.fit import fit

    start = np.random.default_rng(0).random((5, 108), np.float32)
    np.save(tmp_path / "start.npy", start)
    found = set()
    for name in ("folders", "WebDataset with JSON", "Parquet of Hugging Face"):
        (folder := tmp_path / name).mkdir()
        spec = LAYOUTS[name].write(folder, LAYOUTS[name].given(True))
        shard(open_source(spec), folder / "shards")
        config = FitConfig(
            shards=str(folder / "shards"),
            output=str(folder / "fit"),
            k=5,
            init=str(tmp_path / "start.npy"),
        )
        metrics = fit(config)
        found.add((metrics["inertia"], metrics["iterations"], metrics["purity"]))
    assert len(found) == 1
