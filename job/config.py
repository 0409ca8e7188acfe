"""The options of a fit: frozen, validated once."""

import dataclasses
from collections.abc import Sequence

from job.distribute.cluster import AUTO, CLUSTERS
from job.kmeans import ALGORITHMS, INITS
from pipeline import options, storage
from pipeline.errors import UserError
from pipeline.options import MACHINE, RESULT, option

MEMORIES = ("auto", "resident", "stream")
EXPORTED_MODELS = ("onnx", "serving")
EXPORTS = ("clusters", "outliers", "duplicates", "representatives", *EXPORTED_MODELS)
SHARDS = "shards"  # name of the folder of shards inside an output that also holds the result


class Ks(tuple[int, ...]):
    """Different numbers of clusters; written as `--k` takes them, e.g. 8,10,16."""

    def __str__(self) -> str:
        return ",".join(map(str, self))


def parse_ks(text: str) -> Ks:
    """Parses the value of `--k`: one number of clusters, or different ones with commas between.

    Raises:
      ValueError: the text is neither.
    """
    try:
        ks = Ks(map(int, text.split(",")))
    except ValueError:
        raise ValueError(
            f"{text!r} is neither a number nor numbers with commas between, e.g. 8,10,16"
        ) from None
    if twice := [k for place, k in enumerate(ks) if k in ks[:place]]:
        raise ValueError(f"{text!r} has {twice[0]} twice; give each number once")
    return ks


def _check_init(init: str) -> None:
    if init not in INITS and not init.endswith(".npy"):
        raise ValueError(f"choose from {', '.join(INITS)}, or give a .npy file")


def _check_port(port: int) -> None:
    if not 1 <= port <= 65_535:
        raise ValueError("choose from 1 to 65535")


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """The options of `fit`.

    Each field carries its own description; a field and its flag have the same name.
    """

    shards: str = option(metavar="SHARDS", help="folder of the shards")
    output: str = option(metavar="DIR", help="folder for the result")
    k: int = option(
        metavar="K", least=1, decides_bits=True, help="number of clusters", group=RESULT
    )
    init: str = option(
        "k-means++",
        metavar="METHOD",
        check=_check_init,
        decides_bits=True,
        help=f"initial centroids: {', '.join(INITS)}, or a .npy file that holds them",
        group=RESULT,
    )
    seed: int = option(
        0, metavar="S", decides_bits=True, help="seed of all randomness", group=RESULT
    )
    restarts: int = option(
        1,
        metavar="R",
        least=1,
        decides_bits=True,
        help="number of fits from different initial centroids; the one of lowest inertia is kept",
        group=RESULT,
    )
    max_iterations: int = option(
        300,
        metavar="N",
        least=1,
        decides_bits=True,
        help="most iterations of each restart",
        group=RESULT,
    )
    tol: float = option(
        0.0,
        metavar="T",
        least=0,
        decides_bits=True,
        help="stop when the squared shift of the centroids is at most this (default: 0, which "
        "stops when no image changes its cluster)",
        group=RESULT,
    )
    weight_column: str | None = option(
        None,
        metavar="NAME|none",
        help="the column whose weights the shards must hold; none: count all images once (default: "
        "the weights that the shards hold, if any)",
        group=RESULT,
    )
    algorithm: str = option(
        "auto",
        choices=("auto", *ALGORITHMS),
        help="how nearest centroids are found; all give the same result",
        group=MACHINE,
    )
    replicas: int | None = option(
        None,
        metavar="N",
        least=1,
        help="number of devices to use (default: all GPUs, or one CPU)",
        group=MACHINE,
    )
    memory: str = option(
        "auto",
        choices=MEMORIES,
        help="keep the images in memory, or read them again in every iteration; auto keeps them if "
        "there is room",
        group=MACHINE,
    )
    cluster: str = option(
        AUTO,
        choices=CLUSTERS,
        help="what names the other workers: TF_CONFIG, the variables of Slurm, or those of a pod "
        "of an Indexed Job of Kubernetes; auto takes the first that the environment has",
        group=MACHINE,
    )
    start_timeout_seconds: float = option(
        600.0,
        metavar="SECONDS",
        least=0,
        help="how long to wait for the other workers",
        group=MACHINE,
    )
    checkpoint_seconds: float = option(
        60.0,
        metavar="SECONDS",
        least=0,
        help="time between two checkpoints, from which the same command resumes after a crash; 0 "
        "writes one after every iteration",
        group=MACHINE,
    )
    tensorboard: str | None = option(
        None, metavar="LOGS", help="folder for the logs that TensorBoard shows while the fit runs"
    )
    metrics_port: int | None = option(
        None,
        metavar="PORT",
        check=_check_port,
        recorded=False,
        help="serve figures of the fit for Prometheus, at /metrics of this port, while it runs",
    )
    overwrite: bool = option(False, recorded=False, help="replace a result or a checkpoint in DIR")
    quiet: bool = option(False, recorded=False, help="show neither progress nor a summary")

    def __post_init__(self) -> None:
        options.check(self)


def sweep_configs(config: FitConfig, ks: Sequence[int]) -> list[FitConfig]:
    """Returns the configs of a sweep over `ks`, the largest first, each with folders of its own.

    Raises:
      UserError: one of `ks` is less than 1, or the initial centroids come from a file.
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
    """Returns the name of the folder that holds a sweep's result for `k`."""
    return f"k={k}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """The options of `export`."""

    run: str = option(metavar="DIR", help="folder of the result")
    output: str = option(metavar="OUT", help="new folder for what is exported")
    what: str = option(
        "clusters",
        choices=EXPORTS,
        help="all images in a folder for each cluster, or a list with its pictures; or the model, "
        "as OUT/model.onnx or as TensorFlow Serving takes it, OUT/1",
    )
    images: str | None = option(
        None,
        metavar="FOLDER",
        help="folder of the original files, which are copied (default: pictures of the shards)",
    )
    per_cluster: int | None = option(
        None,
        metavar="N",
        least=1,
        help="so many of each cluster: of clusters random ones, of representatives the nearest, of "
        "outliers the farthest",
    )
    link: bool = option(False, help="link the original files instead of copying them")
    quiet: bool = option(False, help="show no progress")

    def __post_init__(self) -> None:
        options.check(self)
