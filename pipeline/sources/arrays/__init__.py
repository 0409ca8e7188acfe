"""Sets whose images are arrays of numbers: NumPy's files, idx and CSV."""
