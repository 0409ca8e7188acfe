"""One set in every layout: the same labels and pixels, whatever it is stored in."""

import every_layout
import pytest
from every_layout import LAYOUTS, ordered
from sharded import shard

from pipeline.sources import open_source


@pytest.mark.parametrize("color", [False, True], ids=["grey", "colour"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_labels_and_pixels_are_those_written(tmp_path, name, color):
    layout = LAYOUTS[name]
    spec = layout.write(tmp_path, layout.given(color))
    source = open_source(spec, **layout.options)
    manifest, block = shard(source, tmp_path / "shards")
    names = [manifest.label_names[label] if label >= 0 else None for label in block.labels]
    found = ordered(zip(names, (row.tobytes() for row in block.pixels), strict=True))
    assert manifest.image_shape == ((6, 6, 3) if color else (6, 6))
    assert manifest.num_rejected == (2 if layout.has_files else 0)
    assert manifest.num_images + manifest.num_rejected == every_layout.NUM_IMAGES
    assert found == layout.expected(color)
