"""Package metadata of kmeans-job."""

import re
from pathlib import Path

from setuptools import find_packages, setup

GCP = [
    "apache-beam[gcp]",
    "google-cloud-aiplatform>=1.70",
    "google-cloud-storage>=3,<4",
]
S3 = ["s3fs>=2025.3"]  # with which botocore compares checksums both ways
HTTP = ["fsspec>=2024.10", "aiohttp>=3.9"]
HEIC = ["pillow-heif>=0.16"]
COMPLETION = ["argcomplete>=3.5"]
SKLEARN = ["scikit-learn>=1.6"]
MLFLOW = ["mlflow-skinny>=2.14"]
WANDB = ["wandb>=0.17"]
ONNX = ["onnx>=1.16"]
TEST = [
    *GCP,
    *S3,
    *HTTP,
    *HEIC,
    *COMPLETION,
    *ONNX,
    "build>=1.2",
    "datasets>=3",  # sets as Hugging Face's library leaves them
    "distributed>=2024.4.2",  # a cluster for Beam, in tests
    "gcp-storage-emulator>=2024.8.3",
    "google-cloud-build>=3.25",
    "hypothesis>=6.100",
    "ipykernel>=6.29",  # runs the notebooks of docs/
    "kubernetes-validate>=1.33",  # schemas of Kubernetes
    *MLFLOW,
    "moto[s3,server]>=5.0.20",  # a server that speaks S3
    "mypy>=1.10",
    "nbclient>=0.10",
    "onnxruntime>=1.18",
    "pandas>=2.2",
    "polars>=1.9",
    "prometheus-client>=0.20",  # reads what --metrics-port serves
    "pytest>=8",
    "pytest-xdist>=3.5",
    "ruff>=0.6",
    *SKLEARN,
    "selenium>=4.20",
    "tensorboard>=2.18",
    "twine>=6",
    "types-protobuf",
    "types-PyYAML",
    "types-tqdm",
    *WANDB,
    "webdataset>=0.2.100",
]

ROOT = Path(__file__).parent


def version() -> str:
    """The version, which stands in job/__init__.py alone."""
    found = re.search(r'__version__ = "(.+)"', (ROOT / "job" / "__init__.py").read_text("utf-8"))
    assert found
    return found[1]


def description() -> str:
    """README.md without its picture, which an index of packages does not have."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("!["))


setup(
    name="kmeans-job",
    version=version(),
    description="Exact K-means for large sets of images: Apache Beam shards, TensorFlow clusters",
    long_description=description(),
    long_description_content_type="text/markdown",
    author="The kmeans-job developers",
    license="Apache-2.0",
    keywords="k-means clustering images apache-beam tensorflow reproducible",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Framework :: Jupyter",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Natural Language :: English",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Processing",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["job*", "kmeans_job*", "pipeline*"]),
    package_data={
        "job": ["py.typed"],
        "job.report": ["templates/*"],
        "kmeans_job": ["py.typed"],
        "pipeline": ["py.typed"],
        "pipeline.sources": ["data/*"],
    },
    install_requires=[
        "apache-beam>=2.70,<3",
        "google-crc32c>=1.5",
        "jinja2>=3.1",
        "numpy>=1.26",
        "pillow>=11.3",
        "protobuf>=5",
        "pyarrow>=16",
        "pyyaml>=6",
        "scipy>=1.12",
        "tensorflow>=2.18,<3",
        "threadpoolctl>=3.1",
        "tqdm>=4.66",
    ],
    extras_require={
        "gcp": GCP,
        "s3": S3,
        "azure": ["adlfs>=2024.7"],
        "hdfs": ["fsspec>=2024.10"],  # pyarrow has the client
        "http": HTTP,
        "heic": HEIC,
        "completion": COMPLETION,
        "onnx": ONNX,
        "sklearn": SKLEARN,
        "mlflow": MLFLOW,
        "wandb": WANDB,
        "tensorboard": ["tensorboard>=2.18"],
        "dask": ["apache-beam[dask]"],
        # What benchmarks/fit.py compares with.
        "bench": [
            "faiss-cpu>=1.8",
            "scikit-learn>=1.4",
            "scikit-learn-intelex>=2024.5",
            "superkmeans>=0.2",
        ],
        "test": TEST,
    },
    entry_points={
        "console_scripts": [
            "kmeans-job=job.start:main",
            "kmeans-job-worker=pipeline.transforms.worker:main",
        ]
    },
)
