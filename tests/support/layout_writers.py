"""Writers of one set of images in every layout, with the libraries that people use.

A writer is a function (folder, Pictures) → value of `--input`.
"""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sets
from PIL import Image

NAMES = ("cat", "dog", "élan")
NUM_IMAGES = 300
DAMAGED = (100, 200)
UNLABELLED = 42


class Pictures(NamedTuple):
    """Images [n, 6, 6] or [n, 6, 6, 3] and their labels [n], −1 where there is none."""

    images: np.ndarray
    labels: np.ndarray

    @property
    def names(self) -> list[str | None]:
        return [None if label < 0 else NAMES[label] for label in self.labels]

    @property
    def files(self) -> list[bytes]:
        """Contents of PNG files, of which two are damaged."""
        made = [sets.encoded(pixels) for pixels in self.images]
        return [data[:60] if i in DAMAGED else data for i, data in enumerate(made)]

    def labelled(self) -> "Pictures":
        """The same images, all of which have a label."""
        return self._replace(labels=np.arange(len(self.images)) % 3)


def pictures(color: bool) -> Pictures:
    """Random images, grey or in colour; two calls return the same ones."""
    rng = np.random.default_rng(7)
    shape = (NUM_IMAGES, 6, 6, 3) if color else (NUM_IMAGES, 6, 6)
    images = rng.integers(0, 256, shape).astype(np.uint8)
    images += 80 * (images < 85).astype(np.uint8)  # more of some values than of others
    labels = np.arange(NUM_IMAGES) % 3
    labels[UNLABELLED] = -1
    return Pictures(images, labels)


