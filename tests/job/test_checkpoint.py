"""States on disk, and a fit that resumes from every one of them."""

import dataclasses
import hashlib
import io
import itertools
import tracemalloc

import numpy as np
import pytest
import shard_set

from job import fit as fitting
from job.checkpoint import (
    Checkpoints,
    DamagedError,
    ShardNotes,
    decode,
    decode_state,
    encode,
    encode_state,
)
from job.config import FitConfig
from job.distribute.replicas import local_replicas
from job.images.resident import ResidentImages
from job.kmeans import ALGORITHMS, loop
from job.kmeans.loop import Fitted, Seconds, State
from job.kmeans.sums import ClusterSums
from job.result import publish
from pipeline.errors import UserError

OPTIONS = {"k": 3, "seed": 1}


def full_state() -> State:
    rng = np.random.default_rng(0)
    centroids = rng.random((3, 4))
    return State(
        restart=2,
        chosen=(),
        iteration=7,
        before=centroids / 3,
        centroids=centroids,
        total=ClusterSums(rng.random((3, 4)), np.array([1, 2, 3])),
        inertia=0.1 + 0.2,
        converged=True,
        best=Fitted(centroids.astype(np.float32), 1 / 3, 9, False, 1),
        seconds=Seconds(0.5, 1.5),
    )


def same(a: State, b: State) -> bool:
    return written({}, a) == written({}, b)


def written(identity, state: State, history: bytes = b"") -> bytes:
    return b"".join(encode_state(identity, state, history))


def seeding_state() -> State:
    return State(restart=1, chosen=tuple(np.arange(8, dtype=np.uint8).reshape(2, 4)))


@pytest.mark.parametrize("state", [full_state(), seeding_state(), State()])
def test_a_state_comes_back_to_the_bit(state):
    identity, found, history = decode_state(io.BytesIO(written(OPTIONS, state, b"a\nb\n")))
    assert identity == OPTIONS
    assert history == b"a\nb\n"
    assert same(found, state)
    assert type(found.total) is type(state.total)


def test_any_altered_byte_is_found():
    data = b"".join(encode({"a": 1}, {"b": np.arange(3)}))
    for place in range(0, len(data), 7):
        altered = bytearray(data)
        altered[place] ^= 1
        with pytest.raises(DamagedError):
            decode(io.BytesIO(altered))
    for length in (0, 10, len(data) - 1):
        with pytest.raises(DamagedError):
            decode(io.BytesIO(data[:length]))


def test_arrays_of_any_form_come_back():
    table = np.arange(12.0).reshape(3, 4)
    arrays = {
        "turned": table.T,
        "some": table[:, ::2],
        "single": np.array(0.5),
        "none": np.empty((0, 3)),
        "words": np.array(["x", "yy"]),
        "flags": table > 3,
    }
    fields, found = decode(io.BytesIO(b"".join(encode({"a": None}, arrays))))
    assert fields == {"a": None}
    assert found.keys() == arrays.keys()
    for name, values in arrays.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


def test_a_file_of_an_earlier_version_is_read():
    np.savez(packed := io.BytesIO(), a=np.arange(3), fields=np.frombuffer(b"[1]", np.uint8))
    digest = hashlib.blake2b(packed.getvalue(), digest_size=32).digest()
    fields, arrays = decode(io.BytesIO(digest + packed.getvalue()))
    assert (fields, arrays["a"].tolist()) == ([1], [0, 1, 2])


def test_a_large_state_is_written_without_a_copy(tmp_path):
    state = State(before=np.ones((1000, 784)), centroids=np.zeros((1000, 784)))
    checkpoints = Checkpoints(str(tmp_path), OPTIONS, 0, lambda: 0.0)
    tracemalloc.start()
    try:
        checkpoints.reached(state, b"")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < state.centroids.nbytes / 4
    found, _ = Checkpoints(str(tmp_path), OPTIONS, 0, lambda: 0.0).load()
    np.testing.assert_array_equal(found.before, state.before)


def clock_of(seconds):
    times = iter(seconds)
    return lambda: next(times)


