"""What a command changes in its own process before a fit: settings of TensorFlow, gRPC and glibc.

They make a fit faster and quieter, not different: a fit that somebody calls in a notebook ends
with the same bits without them, and leaves that process as it was.
"""

import ctypes
import gc
import importlib.util
import os
import sys
from collections.abc import MutableMapping

from job.distribute import cluster
from job.distribute.workers import WorkerGroup
from pipeline.terminal import without_loading_lines

KEPT_BYTES = 64 << 20  # larger pieces of memory go back to the system when they are freed
# From so many clusters on there are many such pieces, or nearly: matrices of all centroids. Then
# less is kept, though more than a block of images takes.
MANY_CLUSTERS = 4_000
KEPT_OF_MANY, LEFT_OF_MANY = 24 << 20, 12 << 20
SYSTEM_ALLOCATOR = "TF_ONEDNN_USE_SYSTEM_ALLOCATOR"
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
NO_PROXY = "no_grpc_proxy"  # hosts that gRPC reaches without one
TF32 = "NVIDIA_TF32_OVERRIDE"  # 1 asks for products in TF32


def prepare(k: int, group: WorkerGroup | None = None) -> None:
    """Imports TensorFlow and sets up this process for a fit.

    For the command line alone, and before anything else imports TensorFlow.

    Args:
      k: clusters of the fit.
      group: the workers; None: this process is alone.
    """
    reach_without_proxy(group, os.environ)
    leave_out_keras(os.environ)
    if k >= MANY_CLUSTERS:
        # By default TensorFlow keeps what it once had, for tensors alone: several matrices then.
        os.environ.setdefault(SYSTEM_ALLOCATOR, "1")
    import_tensorflow()
    keep_freed_memory(k)


def leave(status: int) -> int:
    """Returns the exit status `status`; a worker that has failed ends here instead.

    TensorFlow would wait for the other workers when the interpreter ends, though they may be gone.
    """
    if status and cluster.has_others(os.environ):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def reach_without_proxy(group: WorkerGroup | None, environment: MutableMapping[str, str]) -> None:
    """Lets gRPC connect to the other workers directly.

    It would ask an HTTP proxy of the environment for the way to them.
    """
    if group is None:
        return
    hosts = {group.address(n).rpartition(":")[0].strip("[]") for n in range(group.size)}
    direct = environment.get(NO_PROXY) or environment.get("no_proxy", "")
    environment[NO_PROXY] = ",".join(filter(None, [direct, *sorted(hosts)]))


def leave_out_keras(environment: MutableMapping[str, str]) -> None:
    """Lets TensorFlow be imported without Keras, which no fit needs: a third of the time.

    TensorFlow then looks for Keras 2, the package tf_keras, and goes without where there is none.
    SavedModels, strategies and summaries work, and so does `import keras` later, for
    `--transform keras:`; only `tf.keras` is not to be used.
    """
    if importlib.util.find_spec("tf_keras") is None:
        environment.setdefault("TF_USE_LEGACY_KERAS", "1")


def import_tensorflow() -> None:
    """Imports TensorFlow without looking for garbage, and never looks at its objects again.

    There are 340,000 of them, all of which stay: looking for garbage among them takes a fifth of
    the import, and 150 ms each time later.
    """
    gc.disable()
    try:
        with without_loading_lines():
            import tensorflow as tf
    finally:
        gc.enable()
    if not gc.get_freeze_count():
        gc.freeze()
    # The bits of a fit do not depend on it. Scores of float32 sets have narrower margins without;
    # for images of bytes it may be asked for, by the variable that NVIDIA's libraries read.
    asked = os.environ.get(TF32) == "1"
    tf.config.experimental.enable_tensor_float_32_execution(asked)


def keep_freed_memory(k: int) -> None:
    """Tells glibc to keep the megabytes that each block frees, instead of faulting them in anew.

    Casting a block to float32 is otherwise spent half in page faults.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # another libc may have none
        if mallopt is not None:
            many = k >= MANY_CLUSTERS
            mallopt(M_MMAP_THRESHOLD, KEPT_OF_MANY if many else KEPT_BYTES)
            mallopt(M_TRIM_THRESHOLD, LEFT_OF_MANY if many else KEPT_BYTES)
            if many:
                mallopt(M_ARENA_MAX, 1)  # or glibc keeps as much for each thread
