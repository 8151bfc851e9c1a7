"""A download that resumes where it stopped: after a broken connection, Ctrl-C, or a kill.

Rules:

- The bytes that have arrived are in `FILE.part`; `FILE.part.json` identifies the whole file: its hash, and the
  validator (`ETag` or `Last-Modified`) from the server.
- To resume, the rest is requested with that validator (`Range` and `If-Range`, RFC 9110, sections 13.1.5 and 14.2). If
  the server sends the whole file instead, because the file has changed or it doesn't support ranges, the download
  starts over.
- A file of the wrong size or with the wrong hash is deleted. Nothing is written beyond the size that is expected.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from mellea.cli.installer import Wheel
from mellea.errors import ConfigurationError

__all__ = ["Report", "UnavailableError", "download"]

_SECONDS = 30.0
"""How long a server may be silent."""

_TRIES = 5
"""How many attempts in a row may fail without a single byte."""

_PAUSE_SECONDS = 0.5
"""The pause before the second attempt; it doubles before each further one."""

_BYTES = 1 << 17
"""How much is read at once."""

_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(?:\d{1,18}|\*)")

Report = Callable[[int, int | None], None]
"""Called with the number of bytes so far, and the total."""


class UnavailableError(ConfigurationError):
    """The server can't be reached, or refuses the file; the installer may still get it."""


class _CutError(Exception):
    """An answer ended too early, or the server is busy: the same request may get further."""


def download(wheel: Wheel, part: Path, limit: int, report: Report) -> Path:
    """Fetch a file, or the rest of it, and return its path: `part`, now complete.

    Args:
        wheel: its address, size and hash.
        part: where the file is written; kept if this fails.
        limit: the maximum size in bytes if its size isn't known.
        report: called with the progress.

    Raises:
        UnavailableError: the server can't be reached, or refuses.
        ConfigurationError: it broke off several times in a row, or it isn't the right file, which is then deleted.
        OSError: it can't be written; the disk may be full.
    """
    _Download(wheel, part, limit, report).run()
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise _discard(part, f"the file that {_host(wheel)} sent has the SHA-256 {found}, not {wheel.sha256}")
    _note_path(part).unlink(missing_ok=True)
    return part


class _Download:
    def __init__(self, wheel: Wheel, part: Path, limit: int, report: Report) -> None:
        self._wheel = wheel
        self._part = part
        self._limit = limit if wheel.size is None else wheel.size
        self._report = report
        self._host = _host(wheel)

    def run(self) -> None:
        """Request the missing part until nothing is missing."""
        tries = 0
        while True:
            had = _size(self._part)
            try:
                self._fetch_rest()
                return
            except _CutError as error:
                # As long as there is progress, the download may resume as often as it takes.
                has = _size(self._part)
                tries = 1 if has > had else tries + 1
                if not has:
                    raise UnavailableError(f"nothing could be downloaded from {self._host}: {error}") from error
                if tries == _TRIES:
                    raise ConfigurationError(
                        f"the download from {self._host} broke off {_TRIES} times in a row ({error}); {has:,} bytes "
                        "are kept, and the same command continues from there"
                    ) from error
                time.sleep(_PAUSE_SECONDS * 2 ** (tries - 1))

    def _fetch_rest(self) -> None:
        """Ask once."""
        validator = _read_validator(self._part, self._wheel.sha256)
        begun = _size(self._part) if validator is not None else 0
        if begun and begun == self._wheel.size:
            return
        headers = {"Accept-Encoding": "identity"}
        if begun:
            headers["Range"] = f"bytes={begun}-"
            headers |= {"If-Range": validator} if validator else {}
        with closing(self._open(headers)) as response:
            if not (is_other := response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and begun > 0):
                self._check_status(response)
                self._write(response, self._find_start(response, begun))
        if is_other:
            # The server's file is shorter than the part that we have, so it is a different file.
            self._part.unlink()
            self._fetch_rest()

    def _open(self, headers: dict[str, str]) -> HTTPResponse | HTTPError:
        try:
            answer: HTTPResponse = urlopen(Request(self._wheel.url, headers=headers), timeout=_SECONDS)
        except HTTPError as error:
            return error  # this is also an answer
        except (OSError, HTTPException) as error:
            why = error.reason if isinstance(error, URLError) else error
            raise _CutError(str(why) or type(why).__name__) from error
        return answer

    def _check_status(self, response: HTTPResponse | HTTPError) -> None:
        status, said = int(response.status or 0), f"{response.status} {response.reason}"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
            raise _CutError(f"it answered {said}")
        if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            raise UnavailableError(f"{self._host} answered {said}")

    def _find_start(self, response: HTTPResponse | HTTPError, begun: int) -> int:
        """Return the position in the file at which a response begins."""
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            return 0
        said = response.headers.get("Content-Range", "")
        found = _RANGE.fullmatch(said)
        # The rest of the file would be in the wrong place.
        if found is None or int(found[1]) != begun:
            raise UnavailableError(f"{self._host} was asked for the bytes from {begun} on, but sent {said!r}")
        return begun

    def _write(self, response: HTTPResponse | HTTPError, start: int) -> None:
        length = response.headers.get("Content-Length", "")
        total = self._wheel.size or (start + int(length) if length.isdigit() else None)
        # Before the first byte, so that a file left behind by a kill can be identified.
        _write_validator(self._part, self._wheel.sha256, response.headers)
        done = start
        # Unbuffered: everything that arrived before a kill is in the file.
        with self._part.open("ab" if start else "wb", buffering=0) as file:
            self._report(done, total)
            for chunk in _read(response):
                done += len(chunk)
                if done > self._limit:
                    break
                _write_all(file, chunk)
                self._report(done, total)
        if done > self._limit:
            raise _discard(self._part, f"{self._host} sent more than the {self._limit:,} bytes that the file can have")
        if total is not None and done < total:
            raise _CutError(f"{done:,} of {total:,} bytes came")


def _read(response: HTTPResponse | HTTPError) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read1(_BYTES)
        # Kept apart from errors while writing the file, which are also `OSError`s.
        except (OSError, HTTPException) as error:
            raise _CutError(str(error) or type(error).__name__) from error
        if not chunk:
            return
        yield chunk


def _write_all(file: io.FileIO, chunk: bytes) -> None:
    # An unbuffered file may write less than requested, for example when the disk fills up.
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def _read_validator(part: Path, sha256: str) -> str | None:
    """Return the validator of the partial file, `""` if the server gave none, `None` if it can't be resumed."""
    try:
        known = json.loads(_note_path(part).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    is_same = isinstance(known, dict) and known.get("sha256") == sha256 and isinstance(known.get("validator"), str)
    return str(known["validator"]) if is_same else None


def _write_validator(part: Path, sha256: str, headers: Message) -> None:
    etag = headers.get("ETag", "")
    # A weak tag says that two files are equivalent, not that their bytes are the same.
    validator = headers.get("Last-Modified", "") if not etag or etag.startswith("W/") else etag
    _note_path(part).write_text(json.dumps({"sha256": sha256, "validator": validator}), "utf-8")


def _note_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _discard(part: Path, why: str) -> ConfigurationError:
    part.unlink(missing_ok=True)
    _note_path(part).unlink(missing_ok=True)
    return ConfigurationError(f"{why}; it was deleted, and the same command downloads it from the start")


def _host(wheel: Wheel) -> str:
    # The full address may contain a password or a signature.
    return urlsplit(wheel.url).hostname or "the index"
