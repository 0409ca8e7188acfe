"""The worker process that engines start: what it asks, and what Beam's worker is told."""

import json
from concurrent import futures

import grpc
import pytest
from apache_beam.portability.api import (
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    beam_runner_api_pb2,
    endpoints_pb2,
)
from google.protobuf import struct_pb2, text_format

from pipeline.errors import UserError
from pipeline.transforms import worker

ENDPOINTS = {"control_endpoint": "given:1", "logging_endpoint": "given:2"}


class Engine(beam_provision_api_pb2_grpc.ProvisionServiceServicer):
    """Answers one worker."""

    def __init__(self, info):
        self.info = info

    def GetProvisionInfo(self, request, context):
        header = dict(context.invocation_metadata())
        assert header["worker_id"] == "w-1"
        return beam_provision_api_pb2.GetProvisionInfoResponse(info=self.info)


@pytest.fixture
def info():
    options = struct_pb2.Struct()
    options.update({"beam:option:experiments:v1": ["a"]})
    return beam_provision_api_pb2.ProvisionInfo(
        pipeline_options=options,
        control_endpoint=endpoints_pb2.ApiServiceDescriptor(url="engine:1"),
        runner_capabilities=["one", "two"],
    )


@pytest.fixture
def address(info):
    """Where an engine answers."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    beam_provision_api_pb2_grpc.add_ProvisionServiceServicer_to_server(Engine(info), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield f"localhost:{port}"
    server.stop(None).wait()


def staged(name: str):
    payload = beam_runner_api_pb2.ArtifactStagingToRolePayload(staged_name=name)
    return beam_runner_api_pb2.ArtifactInformation(role_payload=payload.SerializeToString())


def test_quotes_around_the_id_are_not_part_of_it():
    flags = worker.parse(["--id='w-1'", "--provision_endpoint=h:1", "--artifact_endpoint=h:2"])
    assert (flags.id, flags.provision_endpoint) == ("w-1", "h:1")


def test_the_engine_says_what_the_worker_needs(info, address):
    assert worker.provision_info(address, "w-1") == info


def test_an_engine_that_does_not_answer(monkeypatch, capsys):
    monkeypatch.setattr(worker, "ANSWER_SECONDS", 0.1)
    assert worker.main(["--id=w-1", "--provision_endpoint=localhost:1"]) == 2
    error = capsys.readouterr().err
    assert "--provision_endpoint localhost:1: no answer (" in error
    assert error.endswith("an engine starts this program, see docs/engines.md\n")


def test_what_is_not_given(capsys):
    assert worker.main([]) == 2
    assert "required: --id, --provision_endpoint" in capsys.readouterr().err


def test_packages_of_the_job_are_refused(info):
    info.dependencies.append(staged("submission_environment_dependencies.txt"))
    worker.refuse_packages(info)
    info.dependencies.append(staged("requirements.txt"))
    with pytest.raises(UserError, match=r"worker installs none; leave out --requirements_file"):
        worker.refuse_packages(info)


def test_what_beams_worker_reads(info):
    found = worker.environment("w-1", info, ENDPOINTS)
    assert json.loads(found.pop("PIPELINE_OPTIONS")) == {"beam:option:experiments:v1": ["a"]}
    addresses = {
        name: text_format.Parse(found.pop(name), endpoints_pb2.ApiServiceDescriptor()).url
        for name in ("CONTROL_API_SERVICE_DESCRIPTOR", "LOGGING_API_SERVICE_DESCRIPTOR")
    }
    assert list(addresses.values()) == ["engine:1", "given:2"]
    assert found == {"WORKER_ID": "w-1", "RUNNER_CAPABILITIES": "one two"}


def test_it_becomes_a_worker_of_beam(address, monkeypatch):
    from apache_beam.runners.worker import sdk_worker_main

    started = []
    monkeypatch.setattr(sdk_worker_main, "main", started.append)
    with monkeypatch.context() as patch:
        patch.setattr("os.environ", {})
        line = ["--id=w-1", f"--provision_endpoint={address}", "--logging_endpoint=h:2"]
        assert worker.main(line) == 0
    assert started == [[]]
