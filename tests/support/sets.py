"""The same images written in every format that the pipeline reads."""

import gzip
import io
import json
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.shards import plan
from pipeline.shards.block import Block, read_shard
from pipeline.shards.manifest import Manifest, load_manifest
from pipeline.shards.tfrecord import Example, frame

MNIST = Path(__file__).resolve().parents[3] / "shared" / "data" / "mnist.npz"
NO_MNIST = f"no MNIST at {MNIST}"


def digits(num_images: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random uint8 images [n, 6, 5] and labels [n] of 0, 1, 2, all of which occur."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (num_images, 6, 5)).astype(np.uint8)
    return images, np.arange(num_images) % 3


def read(source) -> Block:
    """A planned source as one block."""
    blocks = list(source.read(plan.Piece(0, 0, source.num_images)))
    labels = None if source.label_names is None else np.concatenate([b.labels for b in blocks])
    return Block(
        [image_id for block in blocks for image_id in block.ids],
        labels,
        np.concatenate([block.pixels for block in blocks]),
        weights=np.concatenate([b.weights for b in blocks])
        if source.request.wants_weights
        else None,
    )


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    """An image file's content."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def write_npz(folder: Path, images: np.ndarray, labels: np.ndarray) -> str:
    np.savez(path := folder / "set.npz", x_train=images, y_train=labels)
    return str(path)


def write_idx(folder: Path, images: np.ndarray, labels: np.ndarray, split: str = "train") -> str:
    """Packed images beside plain labels."""
    path = folder / f"{split}-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx_bytes(images), 1, mtime=0))
    (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx_bytes(labels.astype(np.uint8)))
    return str(path)


def idx_bytes(array: np.ndarray) -> bytes:
    """An idx file's content."""
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return head + array.tobytes()


def write_folder(folder: Path, images: np.ndarray, labels: np.ndarray) -> str:
    """PNG files in sub-folders named after their labels."""
    for label in np.unique(labels):
        (folder / "folder" / str(label)).mkdir(parents=True)
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        (folder / "folder" / str(label) / f"{number:05d}.png").write_bytes(encoded(pixels))
    return str(folder / "folder")


def write_tfrecord(folder: Path, images: np.ndarray, labels: np.ndarray) -> str:
    """Two files, the second of them packed."""
    half = len(images) // 2
    rows = [
        {"image/encoded": encoded(pixels), "image/class/label": int(label)}
        for pixels, label in zip(images, labels, strict=True)
    ]
    (folder / "set.tfrecord-00000-of-00002").write_bytes(records(rows[:half]))
    packed = gzip.compress(records(rows[half:]), 1, mtime=0)
    (folder / "set.tfrecord-00001-of-00002").write_bytes(packed)
    return str(folder / "set.tfrecord-*")


def example(features: dict) -> bytes:
    """A serialized tf.train.Example of bytes, str, int or lists of floats."""
    made = Example()
    for key, value in features.items():
        feature = made.features.feature[key]
        match value:
            case bytes():
                feature.bytes_list.value.append(value)
            case str():
                feature.bytes_list.value.append(value.encode())
            case int():
                feature.int64_list.value.append(value)
            case _:
                feature.float_list.value.extend(value)
    return made.SerializeToString()


def records(rows: Iterable[dict]) -> bytes:
    """A TFRecord file's content: an Example for each row."""
    return b"".join(part for row in rows for part in frame(example(row)))


def write_parquet(folder: Path, images: np.ndarray, labels: np.ndarray) -> str:
    """As Hugging Face writes it, in row groups that no shard ends with."""
    rows = [{"bytes": encoded(pixels), "path": None} for pixels in images]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(rows, kind), "label": pa.array(labels)})
    rows_of_group = 7 if len(images) < 1000 else 1000
    pq.write_table(table, path := folder / "set.parquet", row_group_size=rows_of_group)
    return str(path)


FORMATS: dict[str, Callable[[Path, np.ndarray, np.ndarray], str]] = {
    "npz": write_npz,
    "idx": write_idx,
    "folder": write_folder,
    "TFRecord": write_tfrecord,
    "Parquet": write_parquet,
}


def read_set(folder: Path | str) -> tuple[Manifest, Block]:
    """A set of shards as one block, sorted by id."""
    manifest = load_manifest(str(folder))
    blocks = [b for shard in manifest.shards for b in read_shard(str(folder), shard, manifest)]
    ids = [image_id for block in blocks for image_id in block.ids]
    order = np.argsort(ids)
    labels = None
    if manifest.label_names is not None:
        labels = np.concatenate([block.labels for block in blocks if block.labels is not None])
        labels = labels[order]
    pixels = np.concatenate([block.pixels for block in blocks])[order]
    weights = None
    if manifest.weights is not None:
        weights = np.concatenate([block.weights for block in blocks])[order]
    return manifest, Block([ids[i] for i in order], labels, pixels, weights=weights)


def contents(folder: Path | str) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def rejections(folder: Path | str) -> dict[str, str]:
    """What rejected.jsonl says: id → reason."""
    lines = (Path(folder) / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row["reason"] for row in map(json.loads, lines)}
