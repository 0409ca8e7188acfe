"""The client of Google Cloud Storage: credentials, retry policy, and what its errors mean."""

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pipeline.errors import TransientError, UserError
from pipeline.storage.schemes import not_installed
from pipeline.storage.transfer import conflict

EMULATOR = "STORAGE_EMULATOR_HOST"
TIMEOUT_SECONDS = (10, 60)  # to connect; between two bytes
MAX_RETRY_AFTER_SECONDS = 60.0
MAX_UNANSWERED = 3  # requests that fail without an answer before the service is out of reach
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
LOGIN = "gcloud auth application-default login"
T = TypeVar("T")


def connect() -> Any:
    """Makes a `google.cloud.storage.Client`; for an emulator, one without credentials."""
    import google.auth
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    credentials: Any = AnonymousCredentials()
    if not os.environ.get(EMULATOR):
        with warnings.catch_warnings():  # about a person's own credentials, which are welcome
            warnings.simplefilter("ignore", UserWarning)
            credentials, _ = google.auth.default(scopes=[SCOPE])
    return storage.Client(project=None, credentials=credentials)


class RetryPolicy:
    """Repeats requests as google-cloud-storage does by default: for two minutes, waiting longer.

    Two things are added, through the callback for failures that google.api_core offers. Retry-After
    is honoured, which the library does not read. A service from which no answer ever came is given
    up after a few requests: a wrong address or proxy is not worth two minutes.

    The library calls its parameter `retry` as a decorator, which an instance of this class is.
    """

    def __init__(self, policy: Any = None, wait: Callable[[float], Any] = time.sleep):
        """Takes the policy to follow.

        Args:
          policy: a `google.api_core.retry.Retry`; by default the library's.
          wait: waits, given seconds.
        """
        from google.cloud.storage.retry import DEFAULT_RETRY

        self._policy, self._wait = policy or DEFAULT_RETRY, wait
        self._answered, self._unanswered = False, 0

    def __call__(self, request: Callable[[], T]) -> Callable[[], T]:
        """Decorates a function that sends a request."""

        def send() -> T:
            answer = request()
            self._answered = True
            return answer

        return self._policy(send, on_error=self._failed)

    def _failed(self, error: Exception) -> None:
        """Waits as long as the server asks for; gives up where there is none."""
        response = getattr(error, "response", None)
        if response is None:
            self._unanswered += not self._answered
            if self._unanswered >= MAX_UNANSWERED:
                raise UnreachableError from error
            return
        self._answered = True
        after = response.headers.get("Retry-After", "")
        if after.isdigit():
            self._wait(min(float(after), MAX_RETRY_AFTER_SECONDS))


class UnreachableError(Exception):
    """No request has been answered so far."""


def _status(error: BaseException | None) -> int | None:
    """The HTTP status of the answer that `error` is about."""
    response = getattr(error, "response", None)
    status = getattr(error, "code", None) or getattr(response, "status_code", None)
    return int(status) if isinstance(status, int) else None


@contextlib.contextmanager
def explained(path: str, verb: str, missing: Callable[[], str | None]) -> Iterator[None]:
    """Translates errors of Google's library raised inside the block into messages about `path`.

    Args:
      verb: what is done to `path`: read, write, list or remove.
      missing: asks for the name of the bucket, if the bucket does not exist.
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
    if isinstance(error, ImportError):
        return not_installed(what, "gs")
    from google.api_core.exceptions import RetryError
    from google.auth import exceptions as auth

    if isinstance(error, RetryError):
        status = _status(error.cause)
        reason = f"status {status}" if status else "a broken connection"
        return TransientError(
            f"{what}: {reason} again and again; try later: the same command resumes"
        )
    if isinstance(error, auth.DefaultCredentialsError):
        return UserError(
            f"{what}: no Google credentials; log in with {LOGIN}, or name a key file in "
            "GOOGLE_APPLICATION_CREDENTIALS"
        )
    if isinstance(error, UnreachableError):
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
            return conflict(what)
        case int(status):
            return UserError(f"{what}: Google's storage refuses it with status {status}")
    return None
