"""Storages that fsspec serves: a real S3 server, and others that rename."""

import contextlib
import errno
import functools
import os
import threading

import pytest

from pipeline import storage
from pipeline.errors import Conflict, TransientError, UserError
from pipeline.storage import remote, transfer

LARGE = os.urandom(transfer.SMALL_BYTES + 17)


def write(path: str, data: bytes = b"content") -> str:
    storage.write_bytes(path, data)
    return path


@pytest.fixture
def fresh(monkeypatch):
    """Storages that connect anew; what is patched on s3fs before that counts."""
    import s3fs

    storage._remote.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()
    yield monkeypatch
    monkeypatch.undo()
    storage._remote.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_file_is_read_as_it_was_written(s3_bucket):
    for data in (b"", b"content", LARGE):
        path = write(f"{s3_bucket}/a/file", data)
        assert storage.read_bytes(path) == data
        with storage.open_read(path) as file:
            assert file.read(5) == data[:5]
            file.seek(-3, os.SEEK_END) if data else None
            assert file.read() == data[-3:]


def test_a_file_that_was_written_anew_is_read_anew(s3_bucket):
    for data in (LARGE, LARGE[::-1]):
        path = write(f"{s3_bucket}/file", data)
        with storage.open_read(path) as file:
            assert file.read() == data


def test_files_and_folders(s3_bucket):
    for name in ("b/2", "b/c/3", "1", ".hidden", "b/.hidden/4"):
        write(f"{s3_bucket}/{name}", name.encode())
    assert storage.list_names(s3_bucket) == [".hidden", "1", "b"]
    assert storage.file_sizes(f"{s3_bucket}/b") == {"2": 3}
    assert storage.folders(s3_bucket) == ["b"]
    assert sorted(storage.walk(s3_bucket)) == ["1", "b/2", "b/c/3"]
    assert sorted(storage.walk(s3_bucket, deep=False)) == ["1"]
    everything = [".hidden", "1", "b/.hidden/4", "b/2", "b/c/3"]
    assert sorted(storage.walk(s3_bucket, hidden=True)) == everything
    beside = sorted(storage.walk(f"{s3_bucket}/b", deep=False, hidden=True))
    assert beside == [".hidden/4", "2"]
    assert storage.matching(f"{s3_bucket}/b/*") == [f"{s3_bucket}/b/2", f"{s3_bucket}/b/c"]
    assert storage.matching(f"{s3_bucket}/**/3") == [f"{s3_bucket}/b/c/3"]
    assert storage.is_folder(f"{s3_bucket}/b")
    assert not storage.is_folder(f"{s3_bucket}/1")
    assert storage.exists(f"{s3_bucket}/1")
    assert storage.exists(f"{s3_bucket}/b")
    assert not storage.exists(f"{s3_bucket}/x")
    assert storage.list_names(f"{s3_bucket}/x") == []
    assert storage.common_folder([f"{s3_bucket}/b/2", f"{s3_bucket}/1"]) == s3_bucket


def test_what_another_writes_is_seen(s3_bucket):
    """A listing is never older than the question for it."""
    import boto3

    folder = s3_bucket.removeprefix("s3://bucket/")
    assert storage.list_names(s3_bucket) == []
    client = boto3.client("s3")
    client.put_object(Bucket="bucket", Key=f"{folder}/new", Body=b"1")
    assert storage.list_names(s3_bucket) == ["new"]
    client.delete_object(Bucket="bucket", Key=f"{folder}/new")
    assert storage.list_names(s3_bucket) == []
    assert not storage.exists(f"{s3_bucket}/new")


def test_what_is_removed_is_gone(s3_bucket):
    for name in ("a/1", "a/b/2", "c"):
        write(f"{s3_bucket}/{name}")
    storage.remove(f"{s3_bucket}/a")
    storage.remove(f"{s3_bucket}/nothing")
    assert storage.list_names(s3_bucket) == ["c"]
    storage.remove(f"{s3_bucket}/c")
    assert not storage.exists(s3_bucket)


@pytest.mark.parametrize("data", [b"short", LARGE])
def test_a_write_that_is_interrupted_leaves_nothing(s3_bucket, data):
    with contextlib.suppress(ZeroDivisionError), storage.publish(f"{s3_bucket}/file") as file:
        file.write(data)
        raise ZeroDivisionError
    assert storage.list_names(s3_bucket) == []


