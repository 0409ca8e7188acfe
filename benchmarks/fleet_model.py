"""A model of a fit on a fleet of workers: seconds, bytes and memory, from a few measured rates.

Pure functions; `benchmarks/scale.py` measures the rates, and compares what the model says with what
2, 4 and 8 workers take. With n images of d features, k clusters, w workers, p of them on a host:

    iteration = max(1, p / cores) · (seconds + k · seconds_cluster)
              + p · n / w · (seconds_image + k · seconds_product) · slowest(w)
              + 2 (w − 1) · seconds_message · p + 2 (w − 1) / w · 8 k (d + 1) · seconds_byte · p

What one process computes on all cores of its host takes p times as long where p share them; what it
does on one core, only where there are more workers than cores. The last line is the all-reduce, a
ring: a host's workers share its network, too.
"""

import dataclasses
import math
from statistics import NormalDist

import numpy as np

SUM_BYTES = 8  # of a number that the workers add up
# Measured by `fit` with k = 10,000, d = 784: see docs/performance.md.
CENTROID_COPIES = 15  # float64 matrices [k, d] in a worker's memory while it iterates
PROCESS_BYTES = 600e6  # of a process before it has images
STATE_BYTES = 24  # of an image beside its pixels: norm, digest, cluster
FOUND_BYTES = 64  # of an image in the memory of worker 0 while it looks for findings: counted


@dataclasses.dataclass(frozen=True)
class Rates:
    """What work costs on one host, all in seconds.

    Attributes:
      seconds, seconds_cluster: of an iteration, and for each cluster, whatever the images.
      seconds_image, seconds_product: of an image, and for each cluster it is compared with, by one
        process on all cores of its host.
      seconds_message, seconds_byte: of an all-reduce.
      spread: standard deviation of a worker's share over its mean.
      cores: of a host.
    """

    seconds: float
    seconds_cluster: float
    seconds_image: float
    seconds_product: float
    seconds_message: float
    seconds_byte: float
    spread: float = 0.0
    cores: int = 1


@dataclasses.dataclass(frozen=True)
class Job:
    """A fit: n images of d bytes, k clusters, w workers, p of them on each host."""

    n: float
    k: int
    d: int
    w: int
    p: int = 1

    @property
    def reduced_bytes(self) -> int:
        """The bytes of sums and counts that all workers add up in an iteration."""
        return SUM_BYTES * self.k * (self.d + 1)


def ring(job: Job) -> tuple[float, float]:
    """Returns how many messages a worker sends one after the other, and how many bytes in all."""
    return 2 * (job.w - 1), 2 * (job.w - 1) / job.w * job.reduced_bytes


def slowest(w: int, spread: float) -> float:
    """Returns the expected time of the slowest of w workers over the mean: normal draws.

    Blom: Statistical estimates and transformed beta-variables (1958), for the largest of w.
    """
    return 1 + spread * NormalDist().inv_cdf((w - 0.375) / (w + 0.25))


def compute_seconds(rates: Rates, job: Job) -> float:
    """Returns the seconds of an iteration without its all-reduce."""
    alone = max(1.0, job.p / rates.cores) * (rates.seconds + job.k * rates.seconds_cluster)
    image = rates.seconds_image + job.k * rates.seconds_product
    return alone + job.p * job.n / job.w * image * slowest(job.w, rates.spread)


def reduce_seconds(rates: Rates, job: Job) -> float:
    """Returns the seconds of the all-reduce of an iteration."""
    messages, sent = ring(job)
    return job.p * (messages * rates.seconds_message + sent * rates.seconds_byte)


def iteration_seconds(rates: Rates, job: Job) -> float:
    """Returns the seconds of an iteration."""
    return compute_seconds(rates, job) + reduce_seconds(rates, job)


def with_restarts(
    w: int, mean_seconds: float, checkpoint_seconds: float, start_seconds: float
) -> float:
    """Returns how many times as long a fit takes when workers are lost, and all start again.

    A stretch between two checkpoints is repeated until no worker is lost in it (Daly: A higher
    order estimate of the optimum checkpoint interval, FGCS 2006).

    Args:
      mean_seconds: between two losses of one worker.
      checkpoint_seconds: between two checkpoints; start_seconds: until all iterate again.
    """
    between = mean_seconds / w
    again = (between + start_seconds) * math.expm1(checkpoint_seconds / between)
    return again / checkpoint_seconds


def worker_bytes(job: Job, resident: bool) -> float:
    """Returns the memory of a worker while it iterates."""
    image = STATE_BYTES + (job.d if resident else 0)
    return PROCESS_BYTES + CENTROID_COPIES * 8 * job.k * job.d + job.n / job.w * image


def first_bytes(job: Job) -> float:
    """Returns the memory of worker 0 while it looks for findings: a row of every image."""
    return PROCESS_BYTES + 3 * 8 * job.k * job.d + job.n * FOUND_BYTES


def fitted_compute(measured: list[tuple[float, int, float]], cores: int) -> Rates:
    """Fits the four compute rates to (n, k, seconds) of one process; relative errors count."""
    n, k, seconds = np.array(measured, float).T
    columns = np.stack([np.ones_like(n), k, n, n * k], axis=1)
    found = _not_negative(columns / seconds[:, None], np.ones_like(n))
    return Rates(*found, seconds_message=0.0, seconds_byte=0.0, cores=cores)


def fitted_reduce(rates: Rates, measured: list[tuple[Job, float]]) -> Rates:
    """Fits the two rates of the all-reduce to (job, seconds); relative errors count."""
    rows = [[job.p * part / seconds for part in ring(job)] for job, seconds in measured]
    message, byte = _not_negative(np.array(rows), np.ones(len(rows)))
    return dataclasses.replace(rates, seconds_message=message, seconds_byte=byte)


def _not_negative(columns: np.ndarray, values: np.ndarray) -> list[float]:
    from scipy.optimize import nnls

    scale = np.abs(columns).max(axis=0)
    return (nnls(columns / scale, values)[0] / scale).tolist()
