"""The estimator: K-means with scikit-learn's parameters, methods and attributes."""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from job.config import FitConfig
from job.estimator import fitting
from job.estimator.arrays import as_array, as_pixels, image_shape_of
from pipeline.errors import UserError, install_hint

try:
    from sklearn.base import (
        BaseEstimator,
        ClassNamePrefixFeaturesOutMixin,
        ClusterMixin,
        TransformerMixin,
    )
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import check_array, check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"KMeans needs scikit-learn 1.6 or later: {install_hint('sklearn')}"
    ) from error

# What messages of a fit call an option, and what it is called here.
PARAMETERS = {
    "k": "n_clusters",
    "init": "init",
    "seed": "random_state",
    "restarts": "n_init",
    "max-iterations": "max_iter",
    "tol": "tol",
    "algorithm": "algorithm",
    "replicas": "replicas",
}
RANDOM_INITS = 10  # as scikit-learn has it where `n_init` is "auto" and `init` is "random"
SEEDS = 2**31 - 1  # that are drawn where `random_state` is none itself

Init = str | np.ndarray | Callable[..., Any]


class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """Exact K-means of an array in memory: the bits that the command line gives of the same file.

    >>> from sklearn.datasets import load_digits
    >>> kmeans = KMeans(n_clusters=10).fit(load_digits().data.astype("uint8"))
    >>> kmeans.cluster_centers_.shape
    (10, 64)

    An array of uint8 is used where it lies. float32 is copied; float64 is rounded to float32 for
    the iterations, columns that lie far from 0 less their middle, while `labels_`, `inertia_` and
    all methods use all its digits. Integers count as uint8 if all lie in 0 … 255, else as float64.
    Images [n, h, w] and [n, h, w, c] are rows of n × d. Data frames of pandas and polars, tables of
    Arrow, and tensors of PyTorch, JAX and TensorFlow are arrays, too.

    All results are in the units of the array: centers of bytes lie in 0 … 255.

    Args:
      n_clusters: k.
      init: "k-means++", "k-means||" or "random"; or centroids [k, d]; or a function of the array,
        `n_clusters` and `random_state` that returns them.
      n_init: number of fits from different initial centroids; the one of lowest inertia is kept.
        "auto": 10 if `init` is "random", else 1.
      max_iter: most iterations of each.
      tol: stop when the squared shift of the centroids is at most this; 0 stops when no row
        changes its cluster.
      random_state: seed of all randomness. A whole number gives the same bits each time; None
        draws one.
      algorithm: "auto", "lloyd" or "hamerly"; all give the same result.
      replicas: number of devices to use; None: all GPUs, or one CPU.
      verbose: whether to show progress.

    Attributes:
      cluster_centers_: [k, d]; float32 if the array is, else float64.
      labels_: the nearest center of each row, int32 [n].
      inertia_: Σ squared distances of the rows to their centers.
      n_iter_: number of iterations.
      n_features_in_: d.
      feature_names_in_: names of the columns, if the array has names.
      history_: of each iteration its inertia, how many rows changed cluster, the squared shift of
        the centers, how many clusters were empty, and its seconds.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Init = "k-means++",
        n_init: int | str = 1,
        max_iter: int = 300,
        tol: float = 0.0,
        random_state: Any = 0,
        algorithm: str = "auto",
        replicas: int | None = None,
        verbose: int = 0,
    ):
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.algorithm = algorithm
        self.replicas = replicas
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "KMeans":
        """Finds the centers of the clusters of X.

        Args:
          X: [n, d], or images.
          y: is not used.
          sample_weight: [n], ≥ 0; None: all 1. A whole number w counts as w equal rows, to the bit;
            others are rounded to 2⁻²⁰ of the power of two above the largest.

        Raises:
          ValueError: X or a parameter is at fault.
        """
        shape = image_shape_of(X)
        pixels = self._pixels(X, reset=True)
        weights = _weights(sample_weight, len(pixels))
        with _as_parameters():
            config = self._config()
            if len(pixels) < config.k:
                raise UserError(f"n_samples={len(pixels)} should be >= n_clusters={config.k}.")
            initial = self._initial(pixels)
            found = fitting.fit_array(pixels, config, initial, weights, not self.verbose)
        self._n_init = config.restarts
        if not found.converged:
            text = f"not converged after max_iter={self.max_iter} iterations; raise max_iter or tol"
            warnings.warn(text, ConvergenceWarning, stacklevel=2)
        self.cluster_centers_, self.labels_ = found.centers, found.labels
        self.inertia_, self.n_iter_ = found.inertia, found.iterations
        self.history_ = found.history
        self._scale = fitting.scale_of(pixels)
        self._image_shape, self._converged = shape or pixels.shape[1:], found.converged
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Finds the nearest center of each row of X: int32 [n], of equally near ones the first."""
        pixels = self._fitted_pixels(X)
        blocks = fitting.assigned(pixels, self.cluster_centers_, self._scale)
        return np.concatenate([found.clusters for _, found in blocks])

    def transform(self, X: Any) -> np.ndarray:
        """Computes the distance of each row of X to each center: [n, k]; float32 if X is."""
        pixels = self._fitted_pixels(X)
        nearest = fitting.nearest(pixels, self.cluster_centers_, self._scale)
        distances = np.sqrt(nearest.squared_distances(pixels))
        if pixels.dtype == np.uint8:
            return distances * self._scale
        return distances.astype(pixels.dtype, copy=False)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Computes minus the sum of squared distances of the rows of X to their nearest centers."""
        pixels = self._fitted_pixels(X)
        weights = _weights(sample_weight, len(pixels))
        _, inertia = fitting.assign(pixels, self.cluster_centers_, self._scale, weights)
        return -inertia

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _html_repr(self) -> str:
        """Returns what notebooks show: the fitted centers and numbers, or scikit-learn's diagram.

        Up to version 1.6 scikit-learn does not ask, and shows its diagram.
        """
        if not hasattr(self, "cluster_centers_"):
            return super()._html_repr()
        from job.report.cell import build_array_cell

        centers = self.cluster_centers_
        facts = {
            "num_images": len(self.labels_),
            "image_shape": self._image_shape,
            "iterations": self.n_iter_,
            "converged": self._converged,
            "inertia": self.inertia_,
        }
        sizes = np.bincount(self.labels_, minlength=len(centers))
        return build_array_cell(centers / self._scale, sizes, facts, repr(self))

    def _pixels(self, X: Any, reset: bool) -> np.ndarray:
        """Checks and converts an array as scikit-learn does; uint8 is not copied."""
        return as_pixels(validate_data(self, as_array(X), reset=reset, dtype="numeric", order="C"))

    def _fitted_pixels(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self._pixels(X, reset=False)

    def _config(self) -> FitConfig:
        """Makes the options of a fit of the parameters; raises UserError if one is wrong."""
        return FitConfig(
            shards="",
            output="",
            k=self.n_clusters,
            init=self.init if isinstance(self.init, str) else "random",
            seed=self._seed(),
            restarts=self._restarts(),
            max_iterations=self.max_iter,
            tol=self.tol,
            algorithm=self.algorithm,
            replicas=self.replicas,
        )

    def _restarts(self) -> Any:
        """Returns how many fits there are; given centers are the same in each, so that one does."""
        if self.n_init == "auto":
            return RANDOM_INITS if isinstance(self.init, str) and self.init == "random" else 1
        if isinstance(self.init, str):
            return self.n_init
        if self.n_init != 1:
            text = "Explicit initial center position passed: performing only one init in KMeans"
            warnings.warn(f"{text} instead of n_init={self.n_init}.", RuntimeWarning, stacklevel=5)
        return 1

    def _seed(self) -> int:
        if self.random_state is None or isinstance(self.random_state, np.random.RandomState):
            return int(check_random_state(self.random_state).randint(SEEDS))
        return self.random_state

    def _initial(self, pixels: np.ndarray) -> np.ndarray | None:
        """Returns the initial centers that `init` gives, float64 [k, d]; None if it names a way."""
        if isinstance(self.init, str):
            return None
        init = self.init
        if callable(init):
            random = np.random.RandomState(self._seed() % SEEDS)
            init = init(pixels, self.n_clusters, random_state=random)
        centers = check_array(init, dtype=np.float64, input_name="init", estimator=self)
        # In scikit-learn's words.
        shown = f"The shape of the initial centers {centers.shape} does not match the number of"
        if len(centers) != self.n_clusters:
            raise UserError(f"{shown} clusters {self.n_clusters}.")
        if centers.shape[1] != pixels.shape[1]:
            raise UserError(f"{shown} features of the data {pixels.shape[1]}.")
        return centers


def _weights(sample_weight: Any, num_rows: int) -> np.ndarray | None:
    """Checks and converts weights: float64 [n], or None.

    Raises:
      ValueError: there is none for each row, or one is negative, or all are 0.
    """
    if sample_weight is None:
        return None
    sample_weight = np.asarray(sample_weight)
    if sample_weight.ndim == 0:
        sample_weight = np.full(num_rows, sample_weight)
    weights = check_array(
        sample_weight, dtype=np.float64, ensure_2d=False, input_name="sample_weight"
    )
    if weights.shape != (num_rows,):
        raise ValueError(f"sample_weight.shape == {weights.shape}, expected {(num_rows,)}!")
    if weights.min() < 0:
        raise ValueError(f"sample_weight: negative values, such as {weights.min():g}")
    if not weights.any():
        raise ValueError("sample_weight: all weights are zero; give at least one other number")
    return weights


@contextmanager
def _as_parameters() -> Iterator[None]:
    """Raises the errors of a fit as scikit-learn does, with the names of parameters."""
    try:
        yield
    except UserError as error:
        flag = rf"--({'|'.join(PARAMETERS)}) (?=\S)"
        text = re.sub(flag, lambda found: f"{PARAMETERS[found[1]]}=", str(error))
        raise ValueError(text) from error
