"""Worker processes: what they are given, and what is made of those that fail."""

import logging
import os
import sys
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.portability.api import beam_fn_api_pb2

import pipeline
from pipeline.errors import JobError
from pipeline.transforms import processes
from pipeline.transforms.processes import WorkerConnection
from pipeline.transforms.runner import make_pipeline, run_pipeline

FLAGS = ["--direct_running_mode", "multi_processing", "--direct_num_workers", "2"]
ROOT = str(Path(pipeline.__file__).parents[1])


@pytest.fixture
def at_start(tmp_path, monkeypatch):
    """Gives every worker process some code to run before all else."""

    def give(code: str) -> None:
        guarded = f"import os, sys, time\nif 'WORKER_ID' in os.environ:\n    {code}\n"
        (tmp_path / "sitecustomize.py").write_text(guarded)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")

    return give


def run_something(step=lambda value: value) -> None:
    run_pipeline(make_pipeline(lambda: beam.Create([0, 1]) | beam.Map(step), FLAGS))


def test_the_caller_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before, path = dict(os.environ), list(sys.path)
    run_something()
    assert (dict(os.environ), sys.path) == (before, path)


def test_a_worker_that_ends_at_once(at_start):
    at_start("print('no licence', file=sys.stderr, flush=True); os._exit(3)")
    with pytest.raises(JobError, match=r"could not start \(exit status 3\): no licence; mend what"):
        run_something()


def test_a_worker_that_asks_for_no_work(at_start, monkeypatch):
    monkeypatch.setattr(processes, "START_SECONDS", 2.0)
    at_start("print('waiting', flush=True); time.sleep(600)")
    with pytest.raises(JobError, match="did not start within 2 s: waiting; mend what"):
        run_something()


def test_log_messages_of_this_package_pass(at_start, caplog):
    at_start("pass")

    def step(value: int) -> int:
        from pipeline import storage

        code = "import logging; logging.getLogger('x').warning('disk is slow')"
        exec(compile(code, storage.__file__, "exec"))
        print("by the way")
        return value

    with caplog.at_level(logging.WARNING, "pipeline"):
        run_something(step)
    assert {record.message for record in caplog.records if "disk" in record.message}
    assert "by the way" not in caplog.text


def test_answers_after_a_failure():
    connection, failure = WorkerConnection(), JobError("gone")
    before = connection.push(beam_fn_api_pb2.InstructionRequest())
    assert connection.is_waiting()
    connection.fail(failure)
    after = connection.push(beam_fn_api_pb2.InstructionRequest())
    for answer in (before, after):
        assert answer.is_done()
        with pytest.raises(JobError, match="gone"):
            answer.get()
    assert not connection.is_waiting()
    assert connection.failure(timeout=0) is failure
