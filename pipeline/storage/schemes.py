"""The registry of remote storages: what serves the paths of a scheme, and what is known of it."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from pipeline.errors import UserError, install_hint


@dataclasses.dataclass(frozen=True)
class Scheme:
    """A kind of remote paths.

    Attributes:
      extra: of this package, which installs what serves the paths; "" where there is none.
      login: what gives a person credentials, in messages.
      makes: function () → Storage, as "module:function", imported when a path is first used; ""
        for the fsspec backend of that name (https://filesystem-spec.readthedocs.io).
      server: environment variable that names another server than the public one.
      options: of the fsspec backend.
      uploads_whole: a file appears when its upload is complete, as in all object stores; elsewhere
        it is written under another name and renamed.
      creates_only: a write can be refused because there is a file already.
      writes: paths can be written, and listed.
    """

    extra: str = ""
    login: str = "see the documentation of its fsspec backend"
    makes: str = ""
    server: str = ""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    uploads_whole: bool = False
    creates_only: bool = False
    writes: bool = True


_S3 = Scheme(
    "s3",
    login="run `aws configure`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    # s3fs would read a large object by ten requests for ranges of 50 MB: they are not compared
    # with its checksum, may belong to two versions of it, and take 500 MB of memory, as do the
    # parts of an upload. We read and write several files at a time instead.
    options={"max_concurrency": 1},
    uploads_whole=True,
    creates_only=True,
)
_AZURE = Scheme(
    "azure",
    login="run `az login`, or set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    uploads_whole=True,
)
_HTTP = Scheme("http", login="give a link that needs none", writes=False)
SCHEMES = {
    "gs": Scheme("gcp", makes="pipeline.storage.gcs:Objects", server="STORAGE_EMULATOR_HOST"),
    "s3": _S3,
    "s3a": _S3,
    "az": _AZURE,
    "abfs": _AZURE,
    "abfss": _AZURE,
    "hdfs": Scheme("hdfs", login="run `kinit`, and set HADOOP_HOME and CLASSPATH"),
    "https": _HTTP,
    "http": _HTTP,
}


def scheme_named(name: str) -> Scheme | None:
    """What is known of a scheme; the defaults for others that fsspec knows; None for no scheme."""
    if name in SCHEMES:
        return SCHEMES[name]
    return Scheme() if name in _fsspec_names() else None


@functools.cache
def _fsspec_names() -> frozenset[str]:
    try:
        from fsspec.registry import known_implementations
    except ImportError:
        return frozenset()
    return frozenset(known_implementations)


def not_installed(what: str, name: str) -> UserError:
    """The error for a scheme whose library is missing; `what` begins the message."""
    extra = SCHEMES.get(name, Scheme()).extra
    remedy = install_hint(extra) if extra else "install the fsspec backend for it"
    return UserError(f"{what}: what reads {name}:// is not installed; {remedy}")
