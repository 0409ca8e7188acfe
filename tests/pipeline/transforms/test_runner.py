"""Engines are found by Beam's own flags, and their failures become errors of this job."""

import os
import sys

import apache_beam as beam
import pytest
from apache_beam.metrics import Metrics

from pipeline.errors import JobError, UserError
from pipeline.transforms.runner import (
    NAMESPACE,
    check_beam_flags,
    make_pipeline,
    run_pipeline,
)

PROCESSES = ["--direct_running_mode", "multi_processing", "--direct_num_workers", "2"]


def raising(error: Exception):
    """A transform whose only step raises `error`."""

    def step(_):
        raise error

    return lambda: beam.Create([0]) | beam.Map(step)


def environments(pipeline) -> set[str]:
    """Of which kind the workers of a pipeline are."""
    return {type(pipeline.runner._default_environment).__name__}


@pytest.mark.parametrize("flags", [[], ["--direct_num_workers", "2"], ["--runner", "FnApiRunner"]])
def test_flags_of_beam(flags):
    check_beam_flags(flags, [])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--direct_num_worker", "2"], "option --direct_num_worker: did you mean --direct_num_wo"),
        (["--inputs", "x"], "unknown option --inputs: did you mean --input?"),
        (["--runner", "Nobody"], "--runner Nobody: Unexpected pipeline runner: Nobody"),
        (["--runner", "nobody.Runner"], "--runner nobody.Runner: No module named 'nobody'"),
    ],
)
def test_flags_that_beam_does_not_know(flags, message):
    with pytest.raises(UserError, match=f"{message}".replace("?", r"\?")):
        check_beam_flags(flags, ["--input"])


def test_an_engine_without_its_options():
    with pytest.raises(UserError, match="project"):
        make_pipeline(lambda: beam.Create([0]), ["--runner", "DataflowRunner"])


@pytest.mark.parametrize("runner", [[], ["--runner", "FnApiRunner"], ["--runner", "DirectRunner"]])
def test_processes_are_ours(runner):
    made = make_pipeline(lambda: beam.Create([0]), [*runner, *PROCESSES])
    assert environments(made) == {"ProcessEnvironment"}


def test_steps_are_not_named_after_cells_of_notebooks(monkeypatch):
    """Beam would import its engine for notebooks, which new versions of pandas break."""
    monkeypatch.setattr("apache_beam.utils.interactive_utils.is_in_ipython", lambda: True)
    monkeypatch.setitem(sys.modules, "apache_beam.runners.interactive", None)
    before = beam.pipeline.alter_label_if_ipython
    run_pipeline(make_pipeline(lambda: beam.Create([0]), []))
    assert beam.pipeline.alter_label_if_ipython is before


@pytest.mark.parametrize("mode", ["in_memory", "multi_processing"])
def test_what_steps_count_is_told(mode):
    def count(number: int) -> None:
        Metrics.counter(NAMESPACE, "images").inc(number)
        Metrics.distribution(NAMESPACE, "milliseconds").update(number)
        Metrics.counter("others", "bytes").inc(1)

    flags = ["--direct_running_mode", mode]
    counted = run_pipeline(make_pipeline(lambda: beam.Create([3, 5]) | beam.Map(count), flags))
    assert counted.keys() == {"images", "milliseconds"}
    assert counted["images"] == 8
    assert (counted["milliseconds"].mean, counted["milliseconds"].max) == (4, 5)


def test_an_engine_that_counts_nothing_is_done_all_the_same():
    class Result:
        def wait_until_finish(self):
            pass

        def metrics(self):
            raise NotImplementedError

    class Pipeline:
        def run(self):
            return Result()

    assert run_pipeline(Pipeline()) == {}


def test_one_process_by_default():
    made = make_pipeline(lambda: beam.Create([0]), [])
    assert environments(made) == {"EmbeddedPythonEnvironment"}


@pytest.mark.parametrize("mode", ["in_memory", "multi_threading", "multi_processing"])
def test_a_fault_of_the_user(mode, capfd):
    made = make_pipeline(raising(UserError("a.png: damaged")), ["--direct_running_mode", mode])
    with pytest.raises(UserError, match=r"^a\.png: damaged$"):
        run_pipeline(made)
    assert "Traceback" not in capfd.readouterr().err


def test_any_other_fault():
    with pytest.raises(Exception, match="out of slots"):
        run_pipeline(make_pipeline(raising(RuntimeError("out of slots")), []))


def test_a_worker_that_ends_amid_its_work():
    made = make_pipeline(lambda: beam.Create([0]) | beam.Map(lambda _: os._exit(7)), PROCESSES)
    with pytest.raises(JobError, match=r"ended amid its work \(exit status 7\): .*; run the same"):
        run_pipeline(made)