def put(path: Path, data: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


# Arrays.


def npz(**names: str) -> Callable[[Path, Pictures], str]:
    """A writer of .npz files whose arrays have these names."""

    def write(folder: Path, given: Pictures) -> str:
        arrays = {names["images"]: given.images, names["labels"]: given.labels}
        np.savez(path := folder / "set.npz", **arrays)
        return str(path)

    return write


def npz_medmnist(folder: Path, given: Pictures) -> str:
    arrays = {"train_images": given.images, "train_labels": given.labels[:, None]}
    others = {
        f"{split}_{name.partition('_')[2]}": array[:2]
        for split in ("val", "test")
        for name, array in arrays.items()
    }
    np.savez_compressed(path := folder / "set.npz", **arrays, **others)
    return str(path)


def npz_positional(folder: Path, given: Pictures) -> str:
    np.savez(path := folder / "set.npz", given.images, given.labels)
    return str(path)


def npy(folder: Path, given: Pictures, name: str = "set.npy") -> str:
    with (folder / name).open("wb") as file:
        np.save(file, given.images)
    np.save(folder / f"{name[:-4]}_labels.npy", given.labels)
    return str(folder / name)


def npy_capitals(folder: Path, given: Pictures) -> str:
    return npy(folder, given, "set.NPY")


def npy_fortran(folder: Path, given: Pictures) -> str:
    return npy(folder, given._replace(images=np.asfortranarray(given.images)))


def npy_big_endian(folder: Path, given: Pictures) -> str:
    return npy(folder, Pictures(given.images.astype(">u2"), given.labels.astype(">i4")))


def idx(kind: int, dtype: str, images: str, labels: str, packed: bool = False):
    """A writer of idx files of a type, with these names."""

    def content(array: np.ndarray) -> bytes:
        sides = b"".join(side.to_bytes(4, "big") for side in array.shape)
        return bytes([0, 0, kind, array.ndim]) + sides + array.astype(dtype).tobytes()

    def write(folder: Path, given: Pictures) -> str:
        pack = gzip.compress if packed else bytes
        columns = np.stack([given.labels] * 8, axis=1) if "idx2" in labels else given.labels
        put(folder / labels, pack(content(columns)))
        return put(
            folder / images.replace("idx3", f"idx{given.images.ndim}"), pack(content(given.images))
        )

    return write


def csv_kaggle(folder: Path, given: Pictures) -> str:
    import pandas as pd

    flat = given.images.reshape(len(given.images), -1)
    table = pd.DataFrame(flat, columns=[f"pixel{i}" for i in range(flat.shape[1])])
    table.insert(0, "label", given.labels)
    table.to_csv(path := folder / "train.csv", index=False)
    return str(path)


def csv_without_header(folder: Path, given: Pictures) -> str:
    flat = given.images.reshape(len(given.images), -1)
    text = io.StringIO()
    np.savetxt(text, np.column_stack([given.labels, flat]), fmt="%d", delimiter=",")
    return put(folder / "set.csv.gz", gzip.compress(text.getvalue().encode()))


def csv_of_texts(folder: Path, given: Pictures) -> str:
    import pandas as pd

    texts = [" ".join(map(str, image.reshape(-1))) for image in given.images]
    table = pd.DataFrame({"class": given.names, "pixels": texts, "Usage": "Training"})
    table.to_csv(path := folder / "set.csv", index=False)
    return str(path)


# Files.


def paths_of(given: Pictures, ending: str = "png") -> list[str]:
    """A path of each image, in the folder of its class, or in none."""
    return [
        f"{name}/{i:03d}.{ending}" if name else f"{i:03d}.{ending}"
        for i, name in enumerate(given.names)
    ]


def folders(folder: Path, given: Pictures) -> str:
    for path, data in zip(paths_of(given), given.files, strict=True):
        put(folder / "set" / path, data)
    return str(folder / "set")


KINDS = {
    "PNG": ("png", {}),
    "bmp": ("bmp", {}),
    "TIFF": ("tiff", {}),
    "tif": ("tiff", {"compression": "tiff_lzw"}),
    "ppm": ("ppm", {}),
    "jp2": ("jpeg2000", {}),
}


def folders_of_kinds(folder: Path, given: Pictures) -> str:
    """Every format that loses nothing."""
    for i, (path, data) in enumerate(zip(paths_of(given, ""), given.files, strict=True)):
        ending, (kind, options) = list(KINDS.items())[i % len(KINDS)]
        if i not in DAMAGED:
            Image.fromarray(given.images[i]).save(buffer := io.BytesIO(), kind, **options)
            data = buffer.getvalue()
        put(folder / "set" / f"{path}{ending}", data)
    return str(folder / "set")


def folders_of_splits(folder: Path, given: Pictures) -> str:
    for i, (path, data) in enumerate(zip(paths_of(given), given.files, strict=True)):
        put(folder / "set" / ("test" if i % 2 else "train") / path, data)
    return str(folder / "set")


def zipped(folder: Path, given: Pictures) -> str:
    with zipfile.ZipFile(folder / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("photos")
        for path, data in zip(paths_of(given), given.files, strict=True):
            archive.writestr(f"photos/{path}", data)
    return str(folder / "set.zip")


def tar_of_folders(folder: Path, given: Pictures) -> str:
    Path(folders(folder, given)).rename(folder / "photos")
    with tarfile.open(folder / "set.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(folder / "photos", "./photos")
    return str(folder / "set.tar.gz")


def web_dataset(folder: Path, given: Pictures) -> str:
    import webdataset

    with webdataset.ShardWriter(str(folder / "set-%03d.tar"), maxcount=130, verbose=0) as writer:
        for i, (name, data) in enumerate(zip(given.names, given.files, strict=True)):
            label = {} if name is None else {"cls": NAMES.index(name)}
            writer.write({"__key__": f"{i:05d}", "png": data, **label})
    return str(folder / "set-*.tar")


def web_dataset_json(folder: Path, given: Pictures) -> str:
    import webdataset

    with webdataset.TarWriter(str(folder / "set.tar")) as writer:
        for i, (name, data) in enumerate(zip(given.names, given.files, strict=True)):
            facts = {"caption": f"a {name}", "label": name}
            writer.write({"__key__": f"a/{i:05d}", "png": data, "json": facts})
    return str(folder / "set.tar")


# Records.


def records(name: str, compression: str = "", **keys: str):
    """A writer of TFRecord files with TensorFlow; `keys` are the features of image and label."""

    def write(folder: Path, given: Pictures) -> str:
        import tensorflow as tf

        rows = (
            {keys["image"]: data} | ({} if label < 0 else {keys["label"]: int(label)})
            for data, label in zip(given.files, given.labels, strict=True)
        )
        options = tf.io.TFRecordOptions(compression_type=compression)
        with tf.io.TFRecordWriter(str(folder / name), options) as writer:
            for row in rows:
                writer.write(sets.example(row))
        return str(folder / name)

    return write


def records_tfds(folder: Path, given: Pictures) -> str:
    """A folder as TensorFlow Datasets leaves it."""
    (home := folder / "set" / "1.0.0").mkdir(parents=True)
    records("set-train.tfrecord-00000-of-00001", image="image", label="label")(home, given)
    test = given._replace(images=given.images[:2], labels=given.labels[:2])
    records("set-test.tfrecord-00000-of-00001", image="image", label="label")(home, test)
    (home / "label.labels.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    (home / "features.json").write_text("{}")
    (home / "dataset_info.json").write_text("{}")
    return str(home)


def records_tutorial(folder: Path, given: Pictures) -> str:
    """Pixels without encoding, with their sides."""
    height, width, *depth = given.images.shape[1:]
    sides = {"height": height, "width": width, "depth": depth[0] if depth else 1}
    rows = [
        {"image_raw": pixels.tobytes(), **sides} | ({} if label < 0 else {"label": int(label)})
        for pixels, label in zip(given.images, given.labels, strict=True)
    ]
    return put(folder / "set.tfrecords", sets.records(rows))


# Tables.


def parquet(image: str, label: str, column: Callable[[Pictures], pa.Array], named: bool = False):
    """A writer of Parquet files with these columns, in row groups that no shard ends with."""

    def write(folder: Path, given: Pictures) -> str:
        labels = given.names if named else [None if n < 0 else int(n) for n in given.labels]
        table = pa.table({"id": range(len(labels)), label: labels, image: column(given)})
        pq.write_table(table, path := folder / "set.parquet", row_group_size=70)
        return str(path)

    return write


def tensors(given: Pictures) -> pa.ExtensionArray:
    return pa.FixedShapeTensorArray.from_numpy_ndarray(given.images)


def feather(folder: Path, given: Pictures) -> str:
    import pandas as pd

    labels = pd.Series(given.names, dtype="category")
    frame = pd.DataFrame({"image": given.files, "label": labels})
    frame.to_feather(path := folder / "set.feather")
    return str(path)


def files_beside(folder: Path, given: Pictures) -> str:
    """A table whose images are files that it names."""
    for i, data in enumerate(given.files):
        put(folder / "images" / f"{i}.png", data)
    rows = [{"bytes": None, "path": f"images/{i}.png"} for i in range(len(given.files))]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(rows, kind), "label": given.names})
    pq.write_table(table, path := folder / "set.parquet")
    return str(path)


def hugging_face(given: Pictures):
    """A set of Hugging Face's library; damaged files are written as they are."""
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))}
    )
    rows = [{"bytes": data, "path": None} for data in given.files]
    labels = [None if label < 0 else int(label) for label in given.labels]
    return datasets.Dataset.from_dict({"image": rows, "label": labels}, features=features)


def hugging_face_parquet(folder: Path, given: Pictures) -> str:
    """As `push_to_hub` leaves it."""
    (folder / "set" / "data").mkdir(parents=True)
    made = hugging_face(given)
    made.to_parquet(str(folder / "set" / "data" / "train-00000-of-00001.parquet"))
    made.select(range(2)).to_parquet(str(folder / "set" / "data" / "test-00000-of-00001.parquet"))
    (folder / "set" / "README.md").write_text("---\nlicense: mit\n---\n")
    return str(folder / "set")


def save_to_disk(folder: Path, given: Pictures) -> str:
    hugging_face(given).save_to_disk(str(folder / "set"), num_shards=2)
    return str(folder / "set")


def save_splits_to_disk(folder: Path, given: Pictures) -> str:
    import datasets

    made = hugging_face(given)
    both = datasets.DatasetDict({"train": made, "test": made.select(range(2))})
    both.save_to_disk(str(folder / "set"))
    return str(folder / "set")
