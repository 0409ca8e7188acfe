"""Images that a Python caller holds: arrays, datasets and iterables, read in this process.

`objects.opening` turns one into a source. No other process can see it, so no engine is used.
"""

from pipeline.sources.objects.opening import are_paths, describe, opened

__all__ = ["are_paths", "describe", "opened"]
