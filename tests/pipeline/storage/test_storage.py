"""Files: what is published is whole, what is refused says why."""

import errno
import gzip
import os

import pytest

from pipeline import storage
from pipeline.errors import TransientError, UserError


def test_published_file_appears_at_the_end(tmp_path):
    path = tmp_path / "new" / "file"
    with storage.publish(str(path)) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_of_a_write_that_failed(tmp_path, kind):
    def write_half():
        with storage.publish(str(tmp_path / "file")) as file:
            file.write(b"half")
            raise kind

    with pytest.raises(kind):
        write_half()
    assert os.listdir(tmp_path) == []


def test_publishing_replaces(tmp_path):
    storage.write_bytes(path := str(tmp_path / "file"), b"old")
    storage.write_bytes(path, b"new")
    assert storage.read_bytes(path) == b"new"


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="none: cannot read: No such file") as caught:
        storage.read_bytes(str(tmp_path / "none"))
    assert not isinstance(caught.value, TransientError)


def test_folder_below_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot write: .*; check the path and its permissions"):
        storage.make_folder(str(tmp_path / "file" / "folder"))


def test_a_folder_where_a_file_is_meant(tmp_path):
    (tmp_path / "a.npy").mkdir()
    (tmp_path / "b.npy").write_bytes(b"")
    what = "is a folder where a file is meant"
    for work in (storage.read_bytes, lambda path: storage.write_bytes(path, b"")):
        with pytest.raises(UserError, match=f"a.npy: {what}; give the file, or move the folder"):
            work(str(tmp_path / "a.npy"))
    said = [storage.absence(str(tmp_path / name)) for name in ("a.npy", "b.npy", "c.npy")]
    assert said == [what, None, "no such file"]


def test_a_folder_is_locked_for_one_job(tmp_path, monkeypatch):
    monkeypatch.setattr(storage.local, "LOCK_SECONDS", 0.0)
    folder = str(tmp_path / "new")
    what = "new: another kmeans-job is writing there; wait until it has ended, or give another"
    with storage.locked(folder), pytest.raises(UserError, match=what), storage.locked(folder):
        pass
    with storage.locked(folder):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EBADF, errno.ENOTSUP])
def test_where_there_are_no_locks_the_job_goes_on(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, "no locks")

    monkeypatch.setattr(storage.local.fcntl, "flock", flock)
    with storage.locked(str(tmp_path)):
        pass


def test_unknown_scheme():
    remedy = "no storage has the scheme nowhere://; give a local path, or one of gs://, s3://, "
    with pytest.raises(UserError, match=f"nowhere://host/set: {remedy}"):
        storage.exists("nowhere://host/set")


