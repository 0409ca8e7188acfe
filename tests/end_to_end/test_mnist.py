"""The real MNIST: the article's figures, scikit-learn's answers, the same bits. Takes minutes."""

import json

import numpy as np
import pytest
import shard_set
from sklearn.cluster import KMeans

from job.cli import main
from job.kmeans import ALGORITHMS, INITS

pytestmark = pytest.mark.slow

# For 10 and 100 clusters from `initial`: iterations and inertia of a float64 reference.
REFERENCE = {10: (70, 2357500.5519), 100: (113, 1680394.0833)}
PRUNED = sorted({*ALGORITHMS} - {"lloyd"})


@pytest.fixture(scope="module")
def arrays(mnist) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, d] and labels [n] of the training set."""
    with np.load(mnist) as file:
        return file["x_train"].reshape(60_000, 784), file["y_train"].astype(np.int64)


@pytest.fixture(scope="module")
def shards(make_shards, arrays) -> str:
    return make_shards(arrays[0], labels=arrays[1], num_shards=3, block_rows=1337)


def initial(images: np.ndarray, k: int) -> np.ndarray:
    return images[np.random.default_rng(0).choice(60_000, k, replace=False)] / 255


@pytest.mark.parametrize("seed", range(5))
def test_the_article(cpus, mnist, new_folder, arrays, seed):
    output = new_folder()
    flags = ["--k", "10", "--init", "random", "--seed", str(seed), "--quiet"]
    assert main(["run", "--input", str(mnist), "--output", str(output), *flags]) == 0
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["converged"]
    assert 0.55 <= metrics["purity"] <= 0.69
    assert 0.52 <= metrics["purity_weighted"] <= 0.65
    assert 2.35e6 <= metrics["inertia"] <= 2.40e6


@pytest.mark.parametrize("k", REFERENCE)
def test_scikit_learn(fit, shards, arrays, k):
    images = arrays[0]
    start = initial(images, k)
    ours = fit(shards, k, init=start, algorithm="auto")
    theirs = KMeans(k, init=start, n_init=1, tol=0, algorithm="lloyd").fit(images / 255)
    iterations, inertia = REFERENCE[k]
    assert ours.metrics["converged"]
    assert ours.metrics["iterations"] == theirs.n_iter_ == iterations
    assert ours.metrics["inertia"] == pytest.approx(theirs.inertia_, rel=1e-9)
    assert ours.metrics["inertia"] == pytest.approx(inertia, rel=1e-9)
    assert (ours.clusters != theirs.labels_).sum() <= 5
    check_agreement(ours, *arrays)


def check_agreement(result, images: np.ndarray, labels: np.ndarray) -> None:
    """Recomputes assignments, inertia, sizes and the article's purity in float64."""
    assert sorted(result.rows["id"].to_pylist()) == shard_set.numbered(60_000)
    centroids, pixels = result.centroids.astype(np.float64), images / 255
    score = np.square(centroids).sum(axis=1) - 2 * pixels @ centroids.T  # [n, k]
    own = score[np.arange(60_000), result.clusters]
    assert (own <= score.min(axis=1) + 1e-11).all()
    inertia = (own + np.square(pixels).sum(axis=1)).sum()
    assert result.metrics["inertia"] == pytest.approx(inertia, rel=1e-6)
    sizes = np.bincount(result.clusters, minlength=len(centroids))
    assert result.metrics["cluster_sizes"] == sizes.tolist()
    assert sizes.sum() == 60_000
    assert result.rows["label"].to_pylist() == labels.tolist()
    majorities = [np.bincount(labels[result.clusters == c]).max() for c in range(len(sizes))]
    assert result.metrics["purity"] == pytest.approx(np.mean(majorities / sizes), rel=1e-12)


@pytest.mark.parametrize("init", [*INITS, "given"])
def test_the_same_bits(fit, make_shards, arrays, init):
    """Twelve iterations: most images have moved, some more than once."""
    images, labels = arrays
    options = {"init": initial(images, 10) if init == "given" else init, "max_iterations": 12}
    rng, bits = np.random.default_rng(0), []
    for replicas, num_shards in [(1, 1), (2, 3), (3, 16), (4, 1)]:
        order = rng.permutation(60_000) if bits else None
        folder = make_shards(images, labels=labels, num_shards=num_shards, order=order)
        bits.append(fit(folder, 10, replicas=replicas, **options).bits())
        assert bits[-1] == bits[0]


@pytest.mark.parametrize("k", [10, 100, 1000])
def test_algorithms_make_the_same_bits(fit, shards, arrays, k):
    options = {"init": initial(arrays[0], k), "max_iterations": 300 if k < 1000 else 12}
    lloyd = fit(shards, k, **options).bits()
    for algorithm in PRUNED:
        assert fit(shards, k, algorithm=algorithm, **options).bits() == lloyd
