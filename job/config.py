"""The options of a fit: frozen, validated once."""

import dataclasses
from collections.abc import Sequence

from job.kmeans import ALGORITHMS, INITS
from pipeline import options, storage
from pipeline.errors import UserError
from pipeline.options import option

MEMORIES = ("auto", "resident", "stream")
SHARDS = "shards"  # the folder of the shards in an output that holds both


class Ks(tuple[int, ...]):
    """Different numbers of clusters; as text what `--k` takes, e.g. 8,10,16."""

    def __str__(self) -> str:
        return ",".join(map(str, self))


def parse_ks(text: str) -> Ks:
    """The numbers of clusters in `--k`: one, or different ones with commas between.

    Raises:
      ValueError: it is neither.
    """
    try:
        ks = Ks(map(int, text.split(",")))
    except ValueError:
        raise ValueError(
            f"{text!r} is not a number, or numbers with commas between, e.g. 8,10,16"
        ) from None
    if twice := [k for place, k in enumerate(ks) if k in ks[:place]]:
        raise ValueError(f"{text!r} has {twice[0]} twice; give each number once")
    return ks


def _check_init(init: str) -> None:
    if init not in INITS and not init.endswith(".npy"):
        raise ValueError(f"choose from {', '.join(INITS)}, or give a .npy file")


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """What `fit` is asked for.

    The fields describe themselves; their names are those of the flags.
    """

    shards: str = option(metavar="SHARDS", help="folder of the shards")
    output: str = option(metavar="DIR", help="folder for the result")
    k: int = option(metavar="K", least=1, decides_bits=True, help="number of clusters")
    init: str = option(
        "k-means++",
        metavar="|".join((*INITS, "CENTROIDS.npy")),
        check=_check_init,
        decides_bits=True,
        help="initial centroids",
    )
    seed: int = option(0, decides_bits=True, help="of all randomness")
    restarts: int = option(
        1,
        metavar="R",
        least=1,
        decides_bits=True,
        help="fits from different initial centroids; the lowest inertia wins",
    )
    max_iterations: int = option(
        300, metavar="N", least=1, decides_bits=True, help="of each restart"
    )
    tol: float = option(
        0.0,
        least=0,
        decides_bits=True,
        help="stop when the squared shift of the centroids is at most this (default: 0, which is "
        "when no image changes cluster)",
    )
    algorithm: str = option(
        "auto",
        choices=("auto", *ALGORITHMS),
        decides_bits=True,  # of float32 sets, whose sums are rounded; of uint8 ones it does not
        help="all give the same result",
    )
    replicas: int | None = option(
        None, metavar="N", least=1, help="devices to use (default: all GPUs, or one CPU)"
    )
    memory: str = option(
        "auto",
        choices=MEMORIES,
        help="keep the images in memory, or read them in each iteration; auto: keep them if they "
        "fit",
    )
    start_timeout_seconds: float = option(
        600.0,
        metavar="SECONDS",
        least=0,
        help="how long to wait for the other workers of TF_CONFIG",
    )
    checkpoint_seconds: float = option(
        60.0,
        metavar="SECONDS",
        least=0,
        help="between two checkpoints, from which the same command resumes after a crash; 0: "
        "after every iteration",
    )
    tensorboard: str | None = option(
        None, metavar="LOGS", help="folder for what TensorBoard shows while the fit goes on"
    )
    overwrite: bool = option(False, recorded=False, help="replace a result or a checkpoint in DIR")
    quiet: bool = option(False, recorded=False, help="no progress, no summary")

    def __post_init__(self) -> None:
        options.check(self)


def of_each(config: FitConfig, ks: Sequence[int]) -> list[FitConfig]:
    """The fits of a sweep over `ks`, the largest first, each in folders of its own.

    Raises:
      UserError: one of `ks` is none, or the initial centroids are those of one k.
    """
    if config.init.endswith(".npy"):
        raise UserError(f"--init {config.init}: a file holds the centroids of one k; give one --k")
    logs = config.tensorboard
    return [
        dataclasses.replace(
            config,
            k=k,
            output=storage.join(config.output, k_folder(k)),
            tensorboard=None if logs is None else storage.join(logs, k_folder(k)),
        )
        for k in sorted(ks, reverse=True)
    ]


def k_folder(k: int) -> str:
    """Name of the folder of a sweep's result for `k`."""
    return f"k={k}"
