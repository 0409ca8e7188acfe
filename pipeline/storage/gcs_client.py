"""Google Cloud Storage from afar: credentials, how often to try, and what its refusals mean."""

import contextlib
import http.client
import os
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.errors import Conflict, TransientError, UserError

EMULATOR = "STORAGE_EMULATOR_HOST"
TIMEOUT_SECONDS = (10, 60)  # to connect; between two bytes
# Statuses that may be another the next time.
TRANSIENT = {408, 429, 500, 502, 503, 504}
MAX_RETRY_AFTER_SECONDS = 60.0
UNREACHED = 3  # failures to connect after which nobody is there, if nobody ever answered
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
LOGIN = "gcloud auth application-default login"


def connect() -> Any:
    """A `google.cloud.storage.Client`; with an emulator, one that needs no credentials."""
    import google.auth
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    credentials: Any = AnonymousCredentials()
    if not os.environ.get(EMULATOR):
        with warnings.catch_warnings():  # a person's own credentials are meant
            warnings.simplefilter("ignore", UserWarning)
            credentials, _ = google.auth.default(scopes=[SCOPE])
    return storage.Client(project=None, credentials=credentials)


class Patience:
    """When a request is tried again, and how long that goes on.

    Attributes:
      retry: for the parameter of that name of Google's library.
      wait: what waits, given seconds.
    """

    def __init__(
        self,
        wait: Callable[[float], Any] = time.sleep,
        first_seconds: float = 1.0,
        longest_seconds: float = 32.0,
        total_seconds: float = 120.0,
    ):
        from google.api_core.retry import Retry

        self.wait = wait
        self.retry = Retry(
            predicate=is_transient,
            initial=first_seconds,
            maximum=longest_seconds,
            multiplier=2.0,
            timeout=total_seconds,
            on_error=self._failed,
        )
        self._reached = False
        self._failures = 0

    def reached(self) -> None:
        """Takes note that a request was answered."""
        self._reached = True

    def _failed(self, error: Exception) -> None:
        """Ends what is hopeless; waits as long as the server wants."""
        response = getattr(error, "response", None)
        if response is None:
            self._failures += not self._reached
            if self._failures >= UNREACHED:
                raise Unreachable from error
            return
        self._reached = True
        after = response.headers.get("Retry-After", "")
        if after.isdigit():
            self.wait(min(float(after), MAX_RETRY_AFTER_SECONDS))


class Unreachable(Exception):
    """Nobody has answered so far."""


def is_transient(error: BaseException | None) -> bool:
    """Whether the same request may be answered the next time."""
    import requests
    import urllib3
    from google.auth.exceptions import TransportError

    if isinstance(error, TransportError):  # while credentials were renewed
        return is_transient(error.args[0] if error.args else None)
    broken = (
        ConnectionError,
        requests.exceptions.ConnectionError,
        requests.exceptions.ChunkedEncodingError,
        requests.exceptions.Timeout,
        urllib3.exceptions.HTTPError,
        http.client.HTTPException,
    )
    return isinstance(error, broken) or _status(error) in TRANSIENT


def _status(error: BaseException | None) -> int | None:
    response = getattr(error, "response", None)
    status = getattr(error, "code", None) or getattr(response, "status_code", None)
    return int(status) if isinstance(status, int) else None


@contextlib.contextmanager
def refusals(path: str, verb: str, missing: Callable[[], str | None]) -> Iterator[None]:
    """Raises what Google's library raises as the UserError that it is.

    Args:
      verb: what was to be done to `path`: read, write, list or remove.
      missing: the bucket, where it is the bucket that is missing.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        meaning = _meaning(error, f"{path}: cannot {verb}", verb, missing)
        if meaning is None:
            raise
        raise meaning from error


def _meaning(
    error: Exception, what: str, verb: str, missing: Callable[[], str | None]
) -> UserError | None:
    """The UserError for `error`, without its text, which may name accounts and projects."""
    if isinstance(error, ModuleNotFoundError):
        remedy = "pip install 'kmeans-job[gcp]'"
        return UserError(f"{what}: google-cloud-storage is not installed; {remedy}")
    from google.api_core.exceptions import RetryError
    from google.auth import exceptions as auth

    if isinstance(error, RetryError) and isinstance(error.cause, Exception):
        error = error.cause
    if isinstance(error, auth.DefaultCredentialsError):
        return UserError(
            f"{what}: no Google credentials; log in with {LOGIN}, or name a key file in "
            "GOOGLE_APPLICATION_CREDENTIALS"
        )
    if isinstance(error, Unreachable):
        return TransientError(
            f"{what}: Google's storage cannot be reached; check the network and proxies"
        )
    if isinstance(error, auth.RefreshError) or _status(error) == 401:
        return UserError(
            f"{what}: the Google credentials are refused or expired; log in with {LOGIN}"
        )
    match _status(error):
        case 403:
            role = "objectViewer" if verb in ("read", "list") else "objectUser"
            return UserError(
                f"{what}: access denied; give the account roles/storage.{role} on the bucket"
            )
        case 404:
            if bucket := missing():
                return UserError(
                    f"{what}: there is no bucket {bucket}; check its name, or make it: "
                    f"gcloud storage buckets create gs://{bucket}"
                )
            return UserError(f"{what}: no such object; check the path")
        case 412:
            return Conflict(
                f"{what}: another writer was faster, and what it published stays; let one job at "
                "a time write there, or give another --output"
            )
        case int(final) if final not in TRANSIENT:
            return UserError(f"{what}: Google's storage refuses it with status {final}")
    if is_transient(error):
        reason = f"status {status}" if (status := _status(error)) else "a broken connection"
        return TransientError(
            f"{what}: {reason} again and again; try later: the same command goes on"
        )
    return None
