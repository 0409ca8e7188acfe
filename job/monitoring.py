"""Figures of a fit that is under way, for Prometheus: one more callback of the loop.

They are served as Prometheus' text format, version 0.0.4, at http://HOST:PORT/metrics. A package
for it would be a dependency of every fit, for a page of lines.
"""

import contextlib
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from job.callbacks import DoNothing
from job.kmeans.loop import IterationRecord
from pipeline.errors import UserError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PATH = "/metrics"


class Gauge(NamedTuple):
    """A figure: its name, without the prefix, and what it says."""

    name: str
    help: str


GAUGES = (
    Gauge("workers", "Workers of this fit."),
    Gauge("images", "Images of the set, over all workers."),
    Gauge("restart", "Restart under way, from 0."),
    Gauge("iteration", "Last finished iteration of the restart, from 1."),
    Gauge("inertia", "Squared distances to the centroids, summed."),
    Gauge("changed_images", "Images that changed cluster in the last iteration."),
    Gauge("iteration_seconds", "Time of the last iteration."),
    Gauge("images_per_second", "Images of the set by the time of the last iteration."),
)


class Figures(DoNothing):
    """Keeps the figures of the last iteration."""

    def __init__(self, num_images: int, worker: int, num_workers: int):
        """Args:
        worker: the number of this one, which labels all figures.
        """
        self._worker = worker
        # Replaced as a whole, so that a request in another thread sees one iteration.
        self._values: dict[str, float] = {"workers": num_workers, "images": num_images}

    def on_iteration(self, record: IterationRecord) -> None:
        figures: dict[str, float] = {
            "restart": record.restart,
            "iteration": record.iteration,
            "inertia": record.inertia,
            "changed_images": record.changed,
            "iteration_seconds": record.seconds,
        }
        if record.seconds:
            figures["images_per_second"] = self._values["images"] / record.seconds
        self._values = {**self._values, **figures}

    def text(self) -> str:
        """Returns the figures that are known, in Prometheus' text format."""
        values = self._values
        lines = []
        for name, about in GAUGES:
            if name in values:
                full = f"kmeans_job_{name}"
                lines += [
                    f"# HELP {full} {about}",
                    f"# TYPE {full} gauge",
                    f'{full}{{worker="{self._worker}"}} {values[name]!r}',
                ]
        return "".join(f"{line}\n" for line in lines)


@contextlib.contextmanager
def served(figures: Figures, port: int) -> Iterator[None]:
    """Serves `figures` at `port` of this machine during the block.

    Raises:
      UserError: the port cannot be used.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.partition("?")[0] != PATH:
                self.send_error(HTTPStatus.NOT_FOUND, f"figures are at {PATH}")
                return
            body = figures.text().encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Says nothing of requests, which come every few seconds."""

    try:
        server = ThreadingHTTPServer(("", port), Handler)
    except OSError as error:
        raise UserError(
            f"--metrics-port {port}: cannot listen there ({error.strerror}); end what uses the "
            "port, or give another"
        ) from error
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
