"""Engines that are named work, or one line says what to do."""

import urllib.error

import apache_beam as beam
import pytest
from apache_beam.runners.portability import prism_runner
from apache_beam.version import __version__

from pipeline.errors import JobError, UserError
from pipeline.transforms import engines
from pipeline.transforms.runner import make_pipeline, run_pipeline


def run(*flags: str) -> None:
    run_pipeline(make_pipeline(lambda: beam.Create([0]), list(flags)))


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No Prism in Beam's cache, and none to be downloaded."""

    def refuse(url):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(prism_runner, "urlopen", refuse)
    monkeypatch.setattr(prism_runner.PrismJobServer, "BIN_CACHE", str(tmp_path))


def test_the_direct_runner_looks_for_no_other_engine(offline, monkeypatch):
    monkeypatch.setattr(prism_runner.PrismRunner, "run_pipeline", None)
    run("--runner", "DirectRunner")
    made = make_pipeline(lambda: beam.Create([0]), ["--runner", "DirectRunner"])
    assert type(made.runner).__name__ == engines.ENGINE


def test_prism_that_cannot_be_had(offline):
    with pytest.raises(UserError) as caught:
        run("--runner", "PrismRunner")
    assert str(caught.value).startswith("--runner PrismRunner: no Prism here, and none can be had")
    assert "no network" in str(caught.value)
    build = f"`go install github.com/apache/beam/sdks/v2/go/cmd/prism@v{__version__}`"
    assert str(caught.value).endswith(
        f"; build it, {build}, and give --prism_location ~/go/bin/prism"
    )


def test_prism_that_is_not_where_it_should_be(offline):
    with pytest.raises(UserError, match=r"PrismRunner: no Prism here.* \"/nowhere\".*go install"):
        run("--runner", "PrismRunner", "--prism_location", "/nowhere")


def test_a_job_service_that_is_not_named():
    with pytest.raises(UserError, match=r"PortableRunner: needs the --job_endpoint HOST:PORT of"):
        run("--runner", "PortableRunner")


def test_a_job_service_that_is_not_there():
    flags = ("--job_endpoint", "localhost:1", "--job_server_timeout", "1")
    error = "^--job_endpoint localhost:1: no job service answers there; start one, e.g. `prism`"
    with pytest.raises(UserError, match=error):
        run("--runner", "PortableRunner", "--environment_type", "LOOPBACK", *flags)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (
            "Pipeline failed in state FAILED: SDK worker disconnected: worker[1]",
            JobError,
            r"^the engine lost a worker process amid its work \(Pipeline failed .*; run the same c",
        ),
        (
            "failed to start environment 1: unable to create container image x with docker",
            UserError,
            "^the engine cannot start workers .*with docker.*; give --environment_type LOOPBACK",
        ),
    ],
)
def test_what_an_engine_says_of_its_workers(text, kind, message):
    with pytest.raises(kind, match=message):
        raise engines.explain(RuntimeError(text), None)


def test_what_is_not_known_is_left_as_it_is():
    assert engines.explain(RuntimeError("out of slots"), None) is None
