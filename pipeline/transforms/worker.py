"""`kmeans-job-worker`: the worker process that an engine starts for `--environment_type PROCESS`.

Beam's own program for this, boot, exists only in container images. This one is installed together
with the package. Engines call it as they call boot.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from typing import Any

from pipeline.errors import UserError
from pipeline.terminal import Parser, exit_status

ANSWER_SECONDS = 60.0
# Beam's list of the packages where the job was submitted: for people, not to be installed.
FOR_PEOPLE = b"submission_environment_dependencies.txt"


def main(arguments: list[str] | None = None) -> int:
    """Works for an engine until it needs no more; returns the exit status."""
    return exit_status(lambda: _work(sys.argv[1:] if arguments is None else arguments))


def _work(arguments: list[str]) -> None:
    flags = parse(arguments)
    info = provision_info(flags.provision_endpoint, flags.id)
    refuse_packages(info)
    os.environ.update(environment(flags.id, info, vars(flags)))
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main([])


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parses what an engine gives to the program; some give more than is needed."""
    parser = Parser(
        prog="kmeans-job-worker",
        description="Works for an engine of Apache Beam, which starts it and gives these options.",
    )
    # Prism writes quotes around it, which are not part of it.
    parser.add_argument("--id", required=True, type=lambda text: text.strip("'"), metavar="ID")
    parser.add_argument("--provision_endpoint", required=True, metavar="HOST:PORT")
    for name in ("control", "logging"):
        parser.add_argument(f"--{name}_endpoint", default="", metavar="HOST:PORT")
    return parser.parse_known_args(arguments)[0]


def provision_info(address: str, worker_id: str) -> Any:
    """Asks the engine at `address` what the worker needs to know: a beam ProvisionInfo.

    Raises:
      UserError: it does not answer.
    """
    import grpc
    from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        # The engine tells its workers apart by this header.
        header = [("worker_id", worker_id)]
        try:
            return service.GetProvisionInfo(
                request, timeout=ANSWER_SECONDS, wait_for_ready=True, metadata=header
            ).info
        except grpc.RpcError as error:
            raise UserError(
                f"--provision_endpoint {address}: no answer ({error.details()}); an engine starts "
                "this program, see docs/engines.md"
            ) from error


def refuse_packages(info: Any) -> None:
    """Raises UserError if the job wants files or packages installed, which this program does not.

    Where boot would install them, a worker here would go on without and fail later.
    """
    if any(FOR_PEOPLE not in item.role_payload for item in info.dependencies):
        raise UserError(
            "the job brings packages, and kmeans-job-worker installs none; leave out "
            "--requirements_file, --setup_file and --extra_package, and install them where the "
            "workers run"
        )


def environment(worker_id: str, info: Any, given: Mapping[str, str]) -> dict[str, str]:
    """Makes the environment variables that Beam's worker reads.

    Args:
      given: the endpoints of the command line, by flag, where the engine's answer has none.
    """
    from google.protobuf import json_format

    return {
        "WORKER_ID": worker_id,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
        "CONTROL_API_SERVICE_DESCRIPTOR": _descriptor(
            info.control_endpoint.url or given["control_endpoint"]
        ),
        "LOGGING_API_SERVICE_DESCRIPTOR": _descriptor(
            info.logging_endpoint.url or given["logging_endpoint"]
        ),
    }


def _descriptor(address: str) -> str:
    from apache_beam.portability.api import endpoints_pb2
    from google.protobuf import text_format

    return text_format.MessageToString(endpoints_pb2.ApiServiceDescriptor(url=address))


if __name__ == "__main__":
    sys.exit(main())
