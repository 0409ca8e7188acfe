"""A server of Google's JSON API, as far as the job uses it, that fails when it is told to.

It does what the emulator of the other tests does not: preconditions, statuses, broken connections,
bits that are flipped on the way.
"""

import base64
import collections
import contextlib
import email.parser
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import google_crc32c

API, UPLOAD = "/storage/v1/b/", "/upload/storage/v1/b/"


class Fault(NamedTuple):
    """What becomes of a request.

    Attributes:
      status: answered at once; 0: the request is carried out.
      headers: of that answer.
      text: of that answer.
      cut: the connection breaks halfway: of what is received where something is sent here, of what
        is sent else.
      mute: the request is carried out, but the connection breaks before the answer.
      flip: a bit of the content changes on the way.
      short: half of a part of an upload is taken.
    """

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    text: str = ""
    cut: bool = False
    mute: bool = False
    flip: bool = False
    short: bool = False


class Object(NamedTuple):
    data: bytes
    generation: int


class Double:
    """Objects in memory, and the faults to come for each kind of request.

    Kinds: list, find, download, upload (in one request), begin (a resumable one), part, remove.
    """

    def __init__(self, url: str):
        self.url = url
        self.objects: dict[str, dict[str, Object]] = {"bucket": {}}
        self.faults: dict[str, list[Fault]] = collections.defaultdict(list)
        self.requests: list[str] = []
        self.uploads: dict[str, dict] = {}
        self.lock = threading.Lock()
        self.generation = 0

    def put(self, bucket: str, name: str, data: bytes, query: dict, meta: dict) -> tuple[int, dict]:
        """Status and answer to an upload that is complete."""
        with self.lock:
            if query.get("ifGenerationMatch") == "0" and name in self.objects[bucket]:
                return 412, {}
            if meta.get("crc32c", checksum(data)) != checksum(data):
                return 400, {"error": {"message": "Provided CRC32C doesn't match"}}
            self.generation += 1
            self.objects[bucket][name] = Object(data, self.generation)
            return 200, self.resource(bucket, name)

    def resource(self, bucket: str, name: str) -> dict:
        data, generation = self.objects[bucket][name]
        place = f"{API}{bucket}/o/{urllib.parse.quote(name, safe='')}"
        return {
            "name": name,
            "bucket": bucket,
            "size": str(len(data)),
            "generation": str(generation),
            "crc32c": checksum(data),
            "mediaLink": f"{self.url}/download{place}?generation={generation}&alt=media",
        }


def checksum(data: bytes) -> str:
    return base64.b64encode(google_crc32c.Checksum(data).digest()).decode()


