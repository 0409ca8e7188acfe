"""Where images come from: one module for each family of formats, one protocol for all.

`formats` lists what can be read, `protocol` says what a source offers, `opening` turns the values
of `--input` into one.
"""

from pipeline.shards.rejected import Rejection
from pipeline.sources.opening import open_request, open_source
from pipeline.sources.protocol import Listed, Planned, Request, Source

__all__ = ["Listed", "Planned", "Rejection", "Request", "Source", "open_request", "open_source"]
