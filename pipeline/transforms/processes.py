"""Worker processes on this machine, for `--direct_running_mode multi_processing`.

Beam's own processes have two hazards. They import what lies in the current folder before anything
else, so that a user's own `pipeline.py` or `json.py` replaces the real one; and Beam waits for ever
for a process that ended before it asked for work. These do neither. They are added to Beam by its
registries of environments and of worker handlers; nothing of Beam is replaced.
"""

import collections
import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc, endpoints_pb2
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    ControlConnection,
    ControlFuture,
    GrpcWorkerHandler,
    WorkerHandler,
)
from apache_beam.runners.worker.log_handler import LOGENTRY_TO_LOG_LEVEL_MAP
from apache_beam.transforms.environments import Environment, python_sdk_capabilities
from apache_beam.utils import thread_pool_executor
from google.protobuf import text_format

import pipeline
from pipeline.errors import JobError
from pipeline.interpreter import child_environment

logger = logging.getLogger(__name__)

URN = "kmeans-job:environment:worker_process:v1"
MODULE = "apache_beam.runners.worker.sdk_worker_main"
PACKAGE = Path(pipeline.__file__).parent
# To import Beam takes seconds, on a machine that is busy with other workers maybe twenty.
START_SECONDS = 45.0
STOP_SECONDS = 10.0
KEPT_LINES = 50
OPTION = "--direct_running_mode multi_processing"


@Environment.register_urn(URN, None)
class ProcessEnvironment(Environment):
    """Tells Beam to run a step in a process that `ProcessHandler` starts."""

    def to_runner_api_parameter(self, context: Any) -> tuple[str, bytes]:
        return URN, b""

    @staticmethod
    def from_runner_api_parameter(payload, capabilities, artifacts, resource_hints, context):
        return ProcessEnvironment(capabilities, artifacts, resource_hints)

    @classmethod
    def default(cls) -> "ProcessEnvironment":
        """The environment of this Python and the packages it has."""
        return cls(python_sdk_capabilities())