def test_failure_that_may_pass(monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(storage.local.os.path, "exists", fail)
    with pytest.raises(TransientError, match="set: cannot read: Input/output error"):
        storage.exists("set")


def test_retrying_until_it_works():
    outcomes = [TransientError("once"), TransientError("twice"), "done"]
    waited = []

    def action():
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert storage.retrying(action, waited.append) == "done"
    assert waited == list(storage.RETRY_SECONDS)


def test_retrying_ends():
    calls = []

    def action():
        calls.append(0)
        raise TransientError("always")

    with pytest.raises(TransientError, match="always"):
        storage.retrying(action, lambda _: None)
    assert len(calls) == 1 + len(storage.RETRY_SECONDS)


def test_what_is_for_good_is_not_tried_again():
    calls = []

    def action():
        calls.append(0)
        raise UserError("missing")

    with pytest.raises(UserError, match="missing"):
        storage.retrying(action, lambda _: None)
    assert len(calls) == 1


def test_gzip_is_unpacked_and_others_are_not(tmp_path):
    (tmp_path / "packed").write_bytes(gzip.compress(b"content"))
    (tmp_path / "plain").write_bytes(b"content")
    for name in ("packed", "plain"):
        with storage.open_unpacked(str(tmp_path / name)) as file:
            assert file.read() == b"content"


@pytest.mark.parametrize("cut", [-1, -5, -9, 12])
def test_damaged_gzip(tmp_path, cut):
    (tmp_path / "packed").write_bytes(gzip.compress(os.urandom(100))[:cut])
    with (
        pytest.raises(UserError, match="packed: damaged gzip file"),
        storage.open_unpacked(str(tmp_path / "packed")) as file,
    ):
        file.read()


def test_walk_follows_links_but_not_in_circles(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for name in ("a/1", "a/b/2", "a/.hidden", "elsewhere/3"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a" / "self").symlink_to("self")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "b" / "around").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "b" / "out").symlink_to(tmp_path / "elsewhere")
    found = sorted(storage.walk(str(tmp_path / "a")))
    assert found == ["1", "b/2", "b/out/3", "self"]
    assert sorted(storage.walk(str(tmp_path / "a"), deep=False)) == ["1", "self"]
    everything = sorted(storage.walk(str(tmp_path / "a"), hidden=True))
    assert everything == [".hidden", "1", "b/2", "b/out/3", "self"]


def test_walk_finds_what_is_hidden_if_it_is_asked_for(tmp_path):
    for name in ("1", ".2", "a/.3", ".b/4", ".b/c/.5", "a/.d/6"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".around").symlink_to(tmp_path)
    (tmp_path / ".b" / "around").symlink_to(tmp_path)
    (tmp_path / ".closed").mkdir(mode=0)  # as some of a system's are: nothing is known of it
    seen = sorted(storage.walk(str(tmp_path), hidden=True))
    assert seen == [".2", ".around", ".b/4", ".b/c/.5", "1", "a/.3", "a/.d/6"]
    beside = sorted(storage.walk(str(tmp_path), deep=False, hidden=True))
    assert beside == [".2", ".around", ".b/4", ".b/c/.5", "1"]


def test_folders_leave_out_circles_and_hidden_ones(tmp_path):
    for name in ("b", "a", ".git"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert storage.folders(str(tmp_path)) == ["a", "b"]


def test_remove_is_content_with_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"")
    storage.remove(str(tmp_path / "folder"))
    storage.remove(str(tmp_path / "folder"))
    assert storage.list_names(str(tmp_path)) == []


@pytest.mark.parametrize("root", ["", "/data/", "gs://bucket/", "gs://"])
def test_folder_that_paths_have_in_common(root):
    paths = [f"{root}set/a/1.npz", f"{root}set/b/2.npz"]
    folder = storage.common_folder(paths)
    assert folder == (f"{root}set" if root else os.path.abspath("set"))
    assert [storage.relative(path, folder) for path in paths] == ["a/1.npz", "b/2.npz"]
    assert storage.join(folder, "a/1.npz") == (paths[0] if root else os.path.abspath(paths[0]))


def test_common_folder_of_two_buckets():
    folder = storage.common_folder(["gs://one/1.npz", "gs://two/2.npz"])
    assert storage.relative("gs://two/2.npz", folder) == "two/2.npz"
    assert storage.join(folder, "two/2.npz") == "gs://two/2.npz"


def test_sizes_of_files(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "three").write_bytes(b"123")
    (tmp_path / "gone").symlink_to("none")
    assert storage.file_sizes(str(tmp_path)) == {"three": 3}
    assert storage.file_sizes(str(tmp_path / "none")) == {}


def test_each_file_or_why_it_cannot_be_read(tmp_path):
    (tmp_path / "one").write_bytes(b"1")
    one, error = storage.read_each(str(tmp_path), ["one", "none"])
    assert one == b"1"
    assert "none: cannot read: No such file" in str(error)


def test_log_is_there_for_other_readers_at_once(tmp_path):
    log = storage.open_log(str(tmp_path / "log"), b"1")
    log.write(b"2")
    assert (tmp_path / "log").read_bytes() == b"12"
    log.close()
