"""What several test modules share. TensorFlow is imported by those that use it, not here."""

import itertools
import logging
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import published
import pytest
import shard_set

MNIST = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist.npz"
NUM_CPUS = 4


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Devices are made before the first of them is used, or never."""
    if "tensorflow" in sys.modules:
        make_cpus()


def make_cpus() -> None:
    """Lets TensorFlow start with four logical CPU devices, the replicas of the tests."""
    import tensorflow as tf

    (cpu, *_) = tf.config.list_physical_devices("CPU")
    if tf.config.get_logical_device_configuration(cpu) is None:
        devices = [tf.config.LogicalDeviceConfiguration()] * NUM_CPUS
        tf.config.set_logical_device_configuration(cpu, devices)


@pytest.fixture(scope="session")
def cpus() -> None:
    """`make_cpus`, before any test's output is captured."""
    make_cpus()


@pytest.fixture(scope="session")
def mnist() -> Path:
    """The file of the real MNIST, in Keras' layout."""
    if not MNIST.exists():
        pytest.skip(f"no MNIST at {MNIST}")
    return MNIST


@pytest.fixture(scope="session")
def new_folder(tmp_path_factory) -> Callable[[], Path]:
    """A new empty folder at each call."""
    base, numbers = tmp_path_factory.mktemp("folders"), itertools.count()

    def make() -> Path:
        (folder := base / str(next(numbers))).mkdir()
        return folder

    return make


@pytest.fixture(scope="session")
def emulator() -> Iterator[str]:
    """A bucket, gs://bucket, of an emulator of Google's storage on this machine."""
    from gcp_storage_emulator.server import create_server

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        with create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket"):
            yield "gs://bucket"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A bucket, s3://bucket, of a server on this machine that speaks S3."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "key-of-a-test",
            "AWS_SECRET_ACCESS_KEY": "secret-of-a-test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "s3://bucket"
    server.stop()


@pytest.fixture
def s3_bucket(s3_server) -> str:
    """A folder of the S3 server that nobody else uses."""
    return f"{s3_server}/{uuid.uuid4().hex}"


@pytest.fixture
def bucket(emulator) -> str:
    """A folder of the emulator that nobody else uses."""
    return f"{emulator}/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def make_shards(new_folder) -> Callable[..., str]:
    """`shard_set.write` into a new folder; the folder."""

    def make(pixels: np.ndarray, **how) -> str:
        return shard_set.write(new_folder(), pixels, **how)

    return make


@pytest.fixture(scope="session")
def fit(cpus, new_folder) -> Callable[..., published.Published]:
    """`job.fitting.fit` into a new folder; what it published there.

    By default with `lloyd`, whose graph is traced fastest: the others make the same bits. And
    without the SavedModel, which takes as long as the rest, unless `saved_model`.
    """

    def run(shards: str, k: int, *, saved_model: bool = False, **options) -> published.Published:
        from job import fit as fitting
        from job.config import FitConfig
        from job.result import publish

        init = options.get("init")
        if isinstance(init, np.ndarray):
            np.save(path := new_folder() / "initial.npy", init)
            options["init"] = str(path)
        output = new_folder()
        options = {"algorithm": "lloyd", **options}
        with pytest.MonkeyPatch.context() as patch:
            if not saved_model:
                patch.setattr(publish.saved_model, "write_model", lambda *_: None)
            fitting.fit(FitConfig(shards=shards, output=str(output), k=k, **options))
        return published.read(output)

    return run
