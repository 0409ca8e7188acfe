"""Types of the options of functions, for type checkers and editors.

Written by docs/options.py from the configs, where each option is described.
"""

import os
from typing import TypedDict

Path = str | os.PathLike[str]


class ShardOptions(TypedDict, total=False):
    """The options of `shard`: those of pipeline.config.ShardConfig."""

    split: str
    num_shards: int | None
    image_size: tuple[int, int] | None
    resize: str
    color: str
    grayscale: bool
    image_column: str | None
    label_column: str | None
    max_rejected: float
    thumbnails: int
    overwrite: bool
    quiet: bool
    beam_options: tuple[str, ...]
    transform: str | None
    normalize: bool
    weight_column: str | None


class FitOptions(TypedDict, total=False):
    """The options of `fit`: those of job.config.FitConfig."""

    init: Path
    seed: int
    restarts: int
    max_iterations: int
    tol: float
    weight_column: str | None
    algorithm: str
    replicas: int | None
    memory: str
    cluster: str
    start_timeout_seconds: float
    checkpoint_seconds: float
    tensorboard: Path | None
    metrics_port: int | None
    overwrite: bool
    quiet: bool


class AssignOptions(TypedDict, total=False):
    """The options of `assign`: those of pipeline.config.AssignConfig."""

    split: str
    num_shards: int | None
    image_size: tuple[int, int] | None
    resize: str
    color: str
    grayscale: bool
    image_column: str | None
    label_column: str | None
    max_rejected: float
    thumbnails: int
    overwrite: bool
    quiet: bool
    beam_options: tuple[str, ...]
    weight_column: str | None


class ExportOptions(TypedDict, total=False):
    """The options of `export`: those of job.config.ExportConfig."""

    what: str
    images: Path | None
    per_cluster: int | None
    link: bool
    quiet: bool
