"""Where the seconds of a whole `run` go: python benchmarks/stages.py [--picture docs/stages.svg].

Runs the command, in a process of its own each, on MNIST, on 6,000 JPEGs of 256 × 256 pixels made
64 × 64, and on 200,000 × 512 float32. A thread looks 200 times a second what the command's main
thread is doing; what other threads and processes do meanwhile is in the stage that waits for them.
Prints Markdown, and draws the table as bars.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from html import escape
from pathlib import Path
from types import FrameType

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
MNIST = ROOT.parent / "shared" / "data" / "mnist.npz"
SECONDS = 0.005  # between two looks
# The stage is the first of these that a frame of the stack belongs to: the end of a module's path,
# or a function's name. Imports come first, since any stage may import.
STAGES = {
    "importing": ("<frozen importlib._bootstrap>", "import_tensorflow"),
    "tracing graphs": ("get_concrete_function",),
    "drawing the report": ("job/report/page.py", "job/result/examples.py"),
    "publishing": ("job/result/publish.py", "job/result/write.py", "job/result/saved_model.py"),
    "seeding": ("_seed",),
    "iterating": ("_iterate",),
    "loading shards": ("job/images/resident.py", "job/images/streamed.py"),
    "sharding": ("pipeline/shard.py", "job/run.py"),
}
COLOURS = [
    "#8c8c8c",
    "#b58bc9",
    "#d98b5f",
    "#e3b94b",
    "#77a6a0",
    "#3b7dbb",
    "#86b56b",
    "#c56a72",
    "#c9c9c9",
]
OTHER = "anything else"
# As they follow each other, for the table and the picture.
ORDER = ("importing", "sharding", "loading shards", "seeding", "tracing graphs", "iterating")
ORDER += ("publishing", "drawing the report", OTHER)
LEAST_SHOWN = 0.05  # seconds
BAR, GAP, LEFT, WIDTH = 30, 26, 150, 620  # of the picture, in pixels


def stage_of(frame: FrameType | None) -> str:
    """Names the stage that the innermost frame of a stack and its callers are in."""
    names = []
    while frame is not None:
        names += [frame.f_code.co_filename, frame.f_code.co_name]
        frame = frame.f_back
    for stage, marks in STAGES.items():
        if any(name == mark or name.endswith("/" + mark) for name in names for mark in marks):
            return stage
    return OTHER


def watch(thread: int, seen: collections.Counter[str]) -> None:
    """Counts the seconds of each stage of a thread, for ever."""
    before = time.perf_counter()
    while True:
        time.sleep(SECONDS)
        now = time.perf_counter()
        seen[stage_of(sys._current_frames().get(thread))] += now - before
        before = now


def measured(arguments: list[str]) -> dict[str, float]:
    """Runs `kmeans-job` with the arguments in another process; the seconds of each stage."""
    command = [sys.executable, __file__, "--watch", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def write_inputs(folder: Path) -> dict[str, tuple[str, ...]]:
    """Writes the sets that are not there; name → the options that `run` gets for each."""
    import decode

    decode.write_photos(photos := folder / "photos", 6_000)
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(200, 512))
    vectors = middles[rng.integers(0, 200, 200_000)] + rng.normal(size=(200_000, 512))
    np.save(folder / "vectors.npy", vectors.astype(np.float32))
    sets = {
        "6,000 JPEGs": ("--input", str(photos), "--image-size", "64x64", "--k", "10"),
        "200,000 × 512": ("--input", str(folder / "vectors.npy"), "--k", "100"),
    }
    if MNIST.exists():
        return {"MNIST": ("--input", str(MNIST), "--k", "10"), **sets}
    sys.stdout.write(f"{MNIST} is not there: left out\n")
    return sets


def drawn(found: dict[str, dict[str, float]]) -> str:
    """Draws a bar for each run, as SVG."""
    each = [*found.values()]
    names = [name for name in ORDER if max(one.get(name, 0) for one in each) >= LEAST_SHOWN]
    colours = dict(zip(ORDER, COLOURS, strict=True))
    longest = max(sum(one.values()) for one in each)
    parts = []
    for row, (title, seconds) in enumerate(found.items()):
        y, x = GAP + row * (BAR + GAP), float(LEFT)
        whole = sum(seconds.values())
        parts.append(f'<text x="8" y="{y + 20}">{escape(title)}: {whole:.1f} s</text>')
        for name in filter(seconds.get, names):
            width = WIDTH * seconds[name] / longest
            what = f"<title>{escape(title)}, {name}: {seconds[name]:.1f} s</title>"
            box = f'x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}"'
            parts.append(f'<rect {box} fill="{colours[name]}">{what}</rect>')
            if width > 30:
                parts.append(f'<text x="{x + 5:.1f}" y="{y + 20}">{seconds[name]:.1f}</text>')
            x += width
    top = GAP + len(found) * (BAR + GAP)
    for number, name in enumerate(names):
        x, y = LEFT + number % 3 * 210, top + number // 3 * 22
        parts.append(f'<rect x="{x}" y="{y}" width="14" height="14" fill="{colours[name]}"/>')
        parts.append(f'<text x="{x + 20}" y="{y + 12}">{name}</text>')
    size = f"{LEFT + WIDTH + 20} {top + (len(names) + 2) // 3 * 22 + 10}"
    style = 'font-family="sans-serif" font-size="13"'
    paper = '<rect width="100%" height="100%" fill="#fff"/>'
    lines = "\n".join([paper, *parts])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" {style}>\n{lines}\n</svg>\n'
    )


def main() -> None:
    """Measures and prints; with --watch it is the process that is measured."""
    if sys.argv[1:2] == ["--watch"]:
        from job.cli import main as command

        seen: collections.Counter[str] = collections.Counter()
        own = threading.main_thread().ident
        threading.Thread(target=watch, args=(own, seen), daemon=True).start()
        status = command(sys.argv[2:])
        print(json.dumps(seen))
        sys.exit(status)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path, help="draw the bars into this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        inputs = write_inputs(Path(folder))
        found = {
            name: measured(["run", *given, "--output", f"{folder}/{number}", "--quiet"])
            for number, (name, given) in enumerate(inputs.items())
        }
    print("| stage |" + "".join(f" {name} |" for name in found))
    print("|---|" + "--:|" * len(found))
    for stage in ORDER:
        print(f"| {stage} |" + "".join(f" {each.get(stage, 0):.1f} |" for each in found.values()))
    print("| **all** |" + "".join(f" {sum(each.values()):.1f} |" for each in found.values()))
    if options.picture:
        options.picture.write_text(drawn(found), encoding="utf-8")


if __name__ == "__main__":
    main()
