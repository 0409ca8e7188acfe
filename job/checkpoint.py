"""What a killed fit resumes from: states of the loop, and notes on the shards that are written.

    DIR/checkpoint/state-00000017     the loop after a round of seeding or an iteration
    DIR/checkpoint/written-00003      the totals of the assignments of shard 3

Each file appears whole, under its final name, and begins with a digest of the rest. The newest
state whose digest is right is the one to resume from.
"""

import functools
import hashlib
import json
import logging
import threading
import zipfile
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

import numpy as np

from job.kmeans.loop import Fitted, Seconds, State
from job.kmeans.sums import ClusterSums
from pipeline import storage
from pipeline.errors import Conflict, UserError

logger = logging.getLogger(__name__)

KEPT = 2
STATE, WRITTEN = "state-", "written-"
DIGEST_BYTES = 32
READ_BYTES = 1 << 20
FLAGS = {"fingerprint": "the images", "init_file": "the file of --init"}


# A file in parts, to be written one after the other: arrays are large, so none is copied.
Parts = list[bytes | memoryview]


class DamagedError(Exception):
    """A file is not what was published."""


class Checkpoints:
    """Writes and reads the states of one fit in one folder, of which the two newest are kept."""

    def __init__(
        self,
        folder: str,
        identity: dict[str, Any],
        interval_seconds: float,
        clock: Callable[[], float],
    ):
        """Opens `folder`, which need not exist.

        Args:
          identity: what must be the same for a fit to resume: options, fingerprint of the images.
          interval_seconds: between two states that are written; 0: every state is.
          clock: seconds, monotonic.
        """
        self.folder, self._identity = folder, identity
        self._interval_seconds, self._clock = interval_seconds, clock
        self._last = clock()
        self._number = 0
        self._writing = threading.Lock()
        self._unwritten: tuple[State, bytes] | None = None

    def load(self) -> tuple[State, bytes] | None:
        """Reads the newest valid state and the history up to it; None where there is none.

        Raises:
          UserError: it is of other options or other images; the first difference is named.
        """
        found = None
        for name in reversed(self._names()):
            path = storage.join(self.folder, name)
            self._number = max(self._number, int(name.removeprefix(STATE)))
            if found is not None:
                continue
            try:
                with storage.open_read(path) as file:
                    found = decode_state(file)
            except DamagedError as error:
                logger.warning(f"{path}: damaged ({error}); skipped")
        if found is None:
            return None
        identity, state, history = found
        refuse_others(self.folder, "fit", identity, self._identity)
        return state, history

    def reached(self, state: State, history: bytes) -> bool:
        """Takes a new state and the history up to it, and writes it if the interval is over.

        Returns:
          Whether it was written.
        """
        self._unwritten = state, history
        if due := self._clock() - self._last >= self._interval_seconds:
            self.flush()
        return due

    def flush(self) -> None:
        """Writes the newest state, unless it is written already. Any thread may call this.

        Raises:
          Conflict: another fit writes its states here; from now on nothing more is written.
        """
        with self._writing:
            unwritten = self._unwritten
            if unwritten is None:
                return
            self._number += 1
            path = storage.join(self.folder, f"{STATE}{self._number:08d}")
            try:
                storage.write_once(path, *encode_state(self._identity, *unwritten))
            except Conflict:
                self._unwritten = None
                raise
            for name in self._names()[:-KEPT]:
                storage.remove(storage.join(self.folder, name))
            self._last = self._clock()
            if self._unwritten is unwritten:
                self._unwritten = None

    def _names(self) -> list[str]:
        names = storage.list_names(self.folder)
        return [n for n in names if n.startswith(STATE) and n.removeprefix(STATE).isdigit()]


