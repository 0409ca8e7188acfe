"""Storages that fsspec serves: a real S3 server, a web server, and what is not to be had."""

import contextlib
import functools
import http.server
import os
import threading
from collections.abc import Iterator

import pytest

from pipeline import storage
from pipeline.errors import Conflict, TransientError, UserError
from pipeline.storage import transfer

LARGE = os.urandom(transfer.SMALL_BYTES + 17)


def write(path: str, data: bytes = b"content") -> str:
    storage.write_bytes(path, data)
    return path


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


@pytest.fixture
def fresh(monkeypatch):
    """Storages that connect anew."""
    import s3fs

    storage._remote.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()
    yield monkeypatch
    monkeypatch.undo()
    storage._remote.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()


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
    with pytest.raises(TransientError) as caught:
        storage.read_bytes("s3://bucket/a")
    assert "s3://bucket/a: cannot read: s3 storage cannot be reached" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_backend_that_is_not_installed(fresh):
    import fsspec.core

    def missing(*_, **__):
        raise ImportError("Install s3fs to access S3")

    fresh.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(UserError) as caught:
        storage.exists("s3://bucket/a")
    assert "pip install 'kmeans-job[s3]' (in a checkout: pip install '.[s3]')" in str(caught.value)


@pytest.fixture(scope="module")
def web(tmp_path_factory) -> Iterator[str]:
    """A web server on this machine with a small and a large file."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "small").write_bytes(b"content")
    (folder / "large").write_bytes(LARGE)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_web_pages_are_read(web):
    for name, data in (("small", b"content"), ("large", LARGE)):
        assert storage.exists(f"{web}/{name}")
        assert not storage.is_folder(f"{web}/{name}")
        assert storage.read_bytes(f"{web}/{name}") == data
        with storage.open_read(f"{web}/{name}") as file:
            assert file.read() == data
    assert not storage.exists(f"{web}/none")


def test_web_pages_are_only_read(web):
    with pytest.raises(UserError, match="http:// paths can only be read; give a folder to write"):
        storage.write_bytes(f"{web}/new", b"1")


def test_other_schemes_of_fsspec_publish_whole_files(tmp_path):
    folder = f"file://{tmp_path}/new"
    with storage.publish(f"{folder}/a") as file:
        file.write(b"1")
        assert storage.list_names(folder) == []
    assert storage.list_names(folder) == ["a"]
    assert storage.read_bytes(f"{folder}/a") == b"1"
    storage.write_once(f"{folder}/a", b"2")
    assert (tmp_path / "new" / "a").read_bytes() == b"2"


def test_signatures_of_links_are_not_told(web):
    link = f"{web}/none?X-Amz-Signature=0123456789abcdef"
    with pytest.raises(UserError) as caught:
        storage.read_bytes(link)
    assert f"{web}/none?…: cannot read" in str(caught.value)
    with pytest.raises(UserError) as caught:
        storage.read_bytes(link.replace("127", "user:password@127"))
    assert "password" not in str(caught.value)
