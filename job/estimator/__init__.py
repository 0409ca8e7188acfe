"""K-means on arrays in memory, as an estimator of scikit-learn."""
