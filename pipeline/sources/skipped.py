"""Files that lie among the images and are not read: they are counted, and it is said."""

import collections
import logging
import os
import re

from pipeline.sources.protocol import Request

logger = logging.getLogger(__name__)

HIDDEN = "hidden"  # takes the place of an ending
_SHOWN = 8  # endings
# Files that describe a set and hold no images of it.
_DESCRIBES = re.compile(
    r"(features|dataset_infos?|dataset_dict|state)\.json|.*\.labels\.txt|cache-.*\.arrow"
)


class Skipped(collections.Counter[str]):
    """Numbers of files by the ending of their names, in small letters; of hidden ones together."""

    def add(self, path: str) -> None:
        """Counts a file, by its path within the set, unless it describes the set."""
        name = os.path.basename(path)
        if is_hidden(path):
            self[HIDDEN] += 1
        elif not describes_set(name):
            self[os.path.splitext(name)[1].lower() or "no ending"] += 1

    def say(self, request: Request) -> None:
        """Logs a line that says how many files are not read, if there are any."""
        if not self:
            return
        seen = [f"{count:,} {ending}" for ending, count in self.most_common(_SHOWN)]
        more = [] if len(self) <= _SHOWN else ["…"]
        num_files = self.total()
        verb = "is" if num_files == 1 else "are"
        logger.warning(
            f"--input {request}: {num_files:,} {'file' if num_files == 1 else 'files'} {verb} not "
            f"read: {', '.join(seen + more)}"
        )


def is_hidden(path: str) -> bool:
    """Whether a file or a folder that it lies in is hidden, as systems and tools leave them."""
    return any(part.startswith(".") and part != "." for part in path.split("/"))


def describes_set(name: str) -> bool:
    """Whether the file of this name describes a set of images, and holds none."""
    return _DESCRIBES.fullmatch(name) is not None
