"""The manifests, against Kubernetes' schemas, and what their pods would be told."""

import json
import re

import kubernetes_validate
import pytest
import yaml
from jobs import ROOT

from job.cli import build_parser
from job.distribute import cluster

KUBERNETES = "1.33"
INDEX = "batch.kubernetes.io/job-completion-index"
JOBSET_NAME = "jobset.sigs.k8s.io/jobset-name"
# The fields of these kinds, whose schemas only a cluster has: those that are used here, and theirs.
FIELDS = {
    "JobSet": {"apiVersion", "kind", "metadata", "spec"},
    "JobSet.spec": {"failurePolicy", "replicatedJobs", "network", "successPolicy", "suspend"},
    "JobSet.spec.failurePolicy": {"maxRestarts", "rules", "restartStrategy"},
    "JobSet.spec.failurePolicy.rules": {
        "name",
        "action",
        "onJobFailureReasons",
        "targetReplicatedJobs",
    },
    "JobSet.spec.replicatedJobs": {"name", "replicas", "template", "dependsOn", "groupName"},
    "TFJob": {"apiVersion", "kind", "metadata", "spec"},
    "TFJob.spec": {"runPolicy", "tfReplicaSpecs", "successPolicy", "enableDynamicWorker"},
    "TFJob.spec.runPolicy": {"backoffLimit", "cleanPodPolicy", "activeDeadlineSeconds", "suspend"},
    "TFJob.spec.tfReplicaSpecs": {"Worker", "Chief"},
    "TFJob.spec.tfReplicaSpecs.Worker": {"replicas", "restartPolicy", "template"},
}
ACTIONS = {"FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"}


def documents(name: str) -> list[dict]:
    text = (ROOT / "deploy" / "kubernetes" / name).read_text(encoding="utf-8")
    return list(yaml.safe_load_all(text))


def check_fields(value, path: str) -> None:
    """Checks `value` and what is in it against FIELDS."""
    for each in value if isinstance(value, list) else [value]:
        assert each.keys() <= FIELDS[path], path
        for name, inner in each.items():
            if f"{path}.{name}" in FIELDS:
                check_fields(inner, f"{path}.{name}")


def environment(template: dict, config_maps: dict, **fields: str) -> dict[str, str]:
    """The variables of a pod's container, as the kubelet makes them.

    Args:
      fields: values of the fields that the downward API hands on.
    """
    found: dict[str, str] = {}
    (container,) = template["spec"]["containers"]
    for variable in container.get("env", []):
        source = variable.get("valueFrom", {})
        if "fieldRef" in source:
            value = fields[re.fullmatch(r".*\['(.+)'\]", source["fieldRef"]["fieldPath"])[1]]
        elif "configMapKeyRef" in source:
            key = source["configMapKeyRef"]
            value = config_maps[key["name"]][key["key"]]
        else:
            # A reference to a variable that is not there yet stays as it is.
            value = re.sub(r"\$\((\w+)\)", lambda ref: found.get(ref[1], ref[0]), variable["value"])
        found[variable["name"]] = value
    return found


def check_workers(job: dict, name: str, service: str, told) -> None:
    """Checks that every pod of an Indexed Job finds itself and the others by their names.

    Args:
      told: (index) → the variables of that pod, without those that every such pod has.
    """
    count = job["completions"]
    assert (job["completionMode"], job["parallelism"]) == ("Indexed", count)
    hosts = [f"{name}-{index}.{service}:2222" for index in range(count)]
    for index in range(count):
        variables = {"HOSTNAME": f"{name}-{index}", "JOB_COMPLETION_INDEX": f"{index}"}
        group = cluster.discover("auto", variables | told(index))
        assert (group.jobs, group.number) == ({"worker": hosts}, index)


def check_restarts(job: dict) -> None:
    """Checks that a fit is started again unless its input or an option is at fault."""
    rule = job["podFailurePolicy"]["rules"][0]
    assert rule == {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2]}}
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # which that policy needs


def test_a_job_with_a_service_and_a_config_map():
    service, config_map, job = documents("job.yaml")
    for document in (service, config_map, job):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    spec, template = job["spec"], job["spec"]["template"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == template["metadata"]["labels"]
    assert template["spec"]["subdomain"] == service["metadata"]["name"]
    maps = {config_map["metadata"]["name"]: config_map["data"]}

    def told(index: int) -> dict[str, str]:
        variables = environment(template, maps, **{INDEX: f"{index}"})
        assert json.loads(variables["TF_CONFIG"])["task"]["index"] == index
        return variables

    check_workers(spec, job["metadata"]["name"], service["metadata"]["name"], told)
    check_restarts(spec)


def test_a_jobset():
    (jobset,) = documents("jobset.yaml")
    check_fields(jobset, "JobSet")
    assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    (replicated,) = jobset["spec"]["replicatedJobs"]
    job, name = replicated["template"]["spec"], jobset["metadata"]["name"]
    kubernetes_validate.validate(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": job},
        KUBERNETES,
        strict=True,
    )
    # Job 0 of `workers` has the name NAME-workers-0, and the service that of the JobSet.
    assert replicated["replicas"] == 1
    pods = f"{name}-{replicated['name']}-0"
    told = environment(job["template"], {}, **{JOBSET_NAME: name})
    check_workers(job, pods, name, lambda index: told)
    check_restarts(job)
    policy = jobset["spec"]["failurePolicy"]
    assert policy["maxRestarts"] > 0
    assert job["backoffLimit"] == 0  # the JobSet starts again what the Job does not
    (rule,) = policy["rules"]
    assert rule["action"] in ACTIONS
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]


def test_a_tfjob():
    (job,) = documents("tfjob.yaml")
    check_fields(job, "TFJob")
    assert job["apiVersion"] == "kubeflow.org/v1"
    worker = job["spec"]["tfReplicaSpecs"]["Worker"]
    assert worker["restartPolicy"] == "OnFailure"
    template = worker["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    (container,) = template["spec"]["containers"]
    assert container["name"] == "tensorflow"
    assert container["ports"] == [{"name": "tfjob-port", "containerPort": 2222}]


@pytest.mark.parametrize("name", ["job.yaml", "jobset.yaml", "tfjob.yaml"])
def test_containers_run_a_fit(name):
    found = re.findall(
        r"^ +args: (\[.*\])$", (ROOT / f"deploy/kubernetes/{name}").read_text(), re.M
    )
    (arguments,) = map(yaml.safe_load, found)
    flags = build_parser().parse_args(arguments)
    assert (flags.shards, flags.k) == ("gs://BUCKET/shards", (100,))