def refuse_others(folder: str, what: str, begun: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuses to resume the `what` that was begun in `folder` with other options or images.

    Args:
      begun: identity of what was begun; now: of what is asked for now.

    Raises:
      UserError: they differ; the first difference is named.
    """
    for name in sorted(begun.keys() | now.keys()):
        if begun.get(name) != now.get(name):
            raise UserError(
                f"{folder}: of an unfinished {what} with another value of {flag_of(name)} "
                f"({begun.get(name)}, now {now.get(name)}); give that one again to resume, another "
                "--output, or --overwrite to start anew"
            )


def flag_of(name: str) -> str:
    """Returns what a message calls a value that must be the same, e.g. `--seed`."""
    return FLAGS.get(name, "--" + name.replace("_", "-"))


def encode_state(identity: dict[str, Any], state: State, history: bytes) -> Parts:
    """Makes a file of a state of the loop and history.jsonl up to it."""
    best = state.best
    fields = {
        "identity": identity,
        "restart": state.restart,
        "iteration": state.iteration,
        "inertia": state.inertia,
        "converged": state.converged,
        "seconds": state.seconds,
        "best": best and best[1:],  # without its centroids
    }
    arrays = {"history": np.frombuffer(history, np.uint8)}
    if state.chosen:
        arrays["chosen"] = np.stack(state.chosen)
    if state.centroids is not None:
        arrays["centroids"] = state.centroids
    if state.before is not None:
        arrays["before"] = state.before
    if state.total is not None:
        arrays |= {"sums": state.total.sums, "counts": state.total.counts}
    if best is not None:
        arrays["best"] = best.centroids
    return encode(fields, arrays)


def decode_state(file: BinaryIO) -> tuple[dict[str, Any], State, bytes]:
    """Reads identity, state and history from a file made by `encode_state`.

    Raises:
      DamagedError: it is not such a file.
    """
    fields, arrays = decode(file)
    best = fields["best"] and Fitted(arrays["best"], *fields["best"])
    state = State(
        restart=fields["restart"],
        chosen=tuple(arrays.get("chosen", ())),
        iteration=fields["iteration"],
        before=arrays.get("before"),
        centroids=arrays.get("centroids"),
        total=ClusterSums(arrays["sums"], arrays["counts"]) if "sums" in arrays else None,
        inertia=fields["inertia"],
        converged=fields["converged"],
        best=best,
        seconds=Seconds(*fields["seconds"]),
    )
    return fields["identity"], state, arrays["history"].tobytes()


def encode(fields: dict[str, Any], arrays: dict[str, np.ndarray]) -> Parts:
    """Makes a file of JSON values and arrays that begins with a digest of them.

    It is an .npz file behind the digest. The arrays must not change before it is written.
    """
    text = np.frombuffer(json.dumps(fields).encode(), np.uint8)
    rest = _Kept()
    with zipfile.ZipFile(rest, "w") as packed:  # type: ignore[call-overload]
        for name, values in {**arrays, "fields": text}.items():
            values = np.asarray(values, order="C")
            with packed.open(f"{name}.npy", "w", force_zip64=True) as member:
                header = np.lib.format.header_data_from_array_1_0(values)
                np.lib.format.write_array_header_1_0(member, header)
                member.write(values.reshape(-1).view(np.uint8).data)
    return [_digest(rest.parts), *rest.parts]


class _Kept:
    """A file to write that keeps what is written, without a copy."""

    def __init__(self) -> None:
        self.parts: Parts = []

    def write(self, data: bytes | memoryview) -> int:
        self.parts.append(data)
        return len(data)

    def flush(self) -> None:
        """There is nothing to flush."""


def _digest(parts: Iterable[bytes | memoryview]) -> bytes:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()


def decode(file: BinaryIO) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Reads JSON values and arrays from a file made by `encode`.

    Raises:
      DamagedError: it is not such a file.
    """
    digest = file.read(DIGEST_BYTES)
    if _digest(iter(functools.partial(file.read, READ_BYTES), b"")) != digest:
        raise DamagedError(f"its {file.tell()} bytes have another checksum")
    file.seek(DIGEST_BYTES)  # a zip may lie behind other bytes
    try:
        with np.load(file, allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files}
        return json.loads(arrays.pop("fields").tobytes()), arrays
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DamagedError(f"of another version: {error}") from error


class ShardNotes:
    """Notes on the shards whose assignments are written, with the totals of each.

    A shard's Parquet file is published before its note, so where there is a note there are both.
    """

    def __init__(self, folder: str, key: str):
        """Opens the notes in the folder of a checkpoint; those with another `key` do not count."""
        self._folder, self._key = folder, key

    def note(self, number: int, arrays: dict[str, np.ndarray]) -> None:
        """Publishes the totals of the assignments of shard `number`."""
        with storage.publish(self.path(number)) as file:
            file.writelines(encode({"key": self._key}, arrays))

    def read(self, number: int) -> dict[str, np.ndarray] | None:
        """Returns what `note` was given for this shard; None where there is no valid note."""
        path = self.path(number)
        if not storage.is_file(path):
            return None
        try:
            with storage.open_read(path) as file:
                fields, arrays = decode(file)
        except DamagedError as error:
            logger.warning(f"{path}: damaged ({error}); the shard is assigned again")
            return None
        return arrays if fields["key"] == self._key else None

    def path(self, number: int) -> str:
        """Returns where the note of a shard is."""
        return storage.join(self._folder, f"{WRITTEN}{number:05d}")
