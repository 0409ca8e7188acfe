"""Sets in .npz files: x_train and y_train (Keras), train_images (MedMNIST), arr_0, or any names."""

import logging
import re
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

from pipeline import storage
from pipeline.errors import UserError, decoding
from pipeline.sources.arrays.array import Array
from pipeline.sources.arrays.source import ArrayPart, id_folders, make_part, make_source
from pipeline.sources.columns import IMAGE_NAMES, LABEL_NAMES, shown
from pipeline.sources.pictures.converted import converted
from pipeline.sources.protocol import Planned, Request
from pipeline.sources.splits import SPLIT_WORDS, split_named

logger = logging.getLogger(__name__)

_IMAGES = (*IMAGE_NAMES, "imgs", "arr_0", "")  # "": the name of a split alone
_LABELS = (*LABEL_NAMES, "classes", "arr_1")
_WHOLE = "train"  # what an array without a split counts as


class Key(NamedTuple):
    """The name of an array.

    Attributes:
      split: that the name tells; "" if none.
      role: the name without the split, in small letters: x of x_train, images of train_images.
    """

    name: str
    split: str
    role: str


def open_npz(request: Request, paths: list[str]) -> Planned:
    """Opens .npz files with an array of images, or one for each split, and arrays of labels.

    Raises:
      UserError: there is no such array, or not of the split.
    """
    parts: list[ArrayPart] = []
    for path, folder in zip(paths, id_folders(paths), strict=True):
        with storage.open_read(path) as file, decoding(path, "an npz file"):
            # numpy.load also reads members whose names do not end with .npy.
            members = {n.removesuffix(".npy"): n for n in zipfile.ZipFile(file).namelist()}
        keys = [_key(name) for name in members]
        for image in _images(keys, path, members, request):
            label = _labels(keys, image, path, request)
            weight = _weights(keys, image, path, request)
            parts.append(
                make_part(
                    folder + (image.split or _WHOLE),
                    Array(path, members[image.name]),
                    Array(path, members[label.name]) if label else None,
                    Array(path, members[weight.name]) if weight else None,
                )
            )
    return converted(make_source(request, parts))


def _key(name: str) -> Key:
    words = [word for word in re.split(r"[\W_]+", name.lower()) if word]
    split = next(filter(None, map(split_named, words)), "")
    return Key(name, split, "_".join(word for word in words if not split_named(word)))


def _images(keys: Sequence[Key], path: str, members: dict[str, str], request: Request) -> list[Key]:
    """Chooses the arrays of images of the request's split."""
    if asked := request.image_column:
        found = [key for key in keys if key.name == asked]
        found = found or [key for key in keys if key.role == asked.lower() and key.split]
        if not found:
            raise UserError(_missing("--image-column", asked, path, keys))
    else:
        found = _first_of_each_split(keys, _IMAGES, request)
        if not found and (only := _only_images(keys, path, members)):
            found = [only]
    if any(key.split for key in found):
        found = [key for key in found if key.split]
    elif found:
        request.refuse_test_split()
        return found
    if asked and len(found) == 1:
        return found
    order = list(SPLIT_WORDS)
    wanted = [key for key in found if request.split in ("all", key.split)]
    if not wanted and found:
        raise UserError(
            f"--split {request.split}: {path} has no x_{request.split}, only "
            f"{shown(sorted(key.name for key in keys))}; give a --split that it has"
        )
    if not wanted:
        raise UserError(
            f"{path}: no array of images under a usual name (x_train, images, arr_0, …), only "
            f"{shown(sorted(key.name for key in keys))}; name one with --image-column"
        )
    return sorted(wanted, key=lambda key: order.index(key.split))


def _labels(keys: Sequence[Key], image: Key, path: str, request: Request) -> Key | None:
    """Chooses the array of labels that belongs to an array of images."""
    if not request.wants_labels:
        return None
    if asked := request.label_column:
        return _named("--label-column", asked, keys, image, path)
    of_split = [key for key in keys if key.split == image.split and key is not image]
    found = _first_of_each_split(of_split, _LABELS, request)
    return found[0] if found else None


def _weights(keys: Sequence[Key], image: Key, path: str, request: Request) -> Key | None:
    """Returns the array of weights that belongs to an array of images; None if none is wanted."""
    if not request.wants_weights:
        return None
    return _named("--weight-column", str(request.weight_column), keys, image, path)


def _named(flag: str, asked: str, keys: Sequence[Key], image: Key, path: str) -> Key:
    """Finds the array that is asked for by its name, or by it without the split of `image`."""
    of_split = [key for key in keys if key.split == image.split and key is not image]
    found = [key for key in of_split if key.name == asked or key.role == asked.lower()]
    found = found or [key for key in keys if key.name == asked]
    if not found:
        raise UserError(_missing(flag, asked, path, keys))
    return found[0]


def _first_of_each_split(keys: Sequence[Key], roles: Sequence[str], request: Request) -> list[Key]:
    """Returns of each split the array whose role comes first among `roles`; says the choice."""
    found: dict[str, list[Key]] = {}
    for key in sorted(
        (key for key in keys if key.role in roles), key=lambda k: roles.index(k.role)
    ):
        found.setdefault(key.split, []).append(key)
    for first, *others in found.values():
        if others:
            flag = "--image-column" if roles is _IMAGES else "--label-column"
            names = ", ".join(key.name for key in others)
            logger.warning(
                f"--input {request}: {first.name} is read, not {names}; {flag} chooses another"
            )
    return [first for first, *_ in found.values()]


def _only_images(keys: Sequence[Key], path: str, members: dict[str, str]) -> Key | None:
    """Returns the one array that may hold images, of rank 2 to 4; None if there are several."""
    ranks = [(len(Array(path, members[key.name]).header()[0]), key) for key in keys]
    found = [key for rank, key in ranks if 2 <= rank <= 4]
    return found[0] if len(found) == 1 else None


def _missing(flag: str, asked: str, path: str, keys: Sequence[Key]) -> str:
    return f"{flag} {asked}: {path} has no such array, only {shown(sorted(k.name for k in keys))}"
