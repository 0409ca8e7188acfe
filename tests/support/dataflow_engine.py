"""A program that runs a pipeline as it was staged for Dataflow, in worker processes of its own.

    python dataflow_engine.py gs://BUCKET/…/pipeline.pb

What the containers would be is replaced; the graph, its functions and its options are as submitted.
"""

import sys

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipeline import storage
from pipeline.transforms import processes

WORKERS = 2


def run(url: str) -> None:
    graph = beam_runner_api_pb2.Pipeline.FromString(storage.read_bytes(url))
    for environment in graph.components.environments.values():
        assert environment.urn == common_urns.environments.DOCKER.urn, environment
        environment.urn, environment.payload = processes.URN, b""
    options = PipelineOptions(direct_num_workers=WORKERS)
    FnApiRunner().run_via_runner_api(graph, options).wait_until_finish()


if __name__ == "__main__":
    run(sys.argv[1])
