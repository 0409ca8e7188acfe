"""One set in every layout: the same labels and pixels, whatever it is stored in."""

import every_layout
import pytest
import sets
from every_layout import LAYOUTS, ordered

from pipeline.shards import plan
from pipeline.sources import Listed, open_source
from pipeline.write import complete_set, write_shard


def pieces_of(source, num_shards: int) -> list:
    """The pieces of a source, as the pipeline cuts it."""
    if not isinstance(source, Listed):
        return plan.pieces(source.num_images, num_shards)
    listed = (found for part in source.parts() for found in source.list_part(part))
    chunks: dict[int, list] = {number: [] for number in range(num_shards)}
    for number, chunk in plan.grouped(listed, num_shards):
        chunks[number].append(chunk)
    return [plan.Listing(*item) for item in chunks.items()]


def shard(source, folder, num_shards: int = 3):
    """Writes a source as shards, without an engine."""
    pieces = pieces_of(source, num_shards)
    written = [write_shard(source, piece, str(folder), num_shards) for piece in pieces]
    complete_set(source, written, str(folder), num_shards)
    return sets.read_set(folder)


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