def test_of_two_writers_of_a_marker_one_wins(s3_bucket):
    path = f"{s3_bucket}/manifest.json"
    won, lost = [], []
    start = threading.Barrier(8)

    def compete(number: int) -> None:
        start.wait()
        try:
            storage.write_once(path, b"%d" % number)
            won.append(number)
        except Conflict as error:
            lost.append(str(error))

    threads = [threading.Thread(target=compete, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = won
    assert storage.read_bytes(path) == b"%d" % winner
    assert len(lost) == 7
    assert f"{path}: cannot write: another writer was faster" in lost[0]
    storage.write_once(path, b"%d" % winner)  # as if its first answer had been lost


def test_many_files_are_read_in_order(s3_bucket):
    names = [f"{number:03d}" for number in range(20)]
    for name in names:
        write(f"{s3_bucket}/{name}", name.encode())
    *found, missing = storage.read_each(s3_bucket, [*names, "none"])
    assert found == [name.encode() for name in names]
    assert f"{s3_bucket}/none: cannot read: no such file, folder or bucket" in str(missing)


def test_a_file_that_grows(s3_bucket):
    log = storage.open_log(f"{s3_bucket}/log", b"0")
    log.write(b"1")
    log.flush()
    assert storage.read_bytes(f"{s3_bucket}/log") == b"01"
    log.write(b"2")
    log.close()
    assert storage.read_bytes(f"{s3_bucket}/log") == b"012"


def test_files_are_copied(s3_bucket, tmp_path):
    write(f"{s3_bucket}/file", LARGE)
    storage.copy_to_disk(f"{s3_bucket}/file", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == LARGE
    storage.copy(str(tmp_path / "copy"), f"{s3_bucket}/again")
    assert storage.read_bytes(f"{s3_bucket}/again") == LARGE


def test_a_bucket_that_is_not_there(s3_server):
    assert not storage.exists("s3://no-such-bucket/a")
    for action in (storage.read_bytes, functools.partial(storage.write_bytes, data=b"1")):
        with pytest.raises(UserError, match=r"s3://no-such-bucket/a: cannot .*no such .*bucket"):
            action("s3://no-such-bucket/a")


def test_without_credentials(s3_server, fresh, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        fresh.delenv(name)
    fresh.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fresh.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError) as caught:
        storage.read_bytes("s3://bucket/a")
    assert str(caught.value).startswith("s3://bucket/a: cannot read: no credentials that work; ")
    assert "aws configure" in str(caught.value)


def test_a_server_that_is_not_there(s3_server, fresh):
    fresh.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fresh.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(TransientError) as caught:
        storage.read_bytes("s3://bucket/a")
    assert "s3://bucket/a: cannot read: s3 storage cannot be reached" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_other_schemes_of_fsspec_publish_whole_files(tmp_path):
    folder = f"file://{tmp_path}/new"
    with storage.publish(f"{folder}/a") as file:
        file.write(b"1")
        assert storage.list_names(folder) == []
    assert storage.list_names(folder) == ["a"]
    assert storage.read_bytes(f"{folder}/a") == b"1"
    storage.write_once(f"{folder}/a", b"2")
    assert (tmp_path / "new" / "a").read_bytes() == b"2"


def test_paths_found_are_paths_of_the_scheme(tmp_path):
    for name in ("a/1", "a/2", "b/3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = storage.matching(f"file://{tmp_path}/a/*")
    assert found == [f"file://{tmp_path}/a/1", f"file://{tmp_path}/a/2"]
    assert storage.common_folder(found) == f"file://{tmp_path}/a"
    assert sorted(storage.walk(f"file://{tmp_path}")) == ["a/1", "a/2", "b/3"]
    assert list(storage.walk(f"file://{tmp_path}", deep=False)) == []


@pytest.mark.parametrize(
    ("path", "short", "starts"),
    [
        ("s3://bucket/a/*", "bucket/a/*", ("s3://", "")),
        ("hdfs://host:8020/a/*", "/a/*", ("hdfs://host:8020", "")),
        (
            "abfs://box@account.dfs.core.windows.net/*",
            "box/*",
            ("abfs://box@account.dfs.core.windows.net", "box"),
        ),
        ("https://host/a", "https://host/a", ("", "")),
    ],
)
def test_paths_are_shortened_by_backends(path, short, starts):
    assert remote._unlike_starts(path, short) == starts


def test_markers_of_folders_are_not_files(s3_bucket):
    """As the console of S3 makes them: empty objects whose names end with a slash."""
    import boto3

    folder = s3_bucket.removeprefix("s3://bucket/")
    for name in ("", "sub/", "1"):
        boto3.client("s3").put_object(Bucket="bucket", Key=f"{folder}/{name}", Body=b"")
    assert storage.list_names(s3_bucket) == ["1", "sub"]
    assert storage.file_sizes(s3_bucket) == {"1": 0}
    assert storage.folders(s3_bucket) == ["sub"]
    assert list(storage.walk(s3_bucket)) == ["1"]
    assert storage.is_folder(f"{s3_bucket}/sub")
    assert storage.list_names(f"{s3_bucket}/sub") == []


@pytest.fixture
def requests(monkeypatch) -> list[tuple[str, str]]:
    """Method and prefix or key of each request to S3."""
    import fsspec.asyn
    import s3fs

    seen, call = [], s3fs.S3FileSystem._call_s3

    async def spy(self, method, *words, **named):
        seen.append((method, named.get("Prefix", named.get("Key", ""))))
        return await call(self, method, *words, **named)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", spy)
    monkeypatch.setattr(s3fs.S3FileSystem, "call_s3", fsspec.asyn.sync_wrapper(spy))
    return seen


def test_what_lies_beside_a_missing_folder_is_not_listed(s3_bucket, requests):
    write(f"{s3_bucket}/beside")
    folder = f"{s3_bucket.removeprefix('s3://bucket/')}/missing"
    requests.clear()
    assert storage.list_names(f"{s3_bucket}/missing") == []
    assert not storage.exists(f"{s3_bucket}/missing")
    assert requests == [("head_object", folder), ("list_objects_v2", f"{folder}/")] * 2


def test_a_huge_folder_is_walked_page_by_page(s3_bucket, requests, monkeypatch):
    names = [f"{number:02d}" for number in range(10)]
    for name in names:
        write(f"{s3_bucket}/{name}", b"")
    requests.clear()
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "4")
    found = storage.walk(s3_bucket)
    assert next(found) == "00"
    assert len(requests) == 1
    assert list(found) == names[1:]
    assert len(requests) == 3


@pytest.mark.parametrize("read", [storage.read_bytes, "copy"])
def test_a_bit_that_changed_is_noticed(s3_bucket, tmp_path, read):
    from moto.s3.models import s3_backends

    if read == "copy":
        read = functools.partial(storage.copy_to_disk, target=str(tmp_path / "copy"))
    path = write(f"{s3_bucket}/file", LARGE)
    (account,) = s3_backends.values()
    stored = account["aws"].buckets["bucket"].keys[path.removeprefix("s3://bucket/")]
    stored.value = bytes([LARGE[0] ^ 1]) + LARGE[1:]
    with pytest.raises(TransientError, match="/file: cannot read: altered on the way here; check"):
        read(path)


def test_a_marker_on_a_server_that_names_no_condition(s3_bucket, fresh):
    """Not all servers say which condition failed, as s3fs wants to know."""
    import s3fs
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    answer = {"Error": {"Code": "PreconditionFailed"}, "ResponseMetadata": {"HTTPStatusCode": 412}}

    async def refuse(*_, **__):
        raise translate_boto_error(ClientError(answer, "PutObject"))

    fresh.setattr(s3fs.S3FileSystem, "_pipe_file", refuse)
    write(f"{s3_bucket}/marker", b"theirs")
    with pytest.raises(Conflict, match="/marker: cannot write: another writer was faster"):
        storage.write_once(f"{s3_bucket}/marker", b"ours")
    storage.write_once(f"{s3_bucket}/marker", b"theirs")


def test_a_marker_in_parts(s3_bucket, requests, fresh):
    """Above 100 MiB, s3fs uploads in parts; the condition counts when they are put together."""
    import boto3
    import s3fs

    pipe = s3fs.S3FileSystem._pipe_file
    small = functools.partialmethod(pipe, chunksize=5 << 20)
    fresh.setattr(s3fs.S3FileSystem, "_pipe_file", small)
    data = bytes(11 << 20)
    storage.write_once(f"{s3_bucket}/marker", data)
    assert "complete_multipart_upload" in dict(requests)
    with pytest.raises(Conflict, match="/marker: cannot write: another writer was faster"):
        storage.write_once(f"{s3_bucket}/marker", data[1:] + b"1")
    assert storage.read_bytes(f"{s3_bucket}/marker") == data
    uploads = boto3.client("s3").list_multipart_uploads(Bucket="bucket")
    assert "Uploads" not in uploads  # what was sent for nothing is not left behind


def test_a_file_in_parts_appears_whole_or_not_at_all(s3_bucket, fresh):
    import boto3
    import s3fs

    put, call = s3fs.S3FileSystem._put_file, s3fs.S3FileSystem._call_s3
    small = functools.partialmethod(put, chunksize=5 << 20)
    fresh.setattr(s3fs.S3FileSystem, "_put_file", small)
    data = bytes(range(256)) * (11 << 12)
    write(f"{s3_bucket}/file", data)
    assert storage.read_bytes(f"{s3_bucket}/file") == data

    async def fail(self, method, *words, **named):
        if named.get("PartNumber") == 2:
            raise ConnectionResetError
        return await call(self, method, *words, **named)

    fresh.setattr(s3fs.S3FileSystem, "_call_s3", fail)
    with pytest.raises(TransientError, match="/file: cannot write: s3 storage cannot be reached"):
        write(f"{s3_bucket}/file", data[::-1])
    assert storage.read_bytes(f"{s3_bucket}/file") == data
    assert "Uploads" not in boto3.client("s3").list_multipart_uploads(Bucket="bucket")


def test_a_bucket_is_emptied_and_stays(s3_server):
    import boto3

    boto3.client("s3").create_bucket(Bucket="another")
    for name in ("a/1", "2"):
        write(f"s3://another/{name}")
    storage.remove("s3://another")
    assert storage.list_names("s3://another") == []
    assert storage.is_folder("s3://another")


def test_a_full_disk_is_told_as_such(s3_bucket, tmp_path, fresh):
    import s3fs

    async def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    fresh.setattr(s3fs.S3FileSystem, "_get_file", fail)
    path = write(f"{s3_bucket}/file")
    with pytest.raises(UserError, match=f"{tmp_path}/copy: cannot write: No space left"):
        storage.copy_to_disk(path, str(tmp_path / "copy"))
