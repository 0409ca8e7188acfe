"""Shards → clusters: K-means over the replicas of a tf.distribute strategy."""

__version__ = "0.1.0"
