"""How the time of an iteration grows: with images, from memory or read anew, and with workers.

    python benchmarks/scale.py measure --images m1200k.npy --folder scratch > scale.json
    python benchmarks/scale.py predict --measured scale.json

`measure` runs the real `fit` on prefixes of the images, and the real all-reduce between processes
on this machine. `predict` puts its figures into a plain model of an iteration on w workers:

    (compute + read) · n / w  +  2 (w − 1) / w · 8 k d / bandwidth  +  2 (w − 1) · latency

and prints a table of Markdown in which measured and predicted figures are apart.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SIZES = (60_000, 120_000, 240_000, 480_000, 1_200_000)
ITERATIONS = 8
K, D = 10, 784
WORKERS = (8, 64, 1_024)
IMAGES = (10**7, 10**8, 10**9, 10**10)
REDUCED = ((10, 784), (100, 784), (1_000, 784))
REPEATS = 20
# A network that a cluster of machines has: 10 Gbit/s, 50 µs a message.
NETWORK_BYTES, NETWORK_SECONDS = 1.25e9, 50e-6


def run(*command) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, env=environment, check=True)


def shards_of(images: Path, count: int, folder: Path) -> Path:
    """The first `count` of the images, as shards."""
    target = folder / f"shards-{count}"
    if not (target / "manifest.json").exists():
        prefix = folder / f"images-{count}.npy"
        np.save(prefix, np.load(images, mmap_mode="r")[:count])
        run("-m", "job", "shard", "--input", prefix, "--output", target, "--quiet")
        prefix.unlink()
    return target


def iteration_seconds(shards: Path, memory: str, folder: Path) -> float:
    """Median over the iterations after the first, in which graphs are traced."""
    output = folder / "out"
    run(
        *("-m", "job", "fit", "--shards", shards, "--output", output, "--k", K, "--memory", memory),
        *("--init", "random", "--algorithm", "lloyd", "--max-iterations", ITERATIONS),
        *("--overwrite", "--quiet"),
    )
    history = [json.loads(line) for line in (output / "history.jsonl").open()]
    return statistics.median(record["seconds"] for record in history[1:])


def reduce_seconds(num_workers: int) -> dict[str, float]:
    """Median seconds of summing k × d float64 over worker processes on loopback."""
    with_ports = [socket.socket() for _ in range(num_workers)]
    for each in with_ports:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in with_ports]
    for each in with_ports:
        each.close()
    workers = []
    for index in range(num_workers):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
        command = [sys.executable, __file__, "reduce"]
        workers.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE))
    (figures, *_) = [worker.communicate()[0] for worker in workers]
    return json.loads(figures)


def reduce() -> None:
    """One worker of `reduce_seconds`."""
    sys.path.insert(0, str(ROOT))
    from job.distribute import workers
    from job.distribute.replicas import local_replicas

    cluster = workers.parse(os.environ["TF_CONFIG"])
    if cluster is not None:
        workers.wait_for_peers(cluster, 120)
    replicas = local_replicas(1, cluster)
    figures = {}
    for k, d in REDUCED:
        sums, seconds = np.ones((k, d)), []
        for _ in range(REPEATS + 2):
            start = time.perf_counter()
            replicas.all_reduce([sums])
            seconds.append(time.perf_counter() - start)
        figures[f"{k}x{d}"] = statistics.median(seconds[2:])
    print(json.dumps(figures))


def measure(images: Path, folder: Path) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    available = len(np.load(images, mmap_mode="r"))
    figures: dict = {"resident": {}, "stream": {}, "reduce": {}}
    for count in [size for size in SIZES if size <= available]:
        shards = shards_of(images, count, folder)
        for memory in ("resident", "stream"):
            figures[memory][count] = iteration_seconds(shards, memory, folder)
            print(f"{memory} {count:,}: {figures[memory][count]:.4f} s", file=sys.stderr)
    for num_workers in (1, 2, 4):
        figures["reduce"][num_workers] = reduce_seconds(num_workers)
        print(f"{num_workers} workers: {figures['reduce'][num_workers]}", file=sys.stderr)
    return figures


def slope(seconds: dict) -> float:
    """Exponent with which time grows with images: the slope of a line through their logarithms."""
    counts = np.log([float(count) for count in seconds])
    return float(np.polyfit(counts, np.log(list(seconds.values())), 1)[0])


def predicted(figures: dict, num_images: float, num_workers: int, memory: str) -> float:
    """Seconds of an iteration by the model, from the largest set that was measured."""
    count, seconds = max((int(count), value) for count, value in figures[memory].items())
    share = seconds / count * num_images / num_workers
    ring = 2 * (num_workers - 1) / num_workers * 8 * K * D / NETWORK_BYTES
    return share + ring + 2 * (num_workers - 1) * NETWORK_SECONDS


def table(figures: dict) -> str:
    """Markdown: what was measured on this machine, then what the model says of others."""
    lines = [
        f"Measured (k = {K}, d = {D}, one process, {os.cpu_count()} cores), seconds an iteration:",
        "",
        "| images | resident | streamed | streamed / resident |",
        "|---|---|---|---|",
    ]
    for count, resident in figures["resident"].items():
        streamed = figures["stream"][count]
        ratio = streamed / resident
        lines.append(f"| {int(count):,} | {resident:.4f} | {streamed:.4f} | {ratio:.2f} |")
    slopes = " and ".join(f"{slope(figures[m]):.3f} ({m})" for m in ("resident", "stream"))
    lines += ["", f"Slope of log time over log images: {slopes}.", ""]
    lines += ["Measured, seconds to sum k × d float64 over processes on loopback:", ""]
    shapes = [f"{k}x{d}" for k, d in REDUCED]
    lines += [f"| workers | {' | '.join(shapes)} |", "|---" * (len(shapes) + 1) + "|"]
    for workers, seconds in figures["reduce"].items():
        lines.append(f"| {workers} | {' | '.join(f'{seconds[shape]:.5f}' for shape in shapes)} |")
    lines += [
        "",
        "Predicted, not measured: seconds a streamed iteration on as many such machines, "
        f"{NETWORK_BYTES * 8 / 1e9:.0f} Gbit/s and {NETWORK_SECONDS * 1e6:.0f} µs a message:",
        "",
        f"| images | {' | '.join(f'{w:,} workers' for w in WORKERS)} |",
        "|---" * (len(WORKERS) + 1) + "|",
    ]
    for count in IMAGES:
        row = [f"{predicted(figures, count, w, 'stream'):.3g}" for w in WORKERS]
        lines.append(f"| {count:.0e} | {' | '.join(row)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("measure")
    add.add_argument("--images", type=Path, required=True, help="a .npy file of make_images.py")
    add.add_argument("--folder", type=Path, required=True, help="for shards and results")
    add = commands.add_parser("predict")
    add.add_argument("--measured", type=Path, required=True, help="what `measure` printed")
    commands.add_parser("reduce")
    args = parser.parse_args()
    if args.command == "measure":
        print(json.dumps(measure(args.images, args.folder), indent=1))
    elif args.command == "predict":
        print(table(json.loads(args.measured.read_text())))
    else:
        reduce()


if __name__ == "__main__":
    main()
