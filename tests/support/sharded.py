"""Sources written as shards, piece by piece, without an engine."""

from pathlib import Path

import sets

from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.shards.manifest import Manifest
from pipeline.sources import Listed
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


def shard(source, folder: Path, num_shards: int = 3) -> tuple[Manifest, Block]:
    """Writes a source to `folder`; what is there then, as one block sorted by id."""
    pieces = pieces_of(source, num_shards)
    written = [write_shard(source, piece, str(folder), num_shards) for piece in pieces]
    complete_set(source, written, str(folder), num_shards)
    return sets.read_set(folder)
