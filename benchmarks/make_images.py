"""Many images from few: MNIST and its small shifts, always the same ones, as one .npy file.

    python benchmarks/make_images.py --mnist mnist.npz --num-images 8100000 --output images.npy

Image i is training image i mod 60,000, moved by the (i div 60,000)-th of the shifts of up to
RADIUS pixels, the smallest first. Memory: MNIST and one block.
"""

import argparse
from pathlib import Path

import numpy as np

RADIUS = 6
BLOCK_IMAGES = 20_000


def shifts(radius: int = RADIUS) -> list[tuple[int, int]]:
    """(down, right) in pixels, the smallest first."""
    span = range(-radius, radius + 1)
    return sorted(((y, x) for y in span for x in span), key=lambda s: (s[0] ** 2 + s[1] ** 2, s))


def shifted(images: np.ndarray, down: int, right: int) -> np.ndarray:
    """Images [n, h, w] moved, with 0 where nothing was."""
    moved = np.zeros_like(images)
    h, w = images.shape[1:]
    to = slice(max(down, 0), h + min(down, 0)), slice(max(right, 0), w + min(right, 0))
    of = slice(max(-down, 0), h - max(down, 0)), slice(max(-right, 0), w - max(right, 0))
    moved[:, to[0], to[1]] = images[:, of[0], of[1]]
    return moved


def write(mnist: Path, num_images: int, output: Path) -> None:
    """Writes `num_images` images, uint8 [n, 28, 28]."""
    with np.load(mnist) as file:
        images = file["x_train"]
    moves = shifts()
    if num_images > len(images) * len(moves):
        raise SystemExit(f"--num-images: at most {len(images) * len(moves):,}")
    shape = (num_images, *images.shape[1:])
    with output.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, num_images, len(images)):
            move = moves[start // len(images)]
            for first in range(0, min(len(images), num_images - start), BLOCK_IMAGES):
                last = min(first + BLOCK_IMAGES, len(images), num_images - start)
                file.write(shifted(images[first:last], *move).data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", type=Path, required=True, help="mnist.npz, as Keras has it")
    parser.add_argument("--num-images", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True, help="the .npy file")
    args = parser.parse_args()
    write(args.mnist, args.num_images, args.output)


if __name__ == "__main__":
    main()
