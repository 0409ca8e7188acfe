"""Images → shards: an Apache Beam pipeline that flattens images and writes them in blocks."""