def test_states_are_written_when_the_interval_is_over_and_two_stay(tmp_path):
    folder = tmp_path / "checkpoint"
    now = itertools.count()  # a second more whenever it is asked
    checkpoints = Checkpoints(str(folder), OPTIONS, 0, lambda: next(now))
    for iteration in range(5):
        checkpoints.reached(State(iteration=iteration), b"")
    assert sorted(p.name for p in folder.iterdir()) == ["state-00000004", "state-00000005"]
    slow = Checkpoints(str(folder), OPTIONS, 60, clock_of([0, 59, 60, 61, 100, 121, 122]))
    assert slow.load() is not None
    for iteration, names in [(5, "45"), (6, "56"), (7, "56"), (8, "67")]:
        slow.reached(State(iteration=iteration), b"")
        assert [p.name[-1] for p in sorted(folder.iterdir())] == list(names), iteration


def test_flush_writes_what_is_not_written_once(tmp_path):
    checkpoints = Checkpoints(str(tmp_path), OPTIONS, 1e9, lambda: 0.0)
    checkpoints.flush()
    assert not list(tmp_path.iterdir())
    checkpoints.reached(State(iteration=3), b"h\n")
    checkpoints.flush()
    checkpoints.flush()
    assert [p.name for p in tmp_path.iterdir()] == ["state-00000001"]
    state, history = Checkpoints(str(tmp_path), OPTIONS, 0, lambda: 0.0).load()
    assert (state.iteration, history) == (3, b"h\n")


def test_a_damaged_state_is_skipped_with_a_warning(tmp_path, caplog):
    checkpoints = Checkpoints(str(tmp_path), OPTIONS, 0, lambda: 0.0)
    for iteration in (1, 2):
        checkpoints.reached(State(iteration=iteration), b"")
    newest = tmp_path / "state-00000002"
    newest.write_bytes(newest.read_bytes()[:-5])
    again = Checkpoints(str(tmp_path), OPTIONS, 0, lambda: 0.0)
    state, _ = again.load()
    assert state.iteration == 1
    assert f"{newest}: damaged" in caplog.text
    again.reached(State(iteration=2), b"")  # never the number of the damaged one
    assert (tmp_path / "state-00000003").exists()


def test_without_any_valid_state_the_fit_begins_anew(tmp_path):
    (tmp_path / "state-00000001").write_bytes(b"")
    assert Checkpoints(str(tmp_path), OPTIONS, 0, lambda: 0.0).load() is None


@pytest.mark.parametrize(
    ("change", "named"),
    [({"seed": 2}, "--seed (1, now 2)"), ({"k": 4}, "--k (3, now 4)")],
)
def test_other_options_are_refused_by_name(tmp_path, change, named):
    checkpoints = Checkpoints(str(tmp_path), OPTIONS, 0, lambda: 0.0)
    checkpoints.reached(State(), b"")
    with pytest.raises(UserError) as caught:
        Checkpoints(str(tmp_path), OPTIONS | change, 0, lambda: 0.0).load()
    assert named in str(caught.value)
    assert "--overwrite" in str(caught.value)


def test_notes_count_only_for_their_key(tmp_path, caplog):
    arrays = {"a/b": np.array(["x", "yy"]), "c": np.arange(3)}
    ShardNotes(str(tmp_path), "key").note(3, arrays)
    found = ShardNotes(str(tmp_path), "key").read(3)
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    assert ShardNotes(str(tmp_path), "key").read(2) is None
    assert ShardNotes(str(tmp_path), "other").read(3) is None
    (tmp_path / "written-00003").write_bytes(b"half")
    assert ShardNotes(str(tmp_path), "key").read(3) is None
    assert "assigned again" in caplog.text


class Recorder:
    """A callback that keeps every state, and what was recorded before it."""

    def __init__(self):
        self.states, self.records = [], []

    def on_seeding(self, restart, num_centroids): ...

    def on_iteration(self, record):
        self.records.append(record._replace(seconds=0.0))

    def on_state(self, state):
        self.states.append((state, len(self.records)))


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    """Few images with few values, so that clusters are empty now and then."""
    folder = tmp_path_factory.mktemp("set")
    pixels = np.random.default_rng(3).integers(0, 40, (300, 12), np.uint8)
    pixels[100:200] = pixels[:100]
    return folder, shard_set.write_plain(folder, pixels)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("initial", ["random", "k-means++"])
