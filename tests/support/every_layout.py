"""One set of images in every layout that people have.

The set has three classes; where a layout can say so, one image has no label and two are damaged.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layout_writers as writers
import pyarrow as pa
from layout_writers import DAMAGED, Pictures, pictures


@dataclasses.dataclass(frozen=True)
class Layout:
    """A way to store a set.

    Attributes:
      write: function (folder, Pictures) → value of `--input`.
      options: fields of Request that reading needs.
      has_gaps: whether an image may lack its label.
      has_files: whether images are files, which may be damaged.
      named: whether labels are names, not their numbers.
    """

    write: Callable[[Path, Pictures], Any]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    has_gaps: bool = True
    has_files: bool = True
    named: bool = False

    def given(self, color: bool) -> Pictures:
        """The pictures that the layout is given to write."""
        return pictures(color) if self.has_gaps else pictures(color).labelled()

    def expected(self, color: bool) -> list[tuple[str | None, bytes]]:
        """Sorted (label, pixels) of the images that can be read."""
        images, labels = given = self.given(color)
        texts = given.names if self.named else [None if n < 0 else str(n) for n in labels]
        damaged = DAMAGED if self.has_files else ()
        return ordered(
            (text, image.tobytes())
            for i, (text, image) in enumerate(zip(texts, images, strict=True))
            if i not in damaged
        )


def ordered(rows) -> list[tuple[str | None, bytes]]:
    return sorted(rows, key=lambda row: (row[0] or "", row[1]))


ARRAY = {"has_files": False}
WHOLE = {"has_files": False, "has_gaps": False}
NAMED = {"named": True}
SIZE = {"options": {"image_size": (6, 6)}}
UBYTE = (0x08, "u1")

LAYOUTS: dict[str, Layout] = {
    "npz of Keras": Layout(writers.npz(images="x_train", labels="y_train"), **ARRAY),
    "npz of MedMNIST": Layout(writers.npz_medmnist, **ARRAY),
    "npz of positions": Layout(writers.npz_positional, **ARRAY),
    "npz of other names": Layout(
        writers.npz(images="photos", labels="kind"),
        {"image_column": "photos", "label_column": "kind"},
        **ARRAY,
    ),
    "npy": Layout(writers.npy, **ARRAY),
    "NPY": Layout(writers.npy_capitals, **ARRAY),
    "npy in Fortran's order": Layout(writers.npy_fortran, **ARRAY),
    "npy in another byte order": Layout(writers.npy_big_endian, **ARRAY),
    "idx": Layout(
        writers.idx(*UBYTE, "train-images-idx3-ubyte", "train-labels-idx1-ubyte"), **WHOLE
    ),
    "idx of Kaggle": Layout(
        writers.idx(*UBYTE, "train-images.idx3-ubyte", "train-labels.idx1-ubyte"), **WHOLE
    ),
    "idx of EMNIST": Layout(
        writers.idx(
            *UBYTE,
            "emnist-letters-train-images-idx3-ubyte.gz",
            "emnist-letters-train-labels-idx1-ubyte.gz",
            packed=True,
        ),
        **WHOLE,
    ),
    "idx of QMNIST": Layout(
        writers.idx(0x0C, ">i4", "qmnist-train-images-idx3-int", "qmnist-train-labels-idx2-int"),
        **ARRAY,
    ),
    "idx of shorts": Layout(
        writers.idx(0x0B, ">i2", "train-images-idx3-short", "train-labels-idx1-short"), **ARRAY
    ),
    "CSV of Kaggle": Layout(writers.csv_kaggle, **SIZE, **ARRAY),
    "CSV without header": Layout(writers.csv_without_header, **SIZE, **ARRAY),
    "CSV of texts": Layout(writers.csv_of_texts, **SIZE, **ARRAY, **NAMED),
    "folders": Layout(writers.folders, **NAMED),
    "folders of every kind": Layout(writers.folders_of_kinds, **NAMED),
    "folders of splits": Layout(writers.folders_of_splits, {"split": "all"}, **NAMED),
    "zip": Layout(writers.zipped, **NAMED),
    "tar of folders": Layout(writers.tar_of_folders, **NAMED),
    "WebDataset": Layout(writers.web_dataset),
    "WebDataset with JSON": Layout(writers.web_dataset_json, **NAMED),
    "TFRecord of Slim": Layout(
        writers.records("set.tfrecord", image="image/encoded", label="image/class/label")
    ),
    "TFRecord of TFDS": Layout(writers.records_tfds, **NAMED),
    "TFRecord of the tutorial": Layout(writers.records_tutorial, **ARRAY),
    "TFRecord of encoded image_raw": Layout(
        writers.records("set.tfrec", image="image_raw", label="label")
    ),
    "TFRecord of other names": Layout(
        writers.records("set.record", image="photo", label="kind"),
        {"image_column": "photo", "label_column": "kind"},
        has_gaps=False,
    ),
    "TFRecord by gzip": Layout(
        writers.records("a-00000-of-00001", "GZIP", image="image", label="label")
    ),
    "TFRecord by zlib": Layout(
        writers.records("set.tfrecord", "ZLIB", image="image", label="label")
    ),
    "Parquet of bytes": Layout(
        writers.parquet("image", "label", lambda given: pa.array(given.files))
    ),
    "Parquet of CIFAR": Layout(
        writers.parquet("img", "fine_label", lambda given: pa.array(given.files, pa.large_binary()))
    ),
    "Parquet of views": Layout(
        writers.parquet("jpg", "class", lambda given: pa.array(given.files, pa.binary_view()))
    ),
    "Parquet of a dictionary": Layout(
        writers.parquet("image", "label", lambda given: pa.array(given.files).dictionary_encode())
    ),
    "Parquet of other names": Layout(
        writers.parquet("photo", "kind", lambda given: pa.array(given.files), named=True),
        {"image_column": "photo", "label_column": "kind"},
        **NAMED,
    ),
    "Parquet of lists": Layout(
        writers.parquet("pixel_values", "target", lambda given: pa.array(given.images.tolist())),
        **ARRAY,
    ),
    "Parquet of tensors": Layout(writers.parquet("image", "y", writers.tensors), **ARRAY),
    "Parquet beside files": Layout(writers.files_beside, **NAMED),
    "Parquet of Hugging Face": Layout(writers.hugging_face_parquet, **NAMED),
    "Arrow of Hugging Face": Layout(writers.save_to_disk, **NAMED),
    "Arrow of splits": Layout(writers.save_splits_to_disk, **NAMED),
    "Feather": Layout(writers.feather, **NAMED),
}
