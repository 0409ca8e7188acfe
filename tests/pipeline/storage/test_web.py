"""Files on a web server, which are only read."""

import functools
import http.server
import os
import threading
from collections.abc import Iterator

import pytest

from pipeline import storage
from pipeline.errors import TransientError, UserError
from pipeline.storage import transfer

LARGE = os.urandom(transfer.SMALL_BYTES + 17)


@pytest.fixture(scope="module")
def web(tmp_path_factory) -> Iterator[str]:
    """A web server on this machine with a small and a large file."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "small").write_bytes(b"content")
    (folder / "large").write_bytes(LARGE)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_HEAD(self):
            if "stream" in self.path:
                self.send_error(405)
            else:
                super().do_HEAD()

        def do_GET(self):
            if "status" in self.path:
                self.send_error(int(self.path[-3:]))
            elif "stream" in self.path:  # its size is not known before its end
                self.send_response(200)
                self.end_headers()
                self.wfile.write(LARGE)
            else:
                super().do_GET()

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        serving.start()
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


def test_signatures_of_links_are_not_told(web):
    link = f"{web}/none?X-Amz-Signature=0123456789abcdef"
    with pytest.raises(UserError) as caught:
        storage.read_bytes(link)
    assert f"{web}/none?…: cannot read" in str(caught.value)
    with pytest.raises(UserError) as caught:
        storage.read_bytes(link.replace("127", "user:password@127"))
    assert "password" not in str(caught.value)


def test_a_page_of_unknown_size(web):
    """Without Content-Length, on a server that answers no question but for the page itself."""
    with storage.open_read(f"{web}/stream") as file:
        assert file.read() == LARGE
        assert file.seek(-3, os.SEEK_END) == len(LARGE) - 3
    assert storage.read_bytes(f"{web}/stream") == LARGE


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_fails_for_now_has_not_lost_the_page(web, status):
    for read in (storage.exists, storage.read_bytes, open_read):
        with pytest.raises(TransientError, match="cannot be reached, or fails for now"):
            read(f"{web}/status/{status}")


def test_a_page_that_is_not_for_everybody(web):
    for read in (storage.exists, storage.read_bytes, open_read):
        with pytest.raises(UserError, match=r"access denied, .*; .* or give a link that"):
            read(f"{web}/status/403")


def test_a_page_that_is_not_there(web):
    for read in (storage.read_bytes, open_read):
        with pytest.raises(UserError, match="/status/404: cannot read: no such file"):
            read(f"{web}/status/404")


def test_a_web_server_that_is_not_there():
    for read in (storage.exists, storage.read_bytes, open_read):
        with pytest.raises(TransientError, match="http storage cannot be reached, or fails"):
            read("http://127.0.0.1:9/file")


def open_read(path: str) -> None:
    with storage.open_read(path):
        pass