def test_a_fit_resumes_from_any_of_its_states(small_set, algorithm, initial):
    resumes_from_any_state(*small_set, algorithm, initial)


def test_a_fit_of_floats_resumes_from_any_of_its_states(tmp_path):
    pixels = np.random.default_rng(4).normal(size=(300, 12)).astype(np.float32)
    resumes_from_any_state(tmp_path, shard_set.write_plain(tmp_path, pixels), "hamerly", "random")


def resumes_from_any_state(folder, manifest, algorithm, initial):
    """Checks that the outcome is that of the whole fit, to the bit, wherever it resumes."""
    images = ResidentImages(str(folder), manifest, local_replicas())
    config = FitConfig(
        str(folder), "", k=20, restarts=2, max_iterations=6, algorithm=algorithm, init=initial
    )
    whole = Recorder()
    fitted, _ = loop.run_restarts(images, config, whole)
    assert len({state.restart for state, _ in whole.states}) == 3
    for state, num_records in whole.states[:: 3 if initial == "k-means++" else 1]:
        _, loaded, _ = decode_state(io.BytesIO(written({}, state)))
        rest = Recorder()
        again, _ = loop.run_restarts(images, config, rest, state=loaded)
        assert np.array_equal(again.centroids, fitted.centroids)
        assert again[1:] == fitted[1:]
        assert rest.records == whole.records[num_records:]


class Killed(Exception):
    pass


def test_the_same_fit_twice_ends_with_the_bits_of_one(small_set, tmp_path, monkeypatch):
    folder, _ = small_set
    config = FitConfig(str(folder), str(tmp_path / "whole"), k=5, seed=4, checkpoint_seconds=0)
    whole = fitting.fit(config)
    config = dataclasses.replace(config, output=str(tmp_path / "killed"))
    calls = itertools.count()
    write = publish.write_shard_assignments

    def die(*args):
        if next(calls) == 1:
            raise Killed
        write(*args)

    monkeypatch.setattr(publish, "write_shard_assignments", die)
    with pytest.raises(Killed):
        fitting.fit(config)
    killed = tmp_path / "killed"
    assert not (killed / "metrics.json").exists()
    first = killed / "assignments" / "assignments-00000-of-00003.parquet"
    written = first.stat().st_mtime_ns
    again = fitting.fit(config)
    assert first.stat().st_mtime_ns == written  # not written again
    for name in ("inertia", "cluster_sizes", "davies_bouldin", "iterations"):
        assert again[name] == whole[name]
    for name in ("centroids.npy", "assignments/assignments-00002-of-00003.parquet"):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(p.name for p in killed.iterdir()) == sorted(
        p.name for p in (tmp_path / "whole").iterdir()
    )


def test_other_images_are_refused_and_overwrite_begins_anew(small_set, tmp_path, monkeypatch):
    folder, _ = small_set
    config = FitConfig(str(folder), str(tmp_path / "out"), k=5, checkpoint_seconds=0)
    monkeypatch.setattr(fitting, "publish_assignments", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fitting.fit(config)
    monkeypatch.undo()
    other = tmp_path / "other"
    shard_set.write_plain(other, np.random.default_rng(4).integers(0, 40, (300, 12), np.uint8))
    changed = dataclasses.replace(config, shards=str(other))
    with pytest.raises(UserError, match="another value of the images"):
        fitting.fit(changed)
    with pytest.raises(UserError, match=r"--max-iterations \(300, now 2\)"):
        fitting.fit(dataclasses.replace(config, max_iterations=2))
    result = fitting.fit(dataclasses.replace(changed, overwrite=True))
    again = fitting.fit(dataclasses.replace(config, overwrite=True))
    assert result["fingerprint"] != again["fingerprint"]
    assert not (tmp_path / "out" / "checkpoint").exists()


def test_killed_after_metrics_json_is_done(small_set, tmp_path):
    folder, _ = small_set
    config = FitConfig(str(folder), str(tmp_path / "out"), k=3)
    result = fitting.fit(config)
    (tmp_path / "out" / "checkpoint").mkdir()  # as if it had not come to removing it
    assert fitting.fit(config)["inertia"] == result["inertia"]
    assert not (tmp_path / "out" / "checkpoint").exists()
    with pytest.raises(UserError, match="holds a result"):
        fitting.fit(config)
