"""Replicas of one worker on CPU devices: what each holds, and what their sums are."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from job.distribute import replicas as replicas_module  # noqa: E402
from job.distribute.preemption import InterruptedFit  # noqa: E402
from job.distribute.replicas import Replicas, local_replicas  # noqa: E402
from job.distribute.workers import WorkerGroup  # noqa: E402
from job.kmeans.blocks import aligned_empty  # noqa: E402
from job.kmeans.pieces import byte_products  # noqa: E402
from job.kmeans.precision import FLOAT32, TF32  # noqa: E402
from pipeline.errors import UserError  # noqa: E402


@pytest.fixture(scope="module", params=[1, 3], ids="{} replicas".format)
def replicas(request, cpus):
    return local_replicas(request.param)


def shares(count: int) -> list[np.ndarray]:
    """Other images for each replica, of different numbers; float64 [n_r, 2]."""
    return [np.arange(2.0 * (r + 2)).reshape(-1, 2) + 100 * r for r in range(count)]


def test_each_replica_has_its_own(replicas):
    own = shares(replicas.count)
    placed = replicas.place(own)
    for part, wanted in zip(replicas.parts(placed), own, strict=True):
        np.testing.assert_array_equal(part.numpy(), wanted)


def test_structures_are_placed_too(replicas):
    placed, rows = replicas.place([(own, own[:, 0] > 0) for own in shares(replicas.count)])
    assert [part.shape[1] for part in replicas.parts(placed)] == [2] * replicas.count
    assert {part.dtype for part in replicas.parts(rows)} == {tf.bool}


def test_aligned_memory_is_used_as_it_is(cpus):
    one = local_replicas(1)
    array = aligned_empty((1000, 3), "uint8")
    array[:] = 7
    placed = one.place([array])
    array[5, 1] = 9
    assert placed.numpy()[5, 1] == 9


@pytest.mark.parametrize("num_sums", [0, 1, 2])
def test_a_step_on_all_replicas(replicas, num_sums):
    def step(images, state, shared):
        sums = [tf.reduce_sum(images, axis=0) * shared, tf.reshape(tf.reduce_sum(images), [1, 1])]
        return state + 1, sums[:num_sums]

    own = shares(replicas.count)
    run = replicas.compile(step)
    images = replicas.place(own)
    state = replicas.place([np.array(r) for r in range(replicas.count)])
    state, totals = run(images, state, tf.constant(2.0, tf.float64))
    assert [int(part) for part in replicas.parts(state)] == [r + 1 for r in range(replicas.count)]
    everything = np.concatenate(own)
    wanted = [2 * everything.sum(axis=0), everything.sum().reshape(1, 1)][:num_sums]
    for total, sums in zip(totals, wanted, strict=True):
        np.testing.assert_array_equal(total, sums)


def test_a_step_on_chunks_sums_nothing(replicas):
    run = replicas.compile_chunk(lambda images, state, shared: (state, [tf.reduce_sum(images)]))
    own = shares(replicas.count)
    states, partial = run(replicas.place(own), replicas.place([np.zeros(1)] * len(own)), ())
    assert [float(sums[0]) for sums in partial] == [share.sum() for share in own]
    assert len(states) == replicas.count


def test_one_worker_is_all_workers(replicas):
    arrays = [np.arange(3.0), np.ones((2, 2))]
    for total, array in zip(replicas.all_reduce(arrays), arrays, strict=True):
        np.testing.assert_array_equal(total, array)
    np.testing.assert_array_equal(replicas.all_gather(np.arange(4)), [np.arange(4)])
    assert replicas.broadcast(b"bytes") == b"bytes"
    assert (replicas.num_workers, replicas.worker, replicas.name(0)) == (1, 0, "worker 0")


def in_two_workers(arrays: list[np.ndarray]) -> tuple[list[np.ndarray], list[str]]:
    """The sums of two workers that have the same arrays, and the dtypes in which they travelled."""
    group = WorkerGroup({"worker": ["a:1", "b:1"]}, "worker", 0)
    worker, dtypes = Replicas(tf.distribute.get_strategy(), group), []

    def doubled(packed):
        dtypes.append(packed.dtype.name)
        return packed + packed

    worker._sum_over_workers = doubled
    return worker.all_reduce(arrays), dtypes


@pytest.mark.parametrize(
    ("largest", "narrow"), [(2**30 - 1, True), (2**30, False), (0.5, False), (np.inf, False)]
)
def test_large_arrays_of_small_whole_numbers_travel_as_int32(largest, narrow):
    small, large = np.array([0.25, largest]), np.zeros((1000, 784))
    large[3, 5], large[999, 783] = -largest, 7
    totals, dtypes = in_two_workers([small, large, large[0] + 1 / 3])
    for total, array in zip(totals, (small, large, large[0] + 1 / 3), strict=True):
        np.testing.assert_array_equal(total, 2 * array, strict=True)
    assert dtypes == (["float64", "int32", "float64"] if narrow else ["float64"] * 2)


def test_integers_travel_as_they_are():
    (total,), dtypes = in_two_workers([np.arange(1_000_000)])
    np.testing.assert_array_equal(total, 2 * np.arange(1_000_000), strict=True)
    assert dtypes == ["int64"]


def test_ending_where_it_is_asked(cpus):
    replicas = local_replicas(1)
    replicas.end_if_asked("nowhere")
    replicas.end_all_if_asked("nowhere")
    replicas.ask_to_end()
    with pytest.raises(InterruptedFit, match="ended here"):
        replicas.end_if_asked("here")
    with pytest.raises(InterruptedFit, match="ended there"):
        replicas.end_all_if_asked("there")


def test_more_devices_than_tensorflow_has_started_with(cpus):
    tf.constant(1).numpy()  # it has started with four
    with pytest.raises(UserError, match="--replicas 5: TensorFlow has already started"):
        local_replicas(5)


@pytest.mark.parametrize(("allowed", "precision"), [(True, TF32), (False, FLOAT32)])
def test_precision_is_that_of_the_process(cpus, allowed, precision):
    """The margins of scores follow it; whether TF32 is allowed is for the process to say."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    try:
        tf.config.experimental.enable_tensor_float_32_execution(allowed)
        own = local_replicas(1).precision
        assert (own.largest_piece, own.piece_speed) == byte_products()
        assert own._replace(largest_piece=0, piece_speed=0) == FLOAT32  # CPUs have no other
        assert replicas_module._gpu_precision() == precision
        assert tf.config.experimental.tensor_float_32_execution_enabled() == allowed
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
