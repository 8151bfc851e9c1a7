"""Base URLs: what is wrong with them is said where they are given, and their secrets are shown nowhere."""

from __future__ import annotations

import pytest

from mellea.backends.http.address import Address
from mellea.backends.openai import OpenAIBackend
from mellea.errors import MelleaError, UsageError
from tests.backends.http.misbehaving import Connection, answer, misbehaving
from tests.backends.http.tiny import TinyBackend, request


@pytest.mark.parametrize("url", ["http://[::1", "http://[::1/v1", b"http://x", "", "host/v1", "ftp://h", "http://h:x",
                                 "http://", "http://a b/v1", "https:///v1", None])  # fmt: skip
def test_a_bad_one_is_refused(url: object) -> None:
    with pytest.raises(UsageError, match="base_url"):
        TinyBackend("m", base_url=url)  # type: ignore[arg-type]
    if url:
        with pytest.raises(UsageError, match="base_url"):
            OpenAIBackend("m", base_url=url)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("localhost:8123/v1", "localhost:8123/v1"),
        (" host/v1 ", "host/v1"),
        ("HTTPS//Host/v1", "HTTPS//Host/v1"),
        ("ftp://me:S3CRET@h:1/v1?key=S3CRET", "ftp://h:1/v1"),
        ("me:S3CRET@host:1/v1#S3CRET", "host:1/v1"),
        ("http://", "http://"),
        ("sk-proj-S3CRETS3CRETS3CRET", "***"),
    ],
)
def test_a_bad_one_is_shown_as_it_was_given_without_its_secrets(url: str, shown: str) -> None:
    with pytest.raises(UsageError, match="base_url") as caught:
        TinyBackend("m", base_url=url)
    assert f"base_url {shown!r} is not" in str(caught.value) and "S3CRET" not in str(caught.value)


@pytest.mark.parametrize("end", ["/v1/chat/completions", "/v1/chat/completions/", "/v1/responses", "/v1/messages"])
def test_an_endpoint_is_no_base(end: str) -> None:
    with pytest.raises(UsageError, match="leave out"):
        TinyBackend("m", base_url=f"https://host{end}?a=b")


def test_fragment_slashes_and_query() -> None:
    address = Address.parse(" https://u:p@Host:1/v1//?a=1#top ")
    assert (address.base, address.origin) == ("https://Host:1/v1", "https://Host:1")
    assert address.join("chat?b=2") == "https://Host:1/v1/chat?b=2&a=1"


@pytest.mark.parametrize("path", ["../x", "models/../../x", "models/%2e%2e/x", "a\\..\\b", "./x", "a\r\nb", "a#b"])
def test_no_path_leaves_its_place(path: str) -> None:
    with pytest.raises(UsageError, match="model_id"):
        Address.parse("https://h/v1").join(path)


NAMES = ("key", "api_key", "api-key", "apikey", "access_token", "token", "subscription-key", "sig", "code", "auth", "x")


@pytest.mark.anyio
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("written", "shown"), [("S3CRET-VALUE", "S3CRET-VALUE"), ("S3%2BCRET%3D", "S3+CRET=")])
async def test_a_key_in_the_query_is_shown_in_no_error(name: str, written: str, shown: str, anyio_backend: str) -> None:
    def page(connection: Connection) -> None:
        first = connection.server.requests[-1][0]
        connection.send(answer(404, f"{first} was not found, nor {shown}".encode(), content_type="text/plain"))

    with misbehaving(page) as server:
        backend = TinyBackend("m", base_url=f"{server.url}?{name}={written}&api-version=2024-10", retries=0)
        with pytest.raises(MelleaError) as caught:
            [event async for event in backend.run(request())]
        await backend.aclose()
    assert written not in str(caught.value) and shown not in str(caught.value)
    assert "api-version=2024-10" in str(caught.value)
    assert written not in repr(vars(backend))
