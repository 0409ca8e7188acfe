"""gs:// paths and a server that fails: every operation gets through, or says why it does not."""

import os
import sys
import threading
from collections.abc import Callable, Iterator

import gcs_double
import pytest
from gcs_double import Double, Fault
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY
from google.oauth2.credentials import Credentials

from pipeline.errors import Conflict, TransientError, UserError
from pipeline.storage import gcs, transfer
from pipeline.storage.gcs_client import RetryPolicy

LARGE = os.urandom(2 * gcs.PART_BYTES + 12345)  # uploaded in three parts
BUSY, LIMITED = Fault(503), Fault(429, (("Retry-After", "7"),))
CUT, FLIP, MUTE = Fault(cut=True), Fault(flip=True), Fault(mute=True)


def client_of(double: Double) -> storage.Client:
    """A client whose credentials cannot be renewed."""
    options = {"api_endpoint": double.url}
    return storage.Client(None, Credentials("secret-token"), client_options=options)


@pytest.fixture
def double() -> Iterator[Double]:
    with gcs_double.running() as started:
        yield started


@pytest.fixture
def waited() -> list[float]:
    """Seconds that a server asked to wait."""
    return []


@pytest.fixture
def make_objects(double, waited) -> Callable[[], gcs.Objects]:
    """Objects of a client that waits a thousandth of the usual between two tries."""

    quick = DEFAULT_RETRY.with_delay(0.001, 0.032, 2).with_timeout(30)
    return lambda: gcs.Objects(lambda: client_of(double), lambda: RetryPolicy(quick, waited.append))


@pytest.fixture
def objects(make_objects) -> gcs.Objects:
    return make_objects()


def write(objects: gcs.Objects, data: bytes, path: str = "gs://bucket/a/file") -> None:
    with objects.publish(path) as file:
        file.write(data)


def read(objects: gcs.Objects, path: str = "gs://bucket/a/file") -> bytes:
    with objects.open_read(path) as file:
        return file.read()


# What is done to gs://bucket/a/file, which holds LARGE; the kinds of requests; the outcome.
OPERATIONS = {
    "exists": (lambda o: o.exists("gs://bucket/a/file"), ["find"], True),
    "is_folder": (lambda o: o.is_folder("gs://bucket/a"), ["list"], True),
    "list_names": (lambda o: o.list_names("gs://bucket/a"), ["list"], ["file"]),
    "file_sizes": (lambda o: o.file_sizes("gs://bucket/a"), ["list"], {"file": len(LARGE)}),
    "folders": (lambda o: o.folders("gs://bucket"), ["list"], ["a"]),
    "walk": (lambda o: list(o.walk("gs://bucket", True)), ["list"], ["a/file"]),
    "matching": (lambda o: list(o.matching("gs://bucket/*/f*")), ["list"], ["gs://bucket/a/file"]),
    "read_bytes": (lambda o: o.read_bytes("gs://bucket/a/file"), ["download"], LARGE),
    "open_read": (read, ["find", "download"], LARGE),
    "publish": (lambda o: write(o, b"small"), ["upload"], None),
    "publish large": (lambda o: write(o, LARGE), ["begin", "part"], None),
    "write_once": (lambda o: o.write_once("gs://bucket/new", b"new"), ["upload"], None),
    "remove": (lambda o: o.remove("gs://bucket/a"), ["list", "remove"], None),
}


