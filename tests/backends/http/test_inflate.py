"""Compressed answers: every form that servers send, cut anywhere, and never much at once."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator

import pytest

from mellea.backends.http.inflate import PIECE_BYTES, Inflated, list_codings
from mellea.errors import WireError
from tests.backends.http.misbehaving import Connection, answer, misbehaving
from tests.backends.http.tiny import TinyBackend, request

pytestmark = pytest.mark.anyio

BODY = b'data: {"text": "' + bytes(range(32, 34)) * 40 + b"z" * 300 + b'"}\n\n'


def bare(data: bytes) -> bytes:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return squeeze.compress(data) + squeeze.flush()


FORMS = {
    "gzip": (gzip.compress(BODY), "gzip"),
    "an old name": (gzip.compress(BODY), "x-gzip"),
    "several members": (b"".join(gzip.compress(BODY[n : n + 40]) for n in range(0, len(BODY), 40)), "gzip"),
    "deflate": (zlib.compress(BODY), "deflate"),
    "bare deflate": (bare(BODY), "deflate"),
    "deflate called gzip": (zlib.compress(BODY), "gzip"),
    "gzip called deflate": (gzip.compress(BODY), "deflate"),
    "padding": (gzip.compress(BODY) + b"\0" * 9, "gzip"),
    "rubbish behind it": (gzip.compress(BODY) + b"rubbish", "gzip"),
    "text called gzip": (BODY, "gzip"),
    "text called deflate": (BODY, "deflate"),
    "text called br": (BODY, "br"),
    "text called zstd": (BODY, "zstd"),
}


class Reads(AsyncIterator[bytes]):
    def __init__(self, data: bytes, size: int) -> None:
        self.parts = [data[place : place + size] for place in range(0, len(data), size)]

    async def __anext__(self) -> bytes:
        if not self.parts:
            raise StopAsyncIteration
        return self.parts.pop(0)


async def read(data: bytes, coding: str, size: int = 1 << 20) -> tuple[bytes, bool, int]:
    inflated = Inflated(Reads(data, size), coding)
    pieces = [piece async for piece in inflated]
    return b"".join(pieces), inflated.is_whole, max(map(len, pieces), default=0)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1 << 20])
@pytest.mark.parametrize("form", FORMS)
async def test_every_form_is_read(form: str, size: int, anyio_backend: str) -> None:
    data, coding = FORMS[form]
    assert (await read(data, coding, size))[:2] == (BODY, True)


@pytest.mark.parametrize("coding", ["br", "zstd", "compress"])
async def test_a_coding_that_cant_be_read_is_named(coding: str, anyio_backend: str) -> None:
    with pytest.raises(WireError, match=repr(coding)):
        await read(b"\x28\xb5\x2f\xfd" + b"\x04" * 40, coding)


async def test_what_was_cut_is_not_whole(anyio_backend: str) -> None:
    plain, is_whole, _ = await read(gzip.compress(BODY)[:-12], "gzip")
    assert BODY.startswith(plain) and not is_whole


async def test_broken_data_are_a_wire_error(anyio_backend: str) -> None:
    data = bytearray(gzip.compress(BODY))
    data[12:20] = b"\xff" * 8
    with pytest.raises(WireError, match="decompressed"):
        await read(bytes(data), "gzip")


async def test_a_bomb_comes_in_pieces(anyio_backend: str) -> None:
    plain, _, largest = await read(gzip.compress(b"x" * 5_000_000), "gzip")
    assert len(plain) == 5_000_000 and largest <= PIECE_BYTES


async def test_an_answer_has_a_limit_of_its_own(anyio_backend: str) -> None:
    body = gzip.compress(b'data: {"text": "ab"}\n\n' * 10_000)

    def bomb(connection: Connection) -> None:
        connection.send(answer(200, body, content_type="text/event-stream", content_encoding="gzip"))

    with misbehaving(bomb) as server:
        backend = TinyBackend("m", base_url=server.url, max_answer_bytes=100_000)
        with pytest.raises(WireError, match=r"larger than 100000 bytes.*max_answer_bytes"):
            [event async for event in backend.run(request())]
        await backend.aclose()


def test_the_names_of_codings() -> None:
    assert list_codings("gzip") == ["gzip"]
    assert list_codings(" Deflate , GZIP ") == ["gzip", "deflate"]
    assert list_codings("identity, none, utf-8,") == []
