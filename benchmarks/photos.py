"""Photos as vectors, and a plain loop: python benchmarks/photos.py [--photos 3000] [--keep DIR].

Cuts crops of the sample photos of scikit-learn, and of scikit-image where that is installed, and
makes vectors of them with `--transform keras:NAME --normalize` and, alternately on the same files,
with the loop that one would write: load_img, preprocess_input, model.predict. Real weights need a
network; random ones take as long. With --keep the photos, shards and a result of 12 clusters stay.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# Name → the file of its weights that Keras looks for.
MODELS = {
    "MobileNetV3Small": "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
    "MobileNetV2": "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
}
SIDES = (160, 256)  # of crops, from … to
ROUNDS = 6


def samples() -> Iterator[tuple[str, np.ndarray]]:
    """(name, pixels [h, w, 3]) of the sample photos in colour."""
    from sklearn.datasets import load_sample_images

    yield from zip(("china", "flower"), load_sample_images().images, strict=True)
    try:
        from skimage import data
    except ImportError:
        return
    for name in ("astronaut", "chelsea", "coffee", "rocket", "retina", "hubble_deep_field"):
        try:
            yield name, getattr(data, name)()
        except Exception:  # some are downloaded
            print(f"without {name}", file=sys.stderr)


def write_photos(folder: Path, count: int) -> None:
    """Writes crops of all samples as JPEG, in a folder for each sample."""
    rng, photos = np.random.default_rng(0), list(samples())
    for number in range(count):
        name, pixels = photos[number % len(photos)]
        height, width = rng.integers(*SIDES, 2)
        top = rng.integers(0, pixels.shape[0] - height)
        left = rng.integers(0, pixels.shape[1] - width)
        (folder / name).mkdir(parents=True, exist_ok=True)
        crop = Image.fromarray(pixels[top : top + height, left : left + width])
        crop.save(folder / name / f"{number:05d}.jpg", quality=92)


def use_random_weights(home: Path, name: str) -> None:
    """Puts random weights where Keras looks, and lets it take them."""
    os.environ["KERAS_HOME"] = str(home)
    import keras
    from keras.src.applications import mobilenet_v3

    keras.utils.set_random_seed(0)
    side = 224
    model = getattr(keras.applications, name)(
        weights=None, include_top=False, pooling="avg", input_shape=(side, side, 3)
    )
    (home / "models").mkdir(parents=True, exist_ok=True)
    model.save(home / "models" / MODELS[name])
    mobilenet_v3.WEIGHTS_HASHES.update(dict.fromkeys(mobilenet_v3.WEIGHTS_HASHES, (None, None)))


def timed(work: Callable[[], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Calls `work`; returns what it returns, and seconds (of all cores, by the clock)."""
    cpu, clock = time.process_time(), time.perf_counter()
    found = work()
    return found, np.array([time.process_time() - cpu, time.perf_counter() - clock])


def plain_loop(name: str) -> Callable[[list[Path]], np.ndarray]:
    """The loop that one would write: a function of files that returns vectors [n, N]."""
    import keras

    from pipeline.features.application import _application

    application, preprocess = _application(name)
    model = application(include_top=False, pooling="avg", input_shape=(224, 224, 3))

    def embed(files: list[Path]) -> np.ndarray:
        found = []
        for start in range(0, len(files), 32):
            images = [
                keras.utils.img_to_array(keras.utils.load_img(file, target_size=(224, 224)))
                for file in files[start : start + 32]
            ]
            found.append(model.predict(preprocess(np.stack(images)), verbose=0))
        return np.concatenate(found)

    return embed


def ours(spec: str, photos: Path, folder: Path, thumbnails: int) -> Callable[..., np.ndarray]:
    """The transform as a worker applies it: a function of files that returns vectors [n, N]."""
    from pipeline.config import ShardConfig
    from pipeline.features.source import Transformed
    from pipeline.shard import open_input
    from pipeline.shards import plan
    from pipeline.shards.block import Block

    folder.mkdir()
    config = ShardConfig(
        input=(str(photos),), output=str(folder), transform=spec, thumbnails=thumbnails
    )
    source = open_input(config)
    assert isinstance(source, Transformed)
    source.save()
    source = source.loaded()

    def embed(files: list[Path]) -> np.ndarray:
        names = [os.fsencode(file.relative_to(photos)) for file in files]
        piece = plan.Listing(0, [(0, plan.NUL.join(names))])
        return np.concatenate([b.pixels for b in source.read(piece) if isinstance(b, Block)])

    return embed


def main() -> None:
    """Prints seconds of both, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=3000)
    parser.add_argument("--model", choices=MODELS, default="MobileNetV3Small")
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        photos, spec = folder / "photos", f"keras:{arguments.model}"
        write_photos(photos, arguments.photos)
        use_random_weights(folder / "keras", arguments.model)
        ways = {
            "plain loop": plain_loop(arguments.model),
            "shard, no thumbnails": ours(spec, photos, folder / "none", 0),
            "shard": ours(spec, photos, folder / "some", 96),
        }
        files = sorted(photos.rglob("*.jpg"))
        seconds = {name: np.zeros(2) for name in ways}
        for way in ways.values():
            way(files[:32])  # which traces the model
        for number in range(ROUNDS):
            part = sorted(files[number::ROUNDS])
            for name, way in ways.items():
                vectors, spent = timed(lambda way=way, part=part: way(part))
                assert len(vectors) == len(part)
                seconds[name] += spent
        print(f"{len(files)} photos, {arguments.model}, load {os.getloadavg()[0]:.1f}")
        for name, (cpu, clock) in seconds.items():
            ratios = seconds[name] / seconds["plain loop"]
            print(f"{name:22s} {cpu:7.1f} s of cores ({ratios[0]:.2f} ×) {clock:7.1f} s "
                  f"({ratios[1]:.2f} ×)")  # fmt: skip
        if arguments.keep:
            from job.cli import main as run

            shards = ["--input", str(photos), "--transform", spec, "--normalize"]
            assert run(["shard", *shards, "--output", str(folder / "shards")]) == 0
            fit = ["--shards", str(folder / "shards"), "--output", str(folder / "out")]
            assert run(["fit", *fit, "--k", "12"]) == 0


if __name__ == "__main__":
    main()
