"""What the algorithms see of the data: images in memory, or read anew in each pass."""
