"""tf.distribute, only here: replicas of one worker, workers of one job, and how they end."""