@WorkerHandler.register_environment(URN, None)
class ProcessHandler(GrpcWorkerHandler):
    """Starts a worker process, watches it, and ends it.

    If the process does not ask for work in time, or ends amid it, whoever waits for an answer of it
    gets a JobError that says so.
    """

    def __init__(self, payload: bytes, state: Any, provision_info: Any, grpc_server: Any):
        super().__init__(state, provision_info, grpc_server)
        self.control_conn = WorkerConnection()
        self.data_conn: Any = WorkerData(self.data_conn, self.control_conn)
        # The servers look there for the connections when the process asks for work. They have no
        # method to be given some, and their own do not say that it has asked, or that it died.
        servers = grpc_server.control_handler, grpc_server.data_plane_handler
        servers[0]._connections_by_worker_id[self.worker_id] = self.control_conn
        servers[1]._connections_by_worker_id[(self.worker_id, "")] = self.data_conn
        self._closing = threading.Event()

    def start_worker(self) -> None:
        self._log_server, log_port = start_log_server()
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            env={
                **child_environment(os.environ),
                "WORKER_ID": self.worker_id,
                "PIPELINE_OPTIONS": "{}",
                "CONTROL_API_SERVICE_DESCRIPTOR": descriptor(self.control_address),
                "LOGGING_API_SERVICE_DESCRIPTOR": descriptor(f"localhost:{log_port}"),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._output = Output(self._process.stdout)
        self._watcher = threading.Thread(target=self._watch, name="watch_worker", daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        """Waits until the process ends; fails the connection if it should not have ended."""
        started = self._wait_for_start()
        if not started:
            self._process.kill()
        status = self._process.wait()
        if self._closing.is_set():
            return
        if not started:
            what, remedy = f"did not start within {START_SECONDS:g} s", _START_REMEDY
        elif not self.control_conn.connected.is_set():
            what, remedy = f"could not start ({_status_text(status)})", _START_REMEDY
        else:
            what, remedy = f"ended amid its work ({_status_text(status)})", _WORK_REMEDY
        last = self._output.last_line()
        self.control_conn.fail(JobError(f"{OPTION}: a worker process {what}: {last}; {remedy}"))

    def _wait_for_start(self) -> bool:
        """Waits until the process asks for work or ends; whether one of it came in time."""
        deadline = time.monotonic() + START_SECONDS
        while not self.control_conn.connected.is_set() and time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.1)
                return True
        return self.control_conn.connected.is_set()

    def close(self) -> None:
        """Ends the process; at once, if it has not begun or is at work that nobody waits for."""
        self._closing.set()
        if not self.control_conn.connected.is_set() or self.control_conn.is_waiting():
            self._process.terminate()
        # Its connections may be broken by then, which no longer matters.
        with contextlib.suppress(Exception):
            super().close()
        self.stop_worker()

    def stop_worker(self) -> None:
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._watcher.join()
        self._log_server.stop(None)


_START_REMEDY = (
    "mend what it says, or leave the option out to do the work in one process (--log-level debug "
    "shows all that workers print)"
)
_WORK_REMEDY = (
    "run the same command again, with fewer --direct_num_workers if memory may have run out"
)


def _status_text(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"killed by signal {-status}"


def descriptor(address: str) -> str:
    """The address of a service, as a worker reads it in an environment variable."""
    return text_format.MessageToString(endpoints_pb2.ApiServiceDescriptor(url=address))


class WorkerConnection(ControlConnection):
    """Requests to a worker and their answers; after `fail`, every answer is an exception.

    Attributes:
      connected: set when the worker asks for work.
    """

    def __init__(self) -> None:
        super().__init__()
        self.connected = threading.Event()
        self.failed = threading.Event()
        self._guard = threading.Lock()
        self._failure: JobError | None = None
        self._answers: list[WorkerAnswer] = []

    def set_input(self, input: Any) -> None:
        super().set_input(until_broken(input))
        self.connected.set()

    def push(self, req: Any) -> "WorkerAnswer | None":
        future = super().push(req)
        if future is None:  # a request to end
            return None
        answer = WorkerAnswer(future)
        with self._guard:
            self._answers = [a for a in self._answers if not a.is_done()] + [answer]
            if self._failure is not None:
                answer.fail(self._failure)
        return answer

    def is_waiting(self) -> bool:
        """Whether a request has no answer yet."""
        with self._guard:
            return not all(answer.is_done() for answer in self._answers)

    def fail(self, failure: JobError) -> None:
        """Raises `failure` wherever an answer is waited for, or will be."""
        with self._guard:
            self._failure = failure
            for answer in self._answers:
                answer.fail(failure)
        self.failed.set()

    def failure(self, timeout: float) -> JobError | None:
        """Why the worker failed; None if it does not within `timeout` seconds."""
        self.failed.wait(timeout)
        return self._failure


def until_broken(messages: Iterator[Any]) -> Iterator[Any]:
    """Yields the messages of a worker until it ends or dies, of which its watcher tells."""
    with contextlib.suppress(grpc.RpcError):
        yield from messages


class WorkerAnswer:
    """The answer to a request, which is also there when the worker has failed.

    Beam's own future is never done when it is aborted, and then waited for elsewhere for ever.
    """

    def __init__(self, future: ControlFuture):
        self._future = future
        self._failed = False

    def is_done(self) -> bool:
        return self._failed or self._future.is_done()

    def get(self, timeout: float | None = None) -> Any:
        return self._future.get(timeout)

    def fail(self, failure: JobError) -> None:
        """Lets `get` raise `failure`, unless the answer is there."""
        if not self._future.is_done():
            self._future.abort(failure)
            self._failed = True


class WorkerData:
    """A worker's data channel, whose reader is told why the worker failed.

    Otherwise it says at most that the channel was closed.
    """

    def __init__(self, channel: Any, connection: WorkerConnection):
        self._channel, self._connection = channel, connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def set_inputs(self, elements: Iterator[Any]) -> None:
        self._channel.set_inputs(until_broken(elements))

    def input_elements(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        try:
            yield from self._channel.input_elements(*args, **kwargs)
        except JobError:
            raise
        except Exception:
            if failure := self._connection.failure(timeout=5.0):
                raise failure from None
            raise


class Output:
    """What a worker prints: logged for whoever debugs, and its last lines kept."""

    def __init__(self, stream: Any):
        self._lines: collections.deque[str] = collections.deque(maxlen=KEPT_LINES)
        self._reader = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._reader.start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            if text := line.decode(errors="replace").strip():
                self._lines.append(text)
                logger.debug("worker: %s", text)

    def last_line(self) -> str:
        """The last line that is not empty."""
        # A process that it started may hold the stream open.
        self._reader.join(timeout=1.0)
        return self._lines[-1] if self._lines else "it printed nothing"


def start_log_server() -> tuple[grpc.Server, int]:
    """Starts a server that a worker sends its log messages to; also returns its port."""
    server = grpc.server(thread_pool_executor.shared_unbounded_instance())
    beam_fn_api_pb2_grpc.add_BeamFnLoggingServicer_to_server(LogMessages(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    return server, port


class LogMessages(beam_fn_api_pb2_grpc.BeamFnLoggingServicer):
    """Logs what workers log: messages of this package as such, those of libraries for debugging.

    Libraries log every exception of a step as an error, and the caller raises it again besides.
    """

    def Logging(self, request_iterator: Any, context: Any = None) -> Iterator[Any]:
        for entries in request_iterator:
            for entry in entries.log_entries:
                ours = entry.log_location.startswith(str(PACKAGE) + os.sep)
                level = LOGENTRY_TO_LOG_LEVEL_MAP[entry.severity] if ours else logging.DEBUG
                logger.log(level, "%s", entry.message if ours else f"worker: {entry.message}")
        yield from ()
