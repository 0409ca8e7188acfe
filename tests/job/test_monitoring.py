"""The figures of a fit, as Prometheus reads them."""

import urllib.error
import urllib.request

import jobs
import pytest
from prometheus_client.parser import text_string_to_metric_families

from job.callbacks import DoNothing
from job.config import FitConfig
from job.kmeans.loop import IterationRecord
from job.monitoring import CONTENT_TYPE, Figures, served
from pipeline.errors import UserError

RECORD = IterationRecord(1, 3, 12345.678901234567, 42, 0.5, 0, 0.25)
FIGURES = {
    "workers": 4,
    "images": 1000,
    "restart": 1,
    "iteration": 3,
    "inertia": 12345.678901234567,
    "changed_images": 42,
    "iteration_seconds": 0.25,
    "images_per_second": 4000,
}


def read(text: str) -> dict[str, float]:
    """The value of each figure, by its name without the prefix; all are of worker 2."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert (family.type, bool(family.documentation)) == ("gauge", True)
        (sample,) = family.samples
        assert sample.labels == {"worker": "2"}
        found[sample.name.removeprefix("kmeans_job_")] = sample.value
    return found


def fetch(port: int, path: str = "/metrics"):
    return urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60)


def test_figures_of_the_last_iteration():
    figures = Figures(1000, 2, 4)
    assert read(figures.text()) == {"workers": 4, "images": 1000}
    figures.on_iteration(RECORD._replace(iteration=2))
    figures.on_iteration(RECORD)
    assert read(figures.text()) == FIGURES


def test_an_iteration_without_time_has_no_rate():
    figures = Figures(1000, 2, 4)
    figures.on_iteration(RECORD._replace(seconds=0.0))
    assert "images_per_second" not in read(figures.text())


def test_figures_are_served_during_the_block():
    figures, (port,) = Figures(1000, 2, 4), jobs.free_ports(1)
    with served(figures, port):
        figures.on_iteration(RECORD)
        with fetch(port) as response:
            assert response.headers["Content-Type"] == CONTENT_TYPE
            assert read(response.read().decode()) == FIGURES
        with pytest.raises(urllib.error.HTTPError, match="404: figures are at /metrics"):
            fetch(port, "/")
        message = f"--metrics-port {port}: cannot listen there .Address already in use."
        with pytest.raises(UserError, match=message), served(figures, port):
            pass
    with pytest.raises(urllib.error.URLError):
        fetch(port)


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_what_is_no_port_is_refused(port):
    with pytest.raises(UserError, match=f"--metrics-port {port}: choose from 1 to 65535"):
        FitConfig("shards", "out", 3, metrics_port=port)


def test_a_fit_serves_its_figures(fit, make_shards):
    """Asked by a callback, while the fit runs."""
    import numpy as np

    from job import fit as fitting

    images = np.random.default_rng(0).integers(0, 256, (60, 4)).astype(np.uint8)
    (port,) = jobs.free_ports(1)
    seen = []

    class Ask(DoNothing):
        def on_begin(self, config):
            assert "metrics_port" not in config

        def on_iteration(self, record):
            with fetch(port) as response:
                seen.append((record, response.read().decode()))

        def on_end(self, metrics):
            pass

    shards = make_shards(images)
    output = shards + "-out"
    config = FitConfig(shards, output, 3, algorithm="lloyd", metrics_port=port)
    fitting.fit(config, followers=[Ask()])
    assert seen
    for record, text in seen:
        lines = text.splitlines()
        assert f'kmeans_job_iteration{{worker="0"}} {record.iteration}' in lines
        assert f'kmeans_job_inertia{{worker="0"}} {record.inertia!r}' in lines
        assert f'kmeans_job_changed_images{{worker="0"}} {record.changed}' in lines
