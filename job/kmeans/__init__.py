"""The algorithms: initial centroids, assignments, cluster sums, the loop over iterations.

The one list of algorithms and that of initialisations: name → where it is, loaded when chosen, so
that the command line can name them without loading TensorFlow.
"""

ALGORITHMS = {"lloyd": "job.kmeans.lloyd:Lloyd", "hamerly": "job.kmeans.hamerly:Hamerly"}
INITS = ("random", "k-means++", "k-means||")
