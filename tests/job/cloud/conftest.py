"""`submit --dry-run` as a fixture, where it must succeed and where it must be refused."""

import json

import cloud_doubles
import pytest

from job.cli import main


@pytest.fixture
def dry_run(capfd, monkeypatch):
    """Runs `submit --dry-run` where a network would be noticed; the object it prints."""

    def no_network(*args):
        raise AssertionError("the network was touched")

    def run(*flags: str, **values: str | None) -> dict:
        monkeypatch.setattr("socket.socket.connect", no_network)
        monkeypatch.setattr("socket.getaddrinfo", no_network)
        monkeypatch.setattr("google.auth.default", no_network)
        status = main([*cloud_doubles.submit_command(*flags, **values), "--dry-run"])
        stdout, stderr = capfd.readouterr()
        assert (status, stderr) == (0, "")
        return json.loads(stdout)

    return run


@pytest.fixture
def refused(capfd):
    """Runs `submit`, which must end with 2 and one line on stderr; that line."""

    def run(*flags: str, **values: str | None) -> str:
        status = main([*cloud_doubles.submit_command(*flags, **values), "--dry-run"])
        stdout, stderr = capfd.readouterr()
        assert (status, stdout, stderr.count("\n")) == (2, "", 1), stderr
        return stderr

    return run
