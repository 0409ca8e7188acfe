"""A worker among several that is alone in its process."""

import tensorflow as tf

from job.distribute.replicas import Replicas


class Worker(Replicas):
    """A worker with some replicas that never talks to the others."""

    def __init__(self, number: int = 0, num_workers: int = 1, count: int = 1):
        super().__init__(tf.distribute.get_strategy())
        self.worker, self.num_workers, self.count = number, num_workers, count

    def all_reduce(self, arrays):
        return list(arrays)

    def all_gather(self, array):
        return array[None]
