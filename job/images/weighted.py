"""Rows that count as several images, or as any weight says.

Whole weights are copies of a row: what is chosen by hash is chosen among these, which have the ids
that they would have in a file with each row repeated. So a fit has the bits of a fit of that file.
Other weights are rounded to a grid, and rows are drawn in proportion to them.
"""

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from job import hashing
from job.distribute.replicas import Replicas
from job.images.rows import Loaded, Rows
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.shards.ids import numbered_ids
from pipeline.shards.manifest import Manifest, WeightsEntry

# Whole weights are copies as long as there are no more of these.
MOST_COPIES = 1 << 26
# Other weights are multiples of the power of two above the largest, divided by this.
STEPS = 1 << 20
# Sums of bytes are exact in float64 if the weights add up to no more units.
MOST_UNITS = 1 << 45
COPIES_AT_A_TIME = 1 << 16  # whose ids are in memory


def unit_of(weights: WeightsEntry, num_rows: int) -> float:
    """Returns the unit that the weights of so many rows are rounded to multiples of."""
    steps = min(STEPS, 1 << int(math.log2(MOST_UNITS / num_rows)))
    if weights.are_whole and weights.largest <= steps:
        return 1.0
    return math.ldexp(1.0, math.frexp(weights.largest)[1]) / steps


def in_units(weights: np.ndarray, unit: float) -> np.ndarray:
    """Rounds weights, float64 [n], to whole multiples of a unit, and returns these."""
    return np.rint(weights / unit)


def block_weights(block: Block, manifest: Manifest) -> np.ndarray | None:
    """Returns the weights of a block's images in their unit, float64 [B]; None: all count once."""
    if manifest.weights is None:
        return None
    assert block.weights is not None  # the manifest says that there are some
    return in_units(block.weights, unit_of(manifest.weights, manifest.num_images))


class Run(NamedTuple):
    """Rows of a replica that follow each other, in one shard and with ids of one kind.

    Attributes:
      start, stop: the rows in the replica.
      shard: the number of the shard.
      prefix: of ids such as train/00042; None where the images bring ids of their own.
    """

    replica: int
    start: int
    stop: int
    shard: int
    prefix: str | None