@pytest.mark.parametrize("faults", [[BUSY] * 3, [LIMITED]], ids=["503 thrice", "429"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_survives(objects, double, waited, name, faults):
    operation, kinds, outcome = OPERATIONS[name]
    write(objects, LARGE)
    double.faults.update({kind: list(faults) for kind in kinds})
    assert operation(objects) == outcome
    assert not any(double.faults.values())
    assert waited == ([7.0] * len(kinds) if faults == [LIMITED] else [])


@pytest.mark.parametrize("size", [100, len(LARGE)])
def test_what_is_written_is_read(objects, double, size):
    write(objects, LARGE[:size])
    assert double.objects["bucket"]["a/file"].data == LARGE[:size]
    assert read(objects) == objects.read_bytes("gs://bucket/a/file") == LARGE[:size]


@pytest.mark.parametrize("size", [1000, len(LARGE)])
def test_download_cut_halfway_goes_on(objects, double, size):
    write(objects, LARGE[:size])
    double.faults["download"] = [CUT, CUT]
    assert read(objects) == LARGE[:size]
    assert double.requests.count("download") == 3


def test_many_objects_are_read_in_order(objects, double):
    names = [f"gs://bucket/{number:03d}" for number in range(40)]
    for name in names:
        write(objects, name.encode(), name)
    del double.objects["bucket"]["007"]
    double.faults["download"] = [BUSY] * 3
    some = transfer.each_read(objects.read_bytes, [*names[:8], names[39]])
    *before, missing, last = some
    assert [*before, last] == [name.encode() for name in [*names[:7], names[39]]]
    assert "gs://bucket/007: cannot read: no such object" in str(missing)
    others = transfer.each_read(objects.read_bytes, names[8:])
    assert list(others) == [name.encode() for name in names[8:]]


def test_resumable_upload_cut_twice_goes_on(objects, double):
    double.faults["part"] = [Fault(), CUT, CUT]
    write(objects, LARGE)
    assert double.objects["bucket"]["a/file"].data == LARGE
    assert double.requests == ["begin", *["part"] * 5]


def test_upload_that_is_taken_in_part_or_forgotten_starts_anew(objects, double):
    double.faults["part"] = [Fault(short=True), Fault(410)]
    write(objects, LARGE)
    assert double.objects["bucket"]["a/file"].data == LARGE
    assert double.requests.count("begin") == 3


@pytest.mark.parametrize("size", [1000, len(LARGE)])
def test_bit_flipped_on_the_way_here_is_noticed(objects, double, size):
    write(objects, LARGE[:size])
    double.faults["download"] = [FLIP]
    assert read(objects) == LARGE[:size]
    assert double.requests.count("download") == 2


def test_bit_flipped_before_the_cut_is_noticed(objects, double):
    write(objects, LARGE)
    double.faults["download"] = [Fault(cut=True, flip=True), FLIP]
    assert read(objects) == LARGE


@pytest.mark.parametrize(("kind", "size"), [("upload", 1000), ("part", len(LARGE))])
def test_bit_flipped_on_the_way_there_is_noticed(objects, double, kind, size):
    double.faults[kind] = [FLIP]
    write(objects, LARGE[:size])
    assert double.objects["bucket"]["a/file"].data == LARGE[:size]


def test_what_always_arrives_altered_is_an_error(objects, double):
    write(objects, b"content")
    double.faults["download"] = [FLIP] * gcs.TRIES
    with pytest.raises(TransientError, match=r"a/file: altered on the way here 3 times"):
        objects.read_bytes("gs://bucket/a/file")
    double.faults["upload"] = [FLIP] * gcs.TRIES
    with pytest.raises(TransientError, match=r"/b: refused 3 times as altered on the way"):
        write(objects, b"content", "gs://bucket/b")
    assert "b" not in double.objects["bucket"]


@pytest.mark.parametrize("size", [3, 4, 5, len(LARGE)])
def test_of_two_writers_of_a_marker_one_wins(make_objects, double, size):
    one = LARGE[:size]
    two = one.translate(bytes(range(255, -1, -1)))  # other bytes, all of them
    barrier, lost = threading.Barrier(2), []

    def publish(data: bytes) -> None:
        objects = make_objects()
        barrier.wait()
        try:
            objects.write_once("gs://bucket/manifest.json", data)
        except Conflict as error:
            lost.append((data, str(error)))

    writers = [threading.Thread(target=publish, args=(data,)) for data in (one, two)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    ((data, message),) = lost
    assert double.objects["bucket"]["manifest.json"].data == (two if data == one else one)
    assert message == (
        "gs://bucket/manifest.json: cannot write: another writer was faster, and what it published "
        "stays; let one job at a time write there, or give another --output"
    )


def test_writer_whose_answer_was_lost_has_won(objects, double):
    double.faults["upload"] = [MUTE]
    objects.write_once("gs://bucket/manifest.json", b"ours")
    assert double.requests == ["upload", "upload", "find"]


def test_nothing_is_left_of_a_write_that_failed(objects, double):
    def write_half() -> None:
        with objects.publish("gs://bucket/file") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert double.requests == []


ACCOUNT = '{"error": {"message": "robot@secret-project.iam.gserviceaccount.com has no access"}}'


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(401), "the Google credentials are refused or expired; log in with gcloud"),
        (Fault(403, (), ACCOUNT), "access denied; give the account roles/storage.objectViewer"),
        (Fault(418), "Google's storage refuses it with status 418"),
    ],
)
def test_refusals_are_told_without_the_servers_words(objects, double, fault, message):
    double.faults["download"] = [fault]
    with pytest.raises(UserError) as caught:
        objects.read_bytes("gs://bucket/a/file")
    assert str(caught.value).startswith(f"gs://bucket/a/file: cannot read: {message}")
    assert "secret" not in str(caught.value)
    assert not isinstance(caught.value, TransientError)