def flipped(data: bytes) -> bytes:
    """`data` with another bit in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 8]) + data[middle + 1 :]


@contextlib.contextmanager
def running() -> Iterator[Double]:
    """A double on a free port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    double = Double(f"http://127.0.0.1:{server.server_port}")
    server.double = double  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is sent at once, not in pieces that wait for each other
    disable_nagle_algorithm = True

    def log_message(self, *_) -> None: ...

    def do_GET(self) -> None:
        path, query = self._parsed()
        found = re.fullmatch(rf"(?:/download)?{API}([^/]+)/o(?:/([^/]+))?", path)
        if found is None:  # Google's library looks, on its own, where a bucket is
            self._send(403, b"", {})
            return
        bucket, name = found[1], urllib.parse.unquote(found[2] or "")
        kind = "list" if not name else "download" if query.get("alt") == "media" else "find"
        if (fault := self._begin(kind)) is None:
            return
        there = self._double.objects.get(bucket)
        if there is None or (name and name not in there):
            self._answer(404, {"error": {"message": "Not Found"}}, fault)
        elif kind == "list":
            self._answer(200, self._listing(bucket, query), fault)
        elif kind == "find":
            self._answer(200, self._double.resource(bucket, name), fault)
        else:
            self._send_content(there[name], fault)

    def do_POST(self) -> None:
        path, query = self._parsed()
        bucket = re.fullmatch(rf"{UPLOAD}([^/]+)/o", path)[1]
        resumable = query["uploadType"] == "resumable"
        if (fault := self._begin("begin" if resumable else "upload")) is None:
            return
        body = self._receive(fault)
        if body is None:
            return
        if bucket not in self._double.objects:
            self._answer(404, {}, fault)
        elif resumable:
            number = str(len(self._double.uploads))
            meta = json.loads(body)
            self._double.uploads[number] = {"meta": meta, "query": query, "data": b""}
            place = f"{self._double.url}{UPLOAD}{bucket}/o?upload_id={number}"
            self._answer(200, {}, fault, Location=place)
        else:
            kind = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            meta, content = email.parser.BytesParser().parsebytes(kind + body).get_payload()
            fields = json.loads(meta.get_payload(decode=True))
            data = content.get_payload(decode=True)
            data = flipped(data) if fault.flip else data
            answer = self._double.put(bucket, fields["name"], data, query, fields)
            self._answer(*answer, fault)

    def do_PUT(self) -> None:
        path, query = self._parsed()
        bucket = re.fullmatch(rf"{UPLOAD}([^/]+)/o", path)[1]
        if (fault := self._begin("part")) is None:
            return
        body = self._receive(fault)
        if body is None:
            return
        upload = self._double.uploads[query["upload_id"]]
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", self.headers["Content-Range"])
        start, total = int(span[1]), int(span[2])
        body = flipped(body) if fault.flip else body[: len(body) // 2] if fault.short else body
        upload["data"] = upload["data"][:start] + body
        if len(data := upload["data"]) == total:
            meta = upload["meta"]
            answer = self._double.put(bucket, meta["name"], data, upload["query"], meta)
            self._answer(*answer, fault)
        else:
            self._answer(308, {}, fault, Range=f"bytes=0-{len(data) - 1}")

    def do_DELETE(self) -> None:
        path, _ = self._parsed()
        found = re.fullmatch(rf"{API}([^/]+)/o/([^/]+)", path)
        if (fault := self._begin("remove")) is None:
            return
        there = self._double.objects.get(found[1], {})
        gone = there.pop(urllib.parse.unquote(found[2]), None)
        self._answer(404 if gone is None else 204, {}, fault)

    @property
    def _double(self) -> Double:
        return self.server.double  # type: ignore[attr-defined]

    def _parsed(self) -> tuple[str, dict[str, str]]:
        parts = urllib.parse.urlsplit(self.path)
        return parts.path, dict(urllib.parse.parse_qsl(parts.query))

    def _begin(self, kind: str) -> Fault | None:
        """The fault of this request; None where it has been answered."""
        with self._double.lock:
            self._double.requests.append(kind)
            coming = self._double.faults[kind]
            fault = coming.pop(0) if coming else Fault()
        if not fault.status:
            return fault
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._send(fault.status, fault.text.encode(), dict(fault.headers))
        return None

    def _receive(self, fault: Fault) -> bytes | None:
        """What is sent here; None where the connection broke."""
        length = int(self.headers["Content-Length"])
        if fault.cut:
            self.rfile.read(length // 2)
            self._break()
            return None
        return self.rfile.read(length)

    def _answer(self, status: int, fields: dict, fault: Fault, **headers: str) -> None:
        if fault.mute:
            self._break()
        else:
            self._send(status, b"" if status == 204 else json.dumps(fields).encode(), headers)

    def _send_content(self, found: Object, fault: Fault) -> None:
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        data = found.data[int(span[1]) :] if span else found.data
        headers = {
            "X-Goog-Hash": f"crc32c={checksum(found.data)}",
            "X-Goog-Generation": str(found.generation),
        }
        sent = flipped(data) if fault.flip else data[: len(data) // 2] if fault.cut else data
        self._send(206 if span else 200, sent, headers, len(data))
        if fault.cut:
            self._break()

    def _send(self, status: int, body: bytes, headers: dict, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def _listing(self, bucket: str, query: dict[str, str]) -> dict:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        items, prefixes = [], set()
        for name in sorted(self._double.objects[bucket]):
            if not name.startswith(prefix):
                continue
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                prefixes.add(prefix + rest.split(delimiter)[0] + delimiter)
            else:
                items.append(self._double.resource(bucket, name))
        return {"items": items, "prefixes": sorted(prefixes)}

    def _break(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)
