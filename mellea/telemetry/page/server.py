"""Serve the page of a recorded run on this machine, live while it is running.

Rules:

- It listens on the loopback interface only. Every path begins with a random token, so that neither another user of
  the machine nor a page of another site can read what was recorded; `Host` has to be this server's own, so that no
  name of another site can be pointed at it.
- It only reads the record. A page sends what it knows, and gets what is new: the server stores nothing about its
  readers.
- The server is a thread, and each request has its own thread, as in the standard library's `http.server`. A connection
  carries one request, so that nothing is served once the server is closed.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, urlsplit

from mellea.errors import MelleaError, UsageError
from mellea.telemetry.page.render import policy, render_page, to_json
from mellea.telemetry.run_file import read_changes, read_run, read_runs

__all__ = ["PageServer", "serve_page"]

_HOST = "127.0.0.1"

_LAST_PORT = 65_535

_LOOK_SECONDS = 0.1
"""How often the server checks whether it was closed."""

_IDLE_SECONDS = 30
"""After how long a connection without a request is closed."""

_MOST_BYTES = 1_000_000
"""How large a request may be: the ids of a hundred thousand running spans."""

_MOST_RUNS = 200
"""How many runs a page offers to choose from."""


def serve_page(database: str | os.PathLike[str], *, run: int | None = None, port: int = 0) -> PageServer:
    """Serve the page of a recorded run on this machine; the page follows a running one.

    Args:
        database: a record written by `mellea.traces.record`.
        run: the id of the run to show first, as in `read_runs`; by default the newest.
        port: the port to listen on, 0 for any free port.

    Returns:
        the server, which runs until `close()`; open its `url` in a browser.

    Raises:
        UsageError: there is no such record, or no such run in it, or the port is none.
        StateError: the file isn't a record.
        OSError: the port is taken.
    """
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= _LAST_PORT:
        raise UsageError(f"port takes a number from 0, for any free port, to {_LAST_PORT}, not {port!r}")
    return PageServer(os.fspath(database), run, port)


class PageServer:
    """A server for the pages of runs, made by `serve_page`; `close()` or leaving its `with` block ends it.

    Attributes:
        url: the address to open. Anyone with it can read the record.
    """

    def __init__(self, database: str, run: int | None, port: int) -> None:
        if run is None:
            read_runs(database, limit=1)
        else:
            read_run(database, run)
        self._server = _Server(database, port)
        self.url = f"http://{_HOST}:{self._server.server_port}/{self._server.token}/"
        if run is not None:
            self.url += f"?run={run}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_LOOK_SECONDS,), name="mellea page", daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait until another thread closes the server, or for Ctrl-C."""
        self._thread.join()

    def close(self) -> None:
        """Stop the server; a second call does nothing."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PageServer on port {self._server.server_port}>"  # without the token, which opens the record


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a connection may be open without a request

    def __init__(self, database: str, port: int) -> None:
        self.database = database
        self.token = secrets.token_urlsafe(24)
        super().__init__((_HOST, port), _Handler)
        self.hosts = {f"{name}:{self.server_port}" for name in (_HOST, "localhost")}

    def server_close(self) -> None:
        """Close the socket, and reject requests on open connections."""
        self.hosts = set()
        super().server_close()


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "mellea", ""
    timeout = _IDLE_SECONDS
    server: _Server

    _paths: ClassVar[dict[tuple[str, str], str]] = {("GET", ""): "_give_page", ("POST", "changes"): "_give_changes"}

    def do_GET(self) -> None:
        """Answer with the page."""
        self._answer()

    def do_POST(self) -> None:
        """Answer with the news."""
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path)
        token, _, rest = path.path.removeprefix("/").partition("/")
        if self.headers.get("Host") not in self.server.hosts or self._is_foreign():
            return self._refuse(HTTPStatus.FORBIDDEN, "this server answers only to its own address")
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            return self._refuse(HTTPStatus.NOT_FOUND, "open the address that was printed, token included")
        name = self._paths.get((self.command, rest))
        if name is None:
            return self._refuse(HTTPStatus.NOT_FOUND, "there is only the page")
        try:
            (run,) = parse_qs(path.query).get("run", [""])
            getattr(self, name)(_read_id(run) if run else None)
        except (ValueError, RecursionError) as error:  # of JSON, too
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except MelleaError as error:
            self._refuse(HTTPStatus.NOT_FOUND, str(error))
        return None

    def _is_foreign(self) -> bool:
        """Whether the request is from a page of another site."""
        origin = self.headers.get("Origin")
        return origin is not None and urlsplit(origin).netloc not in self.server.hosts

    def _give_page(self, run: int | None) -> None:
        runs = read_runs(self.server.database, limit=_MOST_RUNS)
        shown = runs[0]["id"] if run is None and runs else run
        spans = [] if shown is None else read_run(self.server.database, shown)
        choice = [
            {"id": each["id"], "name": each["name"], "started": each["started"], "is_shown": each["id"] == shown}
            for each in runs
        ]
        self._send(
            HTTPStatus.OK, "text/html", render_page(spans, title=_find_title(spans), live="changes", runs=choice)
        )

    def _give_changes(self, run: int | None) -> None:
        after, running = self._read_known()
        if run is None:  # the page has seen no run yet
            runs = read_runs(self.server.database, limit=1)
            run = runs[0]["id"] if runs else 0
        spans = read_changes(self.server.database, run, after=after, running=running)
        self._send(HTTPStatus.OK, "application/json", to_json({"now": time.time(), "spans": spans}))

    def _read_known(self) -> tuple[int, dict[int, int]]:
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 < length <= _MOST_BYTES:
            raise UsageError(f"the body of this request takes 1 to {_MOST_BYTES} bytes, not {length}")
        known = json.loads(self.rfile.read(length))
        if not isinstance(known, dict) or not isinstance(running := known.get("running", {}), dict):
            raise UsageError("the body of this request is an object with the highest id, and lengths of texts by ids")
        return _read_id(known.get("last", 0)), {_read_id(id): _read_id(length) for id, length in running.items()}

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send(status, "text/plain", why + "\n")

    def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode("utf-8", "replace")
        self.send_response(status)
        headers = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Content-Security-Policy": f"{policy(is_live=True)}; frame-ancestors 'none'",
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the address contains the token."""


def _read_id(text: str | int) -> int:
    number = int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 19 else text
    if type(number) is not int or not 0 <= number < 2**63:
        raise ValueError(f"{text!r} is not the number of a run or a span")
    return number


def _find_title(spans: list[dict[str, Any]]) -> str | None:
    return str(spans[0]["name"]) if spans else "Nothing recorded yet"
