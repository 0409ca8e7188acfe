"""How the time of an iteration grows: with images, and with workers, measured and predicted.

    python benchmarks/scale.py growth --images m1200k.npy --folder scratch
    python benchmarks/scale.py fleet --images m1200k.npy --folder scratch

`growth` runs the real `fit` on prefixes of the images, from memory and read anew. `fleet` measures
one process and all-reduces between two and four, fits `fleet_model.py` to them, compares what that
says of 2, 4 and 8 workers with what these take, here, and prints what it says of larger fleets. The
last line is JSON with all figures.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import fleet_model as model
import numpy as np
from fleet_model import Job, Rates

ROOT = Path(__file__).resolve().parents[1]
SIZES = (60_000, 120_000, 240_000, 480_000, 1_200_000)
ITERATIONS = 8
D = 784
# Of `fleet`: what one process, and what several, are measured with.
COUNTS, CLUSTERS, WORKERS = (8_000, 32_000), (10, 100, 500), (1, 2, 4, 8)
FLEETS = (8, 64, 1_024)  # that are only predicted
REDUCED, REPEATS = (10, 100, 500, 1_000), 15
ROUNDS = 1  # of each the best counts: the machine has other work to do
# A network that a cluster of machines has, 10 Gbit/s and 50 µs a message; guesses, like the rest.
NETWORK = {"seconds_byte": 1 / 1.25e9, "seconds_message": 50e-6, "spread": 0.05}
LOSS_SECONDS, CHECKPOINT_SECONDS, START_SECONDS = 30 * 86_400, 60, 60
HOST_BYTES, LONG_SECONDS = 32e9, 600  # of a worker's machine; an iteration that nobody waits for


def run(*command) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, env=environment, check=True)


def shards_of(images: Path, count: int, folder: Path) -> Path:
    """The first `count` of the images, as eight shards or more."""
    target = folder / f"shards-{count}"
    if not (target / "manifest.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        prefix = folder / f"images-{count}.npy"
        np.save(prefix, np.load(images, mmap_mode="r")[:count])
        shards = ("--num-shards", max(8, count // 80_000))
        run("-m", "job", "shard", "--input", prefix, "--output", target, "--quiet", *shards)
        prefix.unlink()
    return target


def iteration_seconds(shards: Path, memory: str, folder: Path) -> float:
    """Median over the iterations of `fit` after the first, in which graphs are traced."""
    output = folder / "out"
    run(
        *("-m", "job", "fit", "--shards", shards, "--output", output, "--k", 10),
        *("--memory", memory, "--init", "random", "--algorithm", "lloyd"),
        *("--max-iterations", ITERATIONS, "--overwrite", "--quiet"),
    )
    history = [json.loads(line) for line in (output / "history.jsonl").open()]
    return statistics.median(record["seconds"] for record in history[1:])


def growth(images: Path, folder: Path) -> dict:
    """Prints a table of `fit` on prefixes of the images; returns its figures."""
    available = len(np.load(images, mmap_mode="r"))
    sizes = [size for size in SIZES if size <= available]
    print("| images | resident | streamed | streamed / resident |\n|--:|--:|--:|--:|")
    found: dict = {"resident": {}, "stream": {}}
    for count in sizes:
        shards = shards_of(images, count, folder)
        one, other = (iteration_seconds(shards, memory, folder) for memory in found)
        found["resident"][count], found["stream"][count] = one, other
        print(f"| {count:,} | {one:.3f} | {other:.3f} | {other / one:.2f} |")
    for memory, seconds in found.items():
        slope = np.polyfit(np.log(sizes), np.log(list(seconds.values())), 1)[0]
        print(f"{memory}: time grows with images to the power of {slope:.2f}")
    return found


def together(num_workers: int, *arguments) -> dict:
    """Runs `worker` in so many processes on this machine; returns the figures of the first."""
    sockets = [socket.socket() for _ in range(num_workers)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    started = []
    for index in range(num_workers):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
        command = [sys.executable, __file__, "worker", *map(str, arguments)]
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE))
    outputs = [each.communicate()[0] for each in started]
    return json.loads(outputs[0].splitlines()[-1])


def go_first() -> None:
    """Lets all threads of this process run before other work on this machine, if root asks."""
    with contextlib.suppress(PermissionError, AttributeError):
        for thread in os.listdir("/proc/self/task"):
            os.sched_setscheduler(int(thread), os.SCHED_RR, os.sched_param(1))


def worker(folders: list[str]) -> dict:
    """Times all-reduces, then the iterations on the shards of each folder, in one of the workers.

    Returns:
      reduce: seconds by k; fit: the seconds of each iteration after the first, by folder and k.
    """
    sys.path.insert(0, str(ROOT))
    from job.config import FitConfig
    from job.distribute import workers
    from job.distribute.replicas import local_replicas
    from job.images.resident import ResidentImages
    from job.kmeans import loop
    from pipeline.shards.manifest import load_manifest

    class Seconds(list):
        """Collects the seconds of all iterations."""

        def on_seeding(self, *_) -> None:
            pass

        def on_iteration(self, record) -> None:
            self.append(record.seconds)

        def on_state(self, _) -> None:
            pass

    group = workers.parse(os.environ["TF_CONFIG"])
    if group is not None:
        workers.wait_for_peers(group, 300)
    replicas = local_replicas(1, group)
    sets = [ResidentImages(folder, load_manifest(folder), replicas) for folder in folders]
    go_first()
    found: dict = {"reduce": {}, "fit": {}}
    for k in REDUCED:
        seconds = []
        for _ in range(REPEATS + 2):
            start = time.perf_counter()
            # No whole numbers, of which large arrays would travel in half the bytes.
            replicas.all_reduce([np.full(k * (D + 1), 0.5)])
            seconds.append(time.perf_counter() - start)
        found["reduce"][k] = min(seconds[2:])
    for images in sets:
        for k in CLUSTERS:
            options = {"init": "random", "algorithm": "lloyd", "max_iterations": ITERATIONS}
            config = FitConfig(shards="", output="", k=k, **options)
            timed = Seconds()
            loop.run_restarts(images, config, timed)
            found["fit"][f"{images.num_images},{k}"] = timed[1:]
    return found


def measured(images: Path, folder: Path) -> dict[int, dict]:
    """Returns, by number of workers, the best figures of all rounds, each a median of iterations.

    All workers make the same iterations, so an iteration is compared with itself.
    """
    shards = [shards_of(images, count, folder) for count in COUNTS]
    found: dict[int, dict] = {w: {"reduce": {}, "fit": {}} for w in WORKERS}
    for _ in range(ROUNDS):
        for w, best in found.items():
            figures = together(w, *(shards if w == 1 else shards[-1:]))
            print(f"{w} workers: {figures}", file=sys.stderr)
            for k, seconds in figures["reduce"].items():
                best["reduce"][k] = min(seconds, best["reduce"].get(k, np.inf))
            for name, each in figures["fit"].items():
                best["fit"][name] = np.minimum(each, best["fit"].get(name, np.inf)).tolist()
    for best in found.values():
        best["fit"] = {name: statistics.median(each) for name, each in best["fit"].items()}
    return found


def rates_of(found: dict[int, dict]) -> Rates:
    """Fits the model to one process, and to the all-reduces of two and four."""
    alone = [(*map(int, name.split(",")), s) for name, s in found[1]["fit"].items()]
    rates = model.fitted_compute(alone, os.cpu_count() or 1)
    sums = [
        (Job(0, int(k), D, w, p=w), seconds)
        for w in (2, 4)
        for k, seconds in found[w]["reduce"].items()
    ]
    return model.fitted_reduce(rates, sums)


def fleet(images: Path, folder: Path) -> dict:
    """Prints what is measured beside what is predicted, and predictions for larger fleets."""
    found = measured(images, folder)
    rates = rates_of(found)
    print(
        "| workers | k | measured s | predicted s | predicted / measured |\n|--:|--:|--:|--:|--:|"
    )
    for w in WORKERS:
        for k in CLUSTERS:
            seconds = found[w]["fit"][f"{COUNTS[-1]},{k}"]
            says = model.iteration_seconds(rates, Job(COUNTS[-1], k, D, w, p=w))
            print(f"| {w} | {k} | {seconds:.3f} | {says:.3f} | {says / seconds:.2f} |")
    print("\n" + predictions(dataclasses.replace(rates, **NETWORK)))
    return {"measured": found, "rates": dataclasses.asdict(rates)}


def predictions(rates: Rates) -> str:
    """Seconds of an iteration, of them its all-reduce, and what breaks first, as Markdown."""
    lines = [
        "| images | k | GB of worker 0 | " + " | ".join(f"{w:,} workers" for w in FLEETS) + " |",
        "|--:" * (3 + len(FLEETS)) + "|",
    ]
    for n, k in itertools.product((1e8, 1e9, 1e10), (10, 1_000, 10_000)):
        cells = [cell(rates, Job(n, k, D, w)) for w in FLEETS]
        first = model.first_bytes(Job(n, k, D, 1)) / 1e9
        lines.append(f"| {n:.0e} | {k:,} | {first:.1f} | {' | '.join(cells)} |")
    for w in FLEETS:
        longer = model.with_restarts(w, LOSS_SECONDS, CHECKPOINT_SECONDS, START_SECONDS)
        lines.append(f"{w:,} workers, with losses: {longer:.4f} times as long")
    return "\n".join(lines)


def cell(rates: Rates, job: Job) -> str:
    seconds, reduce = model.iteration_seconds(rates, job), model.reduce_seconds(rates, job)
    strains = {
        "": 1.0,
        " M": model.first_bytes(job) / HOST_BYTES,  # memory of worker 0 for findings
        " W": model.worker_bytes(job, resident=False) / HOST_BYTES,
        " T": (seconds - reduce) / LONG_SECONDS,
        " R": 2 * reduce / seconds,
    }
    return f"{seconds:.3g} ({reduce:.2g}){max(strains, key=lambda name: strains[name])}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("growth", "fleet"):
        add = commands.add_parser(name)
        add.add_argument("--images", type=Path, required=True, help="a .npy file of make_images.py")
        add.add_argument("--folder", type=Path, required=True, help="for shards and results")
    commands.add_parser("worker").add_argument("folders", nargs="+")
    args = parser.parse_args()
    if args.command == "worker":
        print(json.dumps(worker(args.folders)))
    else:
        print(
            json.dumps({"growth": growth, "fleet": fleet}[args.command](args.images, args.folder))
        )


if __name__ == "__main__":
    main()