class WeightedRows(Rows):
    """Implements `Rows` with weights.

    Attributes:
      units: the weights of all rows, whole multiples of `unit`, float64 [n_r] for each replica.
    """

    def __init__(self, manifest: Manifest, weights: WeightsEntry, counts: list[int]):
        """Makes room for `counts` rows of each replica, of a set that has these weights."""
        super().__init__(manifest, counts)
        self.unit = unit_of(weights, manifest.num_images)
        self.units: list[np.ndarray] = [np.zeros(count) for count in counts]
        self._numbers = {shard.file: number for number, shard in enumerate(manifest.shards)}
        self._runs: list[Run] = []
        self._repeats: list[np.ndarray] = []
        self._ends: list[np.ndarray] = []

    def add(self, loaded: Loaded) -> None:
        super().add(loaded)
        weights = loaded.block.weights
        assert weights is not None  # the manifest says that there are some
        self.units[loaded.replica][loaded.rows] = in_units(weights[loaded.part], self.unit)
        if self.unit == 1:
            self._note_runs(loaded)

    def _note_runs(self, loaded: Loaded) -> None:
        start, shard = loaded.rows.start, self._numbers[loaded.shard.file]
        for prefix, ids in itertools.groupby(map(_prefix_of, loaded.ids)):
            stop = start + sum(1 for _ in ids)
            self._runs.append(Run(loaded.replica, start, stop, shard, prefix))
            start = stop

    def settle(self, replicas: Replicas) -> None:
        mine = sum(int(part.sum()) for part in self.units)
        (total,) = replicas.all_reduce([np.array([mine])])[0].tolist()
        self.num_images = total
        self.copies = self.units
        if self.unit == 1 and total <= MOST_COPIES:
            self._repeats = [part.astype(np.int64) for part in self.units]
            self.digests = self._digests_of_copies(replicas)
        else:
            # A row without a weight is no image.
            self._repeats = [(part > 0).astype(np.int64) for part in self.units]
            self.digests = self.by_image(self.digests)
            self.weights = self.by_image(self.units)
        self._ends = [np.cumsum(part) for part in self._repeats]

    def by_image(self, values: list[np.ndarray]) -> list[np.ndarray]:
        return [np.repeat(part, own) for part, own in zip(values, self._repeats, strict=True)]

    def of_images(self, replica: int, images: list[int]) -> list[int]:
        return np.searchsorted(self._ends[replica], images, side="right").tolist()

    def weighed(self, values: list[np.ndarray]) -> list[np.ndarray]:
        if self.weights is None:
            return values
        return [part * own for part, own in zip(values, self.weights, strict=True)]

    def counting(self, replica: int, rows: slice, pixels: np.ndarray) -> np.ndarray:
        counts = self.units[replica][rows] > 0
        return pixels if counts.all() else pixels[counts]

    def silence(self, replica: int, rows: slice, values: np.ndarray) -> None:
        values[self.units[replica][rows] == 0] = 0

    def _digests_of_copies(self, replicas: Replicas) -> list[np.ndarray]:
        """Makes the digests of all copies, as those of the rows of a file that repeats rows."""
        starts = _first_numbers(replicas.all_reduce([self._ends_of_shards()])[0])
        made: list[list[np.ndarray]] = [[np.empty(0, np.uint64)] for _ in self.digests]
        for shard, runs in itertools.groupby(self._runs, key=lambda run: run.shard):
            number, prefix = starts[shard], None
            for run in runs:
                if run.prefix is None:
                    own = self.digests[run.replica][run.start : run.stop]
                    repeats = self._repeats[run.replica][run.start : run.stop]
                    made[run.replica].append(hashing.of_copies(own, repeats))
                    continue
                if prefix not in (None, run.prefix):
                    number = 0  # another file begins
                prefix, stop = run.prefix, number + self._copies_in(run)
                made[run.replica] += _numbered_digests(prefix, number, stop)
                number = stop
        return list(map(np.concatenate, made))

    def _ends_of_shards(self) -> np.ndarray:
        """Says how this worker's shards begin and end; int64 [shards, 3], 0 for others.

        Of each: codes of the first and of the last prefix, 0 if there is none; and how many copies
        the rows with the last one have.
        """
        ends = np.zeros((len(self._numbers), 3), np.int64)
        for shard, runs in itertools.groupby(self._runs, key=lambda run: run.shard):
            named = [run for run in runs if run.prefix is not None]
            if named:
                first, last = named[0].prefix, named[-1].prefix
                copies = sum(self._copies_in(run) for run in named if run.prefix == last)
                ends[shard] = _code(first), _code(last), copies
        return ends

    def _copies_in(self, run: Run) -> int:
        return int(self._repeats[run.replica][run.start : run.stop].sum())


def _prefix_of(image_id: str) -> str | None:
    """Returns train of train/00042; None of other ids than `numbered_ids` makes."""
    prefix, _, number = image_id.rpartition("/")
    is_number = len(number) >= 5 and number.isascii() and number.isdigit()
    return prefix if is_number else None


def _code(prefix: str | None) -> int:
    """Returns a positive number of 56 bits that stands for a prefix."""
    return 1 + int.from_bytes(hashlib.blake2b(str(prefix).encode(), digest_size=7).digest())


def _first_numbers(ends: np.ndarray) -> list[int]:
    """Returns the number of the first copy of each shard, from 0 in each file.

    Args:
      ends: of all shards, as of `WeightedRows._ends_of_shards`.
    """
    numbers, number, before = [], 0, 0
    for first, last, copies in ends.tolist():
        numbers.append(number if first == before else 0)
        if first:
            number = copies + (numbers[-1] if first == last else 0)
            before = last
    return numbers


def _numbered_digests(prefix: str, start: int, stop: int) -> Iterator[np.ndarray]:
    for a, b in plan.spans(start, stop, COPIES_AT_A_TIME):
        yield hashing.digests(numbered_ids(prefix, a, b))


def rows_of(manifest: Manifest, counts: Sequence[int]) -> Rows:
    """Makes room for `counts` rows of each replica of a set, with weights if it has some."""
    if manifest.weights is None:
        return Rows(manifest, list(counts))
    return WeightedRows(manifest, manifest.weights, list(counts))