def test_denied_writer_is_told_its_role(objects, double):
    double.faults["upload"] = [Fault(403)]
    with pytest.raises(UserError, match=r"cannot write: access denied; .*roles/storage.objectUser"):
        write(objects, b"")


def test_missing_object(objects):
    with pytest.raises(UserError, match="a/file: cannot read: no such object; check the path"):
        read(objects)


@pytest.mark.parametrize("name", ["exists", "list_names", "read_bytes", "remove"])
def test_missing_bucket(objects, name):
    with pytest.raises(UserError, match="there is no bucket elsewhere; check its name, or make it"):
        getattr(objects, name)("gs://elsewhere/a/file")


def test_missing_bucket_for_a_writer(objects):
    with pytest.raises(UserError, match="cannot write: there is no bucket elsewhere"):
        write(objects, b"", "gs://elsewhere/file")


@pytest.mark.parametrize("path", ["gs://", "gs:///file", "gs://Bucket/file", "gs://a b/file"])
def test_no_bucket_can_have_this_name(objects, path):
    with pytest.raises(UserError, match="is no name of a bucket; paths are gs://BUCKET/NAME"):
        objects.exists(path)


def test_server_that_never_answers(double, make_objects):
    gone = make_objects()
    double.url = "http://127.0.0.1:9"
    for _ in range(2):  # at once, the second time
        with pytest.raises(TransientError, match="Google's storage cannot be reached; check"):
            gone.exists("gs://bucket/a")


def test_server_that_stays_busy(double):
    double.faults["list"] = [BUSY] * 1000
    short = DEFAULT_RETRY.with_delay(0.001, 0.01, 2).with_timeout(0.1)
    objects = gcs.Objects(lambda: client_of(double), lambda: RetryPolicy(short))
    with pytest.raises(TransientError, match="cannot list: status 503 again and again; try later"):
        objects.list_names("gs://bucket/a")


def test_no_credentials(monkeypatch, tmp_path):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(
        UserError, match="no Google credentials; log in with gcloud auth application-"
    ):
        gcs.Objects().exists("gs://bucket/a")


@pytest.mark.parametrize("name", ["exists", "list_names", "read_bytes", "remove"])
def test_library_that_is_not_installed(monkeypatch, name):
    for module in ("google.api_core", "google.auth", "google.cloud"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"not installed; pip install 'kmeans-job\[gcp\]'"):
        getattr(gcs.Objects(), name)("gs://bucket/a")


def test_objects_that_were_read_last_are_kept(objects, double):
    write(objects, LARGE)
    assert [read(objects), read(objects)] == [LARGE, LARGE]
    assert double.requests.count("download") == 1
    write(objects, LARGE[::-1])
    assert read(objects) == LARGE[::-1]


def test_folders_and_globs(objects):
    for name in ("s/a/1.png", "s/a/b/2.png", "s/.git/3.png", "s/c/.4.png", "s/5.txt", "t/6.png"):
        write(objects, b"", f"gs://bucket/{name}")
    write(objects, b"", "gs://bucket/s/")  # as some tools mark a folder
    assert sorted(objects.walk("gs://bucket/s", True)) == ["5.txt", "a/1.png", "a/b/2.png"]
    assert list(objects.walk("gs://bucket/s/", False)) == ["5.txt"]
    everything = [".git/3.png", "5.txt", "a/1.png", "a/b/2.png", "c/.4.png"]
    assert sorted(objects.walk("gs://bucket/s", True, hidden=True)) == everything
    assert sorted(objects.walk("gs://bucket/s/", False, hidden=True)) == everything[:2]
    assert objects.folders("gs://bucket/s") == ["a", "c"]
    assert objects.list_names("gs://bucket/s") == [".git", "5.txt", "a", "c"]

    def matching(pattern: str) -> list[str]:
        return sorted(p.removeprefix("gs://bucket/") for p in objects.matching(pattern))

    assert matching("gs://bucket/s/*") == ["s/5.txt", "s/a", "s/c"]
    assert matching("gs://bucket/*/*.png") == ["t/6.png"]
    assert matching("gs://bucket/**/*.png") == ["s/a/1.png", "s/a/b/2.png", "t/6.png"]
    assert matching("gs://bucket/s/[a-b]/?.png") == ["s/a/1.png"]
    assert matching("gs://bucket/none*") == []
