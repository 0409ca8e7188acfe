"""Dockerfile and cloudbuild.yaml, as far as they can be known to be right without running them."""

import fnmatch
import json
import re
import shlex
import sys
from pathlib import Path

import cloud_doubles
import pytest
import yaml
from google.cloud.devtools import cloudbuild_v1

from job.cli import build_parser, submission

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "cloud.md").read_text()
# Of the substitutions that have no default which works, and of those Cloud Build makes itself.
SAMPLES = {"_BUCKET": cloud_doubles.BUCKET, "_INPUT": "gs://elsewhere/images.npz"}
BUILT_IN = {"PROJECT_ID": cloud_doubles.PROJECT}


# Dockerfile.


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """(instruction, its arguments) of the Dockerfile, in order."""
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def arguments(instructions, wanted: str) -> list[str]:
    return [rest for name, rest in instructions if name == wanted]


def test_the_images_are_of_the_versions_that_were_tested(instructions):
    python = "{}.{}".format(*sys.version_info)
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines()[1:]
    )
    assert arguments(instructions, "FROM") == [f"python:{python}-slim"]
    (beam,) = (rest for rest in arguments(instructions, "COPY") if rest.startswith("--from"))
    image = f"apache/beam_python{python}_sdk:{pinned['apache-beam']}"
    assert beam == f"--from={image} /opt/apache/beam /opt/apache/beam"


def test_containers_begin_as_a_user_without_rights(instructions):
    script = "/opt/kmeans-job/entrypoint.sh"  # tests/deploy/test_entrypoint.py runs it
    assert json.loads(arguments(instructions, "ENTRYPOINT")[0]) == [script]
    assert f"--chmod=755 deploy/entrypoint.sh {script}" in arguments(instructions, "COPY")
    (user,) = arguments(instructions, "USER")
    assert user not in ("root", "0")
    assert f"useradd --create-home --uid 1000 {user}" in " ".join(arguments(instructions, "RUN"))
    names = [name for name, _ in instructions]
    assert not {"RUN", "COPY"} & set(names[names.index("USER") :])


def is_sent(path: str) -> bool:
    """Whether Docker sends `path`, of the root, to the builder: the last rule that matches wins."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            if any(fnmatch.fnmatch(part, pattern) for part in (path, path.split("/")[0])):
                sent = line.startswith("!")
            elif pattern.startswith("**/") and Path(path).match(pattern[3:]):
                sent = False
    return sent


def test_what_is_copied_is_there_and_is_sent(instructions):
    sources = [
        source
        for rest in arguments(instructions, "COPY")
        if not rest.startswith("--from")
        for source in rest.split()[:-1]
        if not source.startswith("--")
    ]
    script = "deploy/entrypoint.sh"
    assert set(sources) == {
        *("setup.py", "constraints.txt", "job", "kmeans_job", "pipeline"),
        script,
    }
    for source in sources:
        assert (ROOT / source).exists(), source
        assert is_sent(source), source
    for path in (".git", ".venv", "tests", "out", "job/__pycache__", "README.md"):
        assert not is_sent(path), path


def test_packages_are_pinned_and_tensorflow_is_chosen_by_the_build(instructions):
    assert arguments(instructions, "ARG") == ["TENSORFLOW=tensorflow"]
    installs = [rest for rest in arguments(instructions, "RUN") if "pip install" in rest]
    assert "--constraint constraints.txt" in installs[0]
    assert '"${TENSORFLOW}" ".[gcp]"' in installs[0]
    assert "--no-deps" in installs[1]


# cloudbuild.yaml.


@pytest.fixture(scope="module")
def build() -> dict:
    return yaml.safe_load((ROOT / "cloudbuild.yaml").read_text())


def substituted(build: dict, text: str) -> str:
    """`text` as Cloud Build hands it on."""
    values = {**build["substitutions"], **SAMPLES, **BUILT_IN}
    return re.sub(
        r"\$(\$)|\$(?:\{(\w+)\}|(\w+))",
        lambda found: found[1] or values[found[2] or found[3]],
        text,
    )


def test_the_file_is_a_build(build):
    parsed = cloudbuild_v1.Build.from_json(json.dumps(build))
    assert [step.id for step in parsed.steps] == ["test", "cache", "build", "push", "submit"]
    assert parsed.options.logging.name == "CLOUD_LOGGING_ONLY"  # wanted with a service account
    assert parsed.service_account.startswith("projects/$PROJECT_ID/serviceAccounts/")
    total = parsed.timeout.total_seconds()
    assert total <= 24 * 3600  # the most there is
    assert all(0 < step.timeout.total_seconds() < total for step in parsed.steps)


def test_steps_wait_for_steps_before_them(build):
    seen = {"-"}
    for step in build["steps"]:
        assert set(step["waitFor"]) <= seen, step["id"]
        assert not ({"args", "entrypoint"} & step.keys() and "script" in step), step["id"]
        seen.add(step["id"])
    order = {step["id"]: step["waitFor"] for step in build["steps"]}
    assert "test" in order["build"]
    assert (order["push"], order["submit"]) == (["build"], ["push"])


def test_every_substitution_is_declared_used_and_documented(build):
    text = json.dumps({**build, "substitutions": None})
    used = set(re.findall(r"(?<!\$)\$\{?([A-Z_0-9]+)", text))
    assert used - BUILT_IN.keys() == build["substitutions"].keys()
    section = PAGE
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `_")]
    documented = {name for row in rows for name in re.findall(r"`(_[A-Z_]+)`", row)}
    assert documented == used - BUILT_IN.keys()


def commands(text: str) -> list[list[str]]:
    """The arguments of each kmeans-job command in a shell script."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    lines = [line.strip() for line in lines if re.match(r"\s*kmeans-job ", line)]
    return [shlex.split(line)[1:] for line in lines]


def test_every_command_is_accepted_by_the_command_line(build):
    scripts = [substituted(build, step["args"][-1]) for step in build["steps"]]
    (line,) = (line for script in scripts for line in commands(script))
    line = [part.replace("$(cat image)", cloud_doubles.IMAGE) for part in line]
    args, unknown = build_parser().parse_known_args(line)
    assert unknown == []
    args.beam_options = ()
    asked = submission(args)
    assert asked.cloud.image == cloud_doubles.IMAGE
    assert asked.cloud.output == f"gs://{cloud_doubles.BUCKET}/kmeans"
    assert asked.cloud.spot
    assert args.wait


def test_the_submissions_of_the_docs_are_accepted_too():
    values = {
        "$PROJECT": cloud_doubles.PROJECT,
        "$REGION": cloud_doubles.REGION,
        "$BUCKET": cloud_doubles.BUCKET,
        "$IMAGE": cloud_doubles.IMAGE,
        "$WORKER": "kmeans-worker@my-project.iam.gserviceaccount.com",
    }
    text = PAGE
    for name, value in values.items():
        text = text.replace(name, value)
    lines = [line for line in commands(text) if line[0] == "submit"]
    assert lines
    for line in lines:
        args, unknown = build_parser().parse_known_args(line)
        assert all(flag.startswith("--") for flag in unknown)
        args.beam_options = tuple(unknown)
        submission(args)


@pytest.mark.parametrize("name", ["Dockerfile", "cloudbuild.yaml", ".dockerignore"])
def test_no_project_or_credential_is_named(name):
    text = (ROOT / name).read_text()
    assert not re.search(r"projects/(?!\$PROJECT_ID)|(?i:api[_-]?key|token|password|secret)", text)
