"""The options of a fit: frozen, validated once."""

import dataclasses

from pipeline.errors import UserError

ALGORITHMS = ("auto", "lloyd", "hamerly")
INITS = ("random", "k-means++", "k-means||")
MEMORIES = ("auto", "resident", "stream")
SHARDS = "shards"  # the folder of the shards in an output that holds both


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """What `fit` was asked for; the names are those of the command line's flags.

    Attributes:
      shards: folder of the shards.
      output: folder of the result.
      k: number of clusters.
      init: one of INITS, or the path of a .npy file of centroids [k, d].
      seed: of all randomness.
      restarts: fits from different initial centroids; the lowest inertia wins.
      max_iterations: of each restart.
      tol: stops when the squared shift of the centroids is at most this; 0: when nothing changes.
      algorithm: one of ALGORITHMS.
      replicas: devices to use; None: all GPUs, or one CPU.
      memory: auto, resident or stream: images stay in memory, or are read in each iteration.
      start_timeout_seconds: how long to wait for the other workers of TF_CONFIG.
      checkpoint_seconds: between two checkpoints; 0: one after every iteration.
    """

    shards: str
    output: str
    k: int
    init: str = "k-means++"
    seed: int = 0
    restarts: int = 1
    max_iterations: int = 300
    tol: float = 0.0
    algorithm: str = "auto"
    replicas: int | None = None
    memory: str = "auto"
    start_timeout_seconds: float = 600.0
    checkpoint_seconds: float = 60.0

    def __post_init__(self):
        for name in ("k", "restarts", "max_iterations"):
            self._at_least(name, 1)
        if self.replicas is not None:
            self._at_least("replicas", 1)
        for name in ("tol", "checkpoint_seconds", "start_timeout_seconds"):
            self._at_least(name, 0)
        if self.algorithm not in ALGORITHMS:
            raise UserError(f"--algorithm {self.algorithm}: choose from {', '.join(ALGORITHMS)}")
        if self.memory not in MEMORIES:
            raise UserError(f"--memory {self.memory}: choose from {', '.join(MEMORIES)}")
        if self.init not in INITS and not self.init.endswith(".npy"):
            raise UserError(
                f"--init {self.init}: choose from {', '.join(INITS)}, or give a .npy file"
            )

    def _at_least(self, name: str, least: int) -> None:
        if not getattr(self, name) >= least:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} {getattr(self, name)}: must be at least {least}")
