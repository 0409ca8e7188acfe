"""Beam's side of a job on Dataflow: what its options say, as a request for a job holds it."""

from typing import Any, NamedTuple


class DataflowJob(NamedTuple):
    """What Beam's options say of a job on Dataflow.

    Attributes:
      project: ID of the project.
      region: where it runs.
      name: of the job.
      environment: of its workers, a google.cloud.dataflow.Environment.
    """

    project: str
    region: str
    name: str
    environment: Any


def temporary_folder(flags: list[str]) -> str:
    """The folder where Dataflow stages and keeps what it needs for a while, by its flags."""
    from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

    return PipelineOptions(flags).view_as(GoogleCloudOptions).temp_location


def dataflow_job(flags: list[str]) -> DataflowJob:
    """Describes the job that Beam's `flags` ask for; sends nothing."""
    from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
    from apache_beam.runners.dataflow.internal import apiclient

    options = PipelineOptions(flags)
    cloud = options.view_as(GoogleCloudOptions)
    made = apiclient.Environment([], options, "8", f"{cloud.temp_location}/pipeline.pb")
    return DataflowJob(cloud.project, cloud.region, cloud.job_name, made.proto)
