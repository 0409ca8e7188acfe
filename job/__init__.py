"""Shards → clusters: K-means over the replicas of a tf.distribute strategy."""
