"""Vectors instead of pixels: principal components, or what a Keras model makes of each image."""
