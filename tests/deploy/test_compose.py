"""The compose file, whose commands run as processes of this machine."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys

import jobs
import pytest
import scheduler
import yaml

from job.cli import build_parser

TEXT = (jobs.ROOT / "deploy" / "docker-compose.yaml").read_text(encoding="utf-8")
JOB = [sys.executable, "-m", "job"]  # what the image's entrypoint makes of a command


def services(text: str = TEXT) -> dict[str, dict]:
    return yaml.safe_load(text)["services"]


def on_this_machine() -> dict[str, dict]:
    """The services, with an address of this machine in place of each address in the file."""
    addresses = sorted(set(re.findall(r"\b(?:bucket|worker-\d):\d+", TEXT)))
    ports = dict(zip(addresses, jobs.free_ports(len(addresses)), strict=True))
    text = TEXT.replace("--port=9023", f"--port={ports['bucket:9023']}")
    for address, port in ports.items():
        text = text.replace(address, f"127.0.0.1:{port}")
    return services(text)


def is_listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def test_services_wait_for_those_before_them():
    found = services()
    assert list(found) == ["bucket", "shard", "worker-0", "worker-1"]
    assert found["shard"]["depends_on"] == {"bucket": {"condition": "service_healthy"}}
    for index in range(2):
        worker = found[f"worker-{index}"]
        task = json.loads(worker["environment"]["TF_CONFIG"])
        assert task["task"] == {"type": "worker", "index": index}
        assert task["cluster"]["worker"] == ["worker-0:2222", "worker-1:2222"]
        assert worker["environment"]["STORAGE_EMULATOR_HOST"] == "http://bucket:9023"
        assert worker["restart"] == "on-failure:20"
        done = {"shard": {"condition": "service_completed_successfully"}}
        assert worker["depends_on"] == done
        assert build_parser().parse_args(worker["command"]).shards == "gs://bucket/shards"
    (pinned,) = re.findall(r"gcp-storage-emulator==(\S+)", TEXT)
    constraints = (jobs.ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"gcp-storage-emulator=={pinned}\n" in constraints


@pytest.mark.slow
def test_the_commands_run(tmp_path):
    found = on_this_machine()
    variables = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}

    def start(name: str, *more: str) -> subprocess.Popen:
        command = [*JOB, *found[name]["command"], *more]
        with (tmp_path / f"{name}.stderr").open("wb") as errors:
            return subprocess.Popen(
                command,
                cwd=jobs.ROOT,
                env=variables | found[name]["environment"],
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    program, *arguments = found["bucket"]["command"]
    emulator = [sys.executable, "-m", program.replace("-", "_"), *arguments]
    (port,) = (int(each.removeprefix("--port=")) for each in arguments if "--port=" in each)
    with jobs.ended([subprocess.Popen(emulator, stderr=subprocess.DEVNULL)]) as (bucket,):
        assert jobs.wait_until(lambda: is_listening(port), bucket)
        sharding = start("shard")
        with jobs.ended([sharding]):
            assert jobs.wait(sharding) == [0], (tmp_path / "shard.stderr").read_text()
        statuses, starts = scheduler.keep_running(lambda number: start(f"worker-{number}"), 2)
        assert (statuses, starts) == ([0, 0], [1, 1])
        # A worker that is started again when all is done is done too, and shows the result.
        again = start("worker-0", "--start-timeout-seconds", "0")
        with jobs.ended([again]):
            assert jobs.wait(again) == [0]
