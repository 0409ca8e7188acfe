"""What a fit writes, beside what it reads: the publishing pass and one pass of `lloyd`.

    python benchmarks/publish.py --k 10,100 --repeats 5

The publishing pass assigns all images, and writes the whole result: assignments, findings,
examples, model and report. A pass of `lloyd` is a fit of one iteration: over images that lie in
memory, or read anew as the publishing pass reads them. All are of one process, warm, and alternate.
Prints Markdown with medians over the repeats, in seconds of the clock and of the processor; the
last column is the publishing pass over 1.3 × `lloyd` + 1 s.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fit import MNIST, ROOT, Silent

ALLOWED_FACTOR, ALLOWED_SECONDS = 1.3, 1.0
PUBLISHING, RESIDENT, STREAMED = "publishing", "lloyd, resident", "lloyd, read anew"


def sharded(images: Path, folder: Path) -> str:
    """Shards a set of images as the command line does; returns the folder of the shards."""
    command = [sys.executable, "-m", "job", "shard", "--input", str(images), "--quiet"]
    command += ["--output", str(target := folder / "shards")]
    subprocess.run(command, cwd=ROOT, check=True)
    return str(target)


def prepared(shards: str, folder: str, k: int) -> dict[str, Callable[[], object]]:
    """Loads the images and fits them; returns what is timed, by name."""
    from job.config import FitConfig
    from job.distribute.replicas import local_replicas
    from job.images.resident import ResidentImages
    from job.images.streamed import StreamedImages
    from job.kmeans import loop
    from job.result import publish
    from job.result.folder import prepare_result
    from job.result.write import History
    from pipeline.shards.manifest import load_manifest

    manifest, replicas = load_manifest(shards), local_replicas()
    resident = ResidentImages(shards, manifest, replicas)
    streamed = StreamedImages(shards, manifest, replicas)
    options = {"algorithm": "lloyd", "init": "random", "quiet": True}
    config = FitConfig(shards, folder, k, max_iterations=1, **options)
    fitted, _ = loop.run_restarts(resident, config, Silent())
    publication = publish.Publication(config, manifest, fitted, replicas)

    def publishing() -> None:
        prepare_result(folder, overwrite=True)
        History(folder).close()
        publish.publish_assignments(publication, quiet=True)
        publish.publish_result(publication, lambda: {"write": 1.0})

    return {
        PUBLISHING: publishing,
        RESIDENT: lambda: loop.run_restarts(resident, config, Silent()),
        STREAMED: lambda: loop.run_restarts(streamed, config, Silent()),
    }


def measure(timed: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Median seconds of the clock and of the processor, by name."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in timed}
    for repeat in range(repeats + 1):
        for name, function in timed.items():
            clock, processor = time.perf_counter(), time.process_time()
            function()
            if repeat:  # the first one is cold
                spent = time.perf_counter() - clock, time.process_time() - processor
                seconds[name].append(spent)
    return {
        name: [statistics.median(column) for column in zip(*each, strict=True)]
        for name, each in seconds.items()
    }


def rows(found: dict[str, list[float]]) -> list[str]:
    """A table in Markdown."""
    lines = [
        "| pass | clock s | processor s | publishing / (1.3 × it + 1 s) |",
        "|---|--:|--:|--:|",
    ]
    for name, (clock, processor) in found.items():
        allowed = ALLOWED_FACTOR * clock + ALLOWED_SECONDS
        ratio = "" if name == PUBLISHING else f"{found[PUBLISHING][0] / allowed:.2f}"
        lines.append(f"| {name} | {clock:.2f} | {processor:.2f} | {ratio} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, default=MNIST, help="any input of `shard`")
    parser.add_argument("--k", default="10")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        shards = sharded(args.images.resolve(), Path(folder))
        for k in map(int, args.k.split(",")):
            print(f"### {args.images.stem}, k = {k:,}\n")
            timed = prepared(shards, f"{folder}/out-{k}", k)
            print("\n".join(rows(measure(timed, args.repeats))), flush=True)


if __name__ == "__main__":
    main()
