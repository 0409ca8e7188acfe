"""The workers of an Indexed Job."""

import pytest

from job.distribute import kubernetes
from pipeline.errors import UserError

POD = {
    "JOB_COMPLETION_INDEX": "1",
    "HOSTNAME": "kmeans-workers-0-1",
    "KMEANS_JOB_WORKERS": "3",
    "KMEANS_JOB_SERVICE": "kmeans",
}


def test_pods_have_the_names_that_the_service_gives_them():
    group = kubernetes.workers_of(POD)
    assert group is not None
    hosts = [f"kmeans-workers-0-{n}.kmeans:2222" for n in range(3)]
    assert (group.jobs, group.number) == ({"worker": hosts}, 1)
    assert "see why its pod does not run" in group.remedy


def test_another_port():
    group = kubernetes.workers_of(POD | {"KMEANS_JOB_PORT": "7000"})
    assert group is not None
    assert group.address(2) == "kmeans-workers-0-2.kmeans:7000"


@pytest.mark.parametrize(
    ("different", "message"),
    [
        ({"JOB_COMPLETION_INDEX": ""}, "JOB_COMPLETION_INDEX: not set, .* of an Indexed Job"),
        ({"KMEANS_JOB_WORKERS": "all"}, "KMEANS_JOB_WORKERS all: no number"),
        ({"KMEANS_JOB_PORT": "http"}, "KMEANS_JOB_PORT http: no number"),
        ({"KMEANS_JOB_WORKERS": "1"}, "JOB_COMPLETION_INDEX 1: not below KMEANS_JOB_WORKERS 1"),
        ({"KMEANS_JOB_SERVICE": ""}, "KMEANS_JOB_SERVICE: not set, so no pod has a name"),
        ({"HOSTNAME": "kmeans-0-xk2f9"}, "HOSTNAME kmeans-0-xk2f9: does not end with -1"),
    ],
)
def test_what_is_missing_is_named(different, message):
    with pytest.raises(UserError, match=message):
        kubernetes.workers_of(POD | different)
