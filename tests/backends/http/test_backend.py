"""What the shared backend does besides streaming: arguments, plain requests, models, the probe."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import anyio
import pytest

from mellea.backends.http.backend import Outgoing, Probe
from mellea.core.backend import Request
from mellea.core.options import Deadlines
from mellea.errors import (
    AuthError,
    BackendError,
    ConfigurationError,
    ConnectError,
    DeadlineError,
    InterruptedStreamError,
    MelleaError,
    RateLimitError,
    UnsupportedError,
    UsageError,
    WireError,
)
from tests.backends.http.misbehaving import (
    END,
    LAST,
    OK,
    Connection,
    answer,
    chunk,
    misbehaving,
    text,
    unused_port,
)
from tests.backends.http.tiny import TinyBackend, request

KEY = "sk-planted-0123456789abcdef"


def says(value: Any, status: int = 200, **headers: str) -> Any:
    body = json.dumps(value).encode()
    return lambda connection: connection.send(answer(status, body, content_type="application/json", **headers))


# -- arguments ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"base_url": "h/v1"},
        {"base_url": "ftp://h/v1"},
        {"base_url": "http://"},
        {"base_url": "http://h:port"},
        {"base_url": "http://[::1"},
        {"base_url": "http://a b/"},
        {"base_url": None},
        {"retries": -1},
        {"retries": 1.5},
        {"retries": True},
        {"api_key": b"k"},
        {"headers": {"a": 1}},
        {"headers": {"a b": "1"}},
        {"headers": [("a", "b")]},
        {"model_id": ""},
        {"model_id": None},
    ],
    ids=str,
)
def test_bad_arguments(arguments: Mapping[str, Any]) -> None:
    with pytest.raises(UsageError):
        TinyBackend(**{"model_id": "m", "base_url": "http://h/v1", **arguments})


def test_a_bad_address_shows_no_password() -> None:
    with pytest.raises(UsageError) as caught:
        TinyBackend("m", base_url=f"ftp://user:{KEY}@h/v1?key={KEY}")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("where", ["headers", "api_key"])
async def test_a_key_that_no_header_can_hold(where: str, anyio_backend: str) -> None:
    bad = KEY + "\n" + KEY + "é"
    with pytest.raises(ConfigurationError) as caught:
        await _use(TinyBackend("m", base_url="http://h", **{where: bad if where == "api_key" else {"x-api-key": bad}}))
    assert KEY not in str(caught.value)


async def _use(backend: TinyBackend) -> None:
    async for _ in backend.run(request()):
        pass


async def test_what_has_no_form_in_json(anyio_backend: str) -> None:
    backend = TinyBackend("m", base_url="http://h", extra_body={"a": object()})
    with pytest.raises(UsageError, match="extra_body"):
        await _use(backend)


async def test_an_unsupported_option_sends_nothing(anyio_backend: str) -> None:
    with misbehaving(says({})) as server:
        with pytest.raises(UnsupportedError):
            await anext(TinyBackend("m", base_url=server.url).run(request(top_k=1)))
        assert not server.requests


# -- keys -----------------------------------------------------------------------------------------------


async def test_the_key_is_shown_nowhere(anyio_backend: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("asyncio").setLevel(logging.INFO)
    backend = TinyBackend(
        "m", base_url=f"http://u:{KEY}@127.0.0.1:{unused_port()}/v1", api_key=KEY, headers={"x-api-key": KEY}, retries=1
    )
    errors = []
    with misbehaving(says({"error": f"the key {KEY} is wrong"}, 401), lambda c: c.reset()) as server:
        errors.append(await _error(backend))
        backend._address = type(backend._address).parse(server.url)
        errors += [await _error(backend) for _ in range(2)]
        await backend.aclose()
    shown = [caplog.text, repr(backend), repr(vars(backend)), repr(backend._connector)]
    for error in errors:
        shown += _shown(error)
    assert not [text for text in shown if KEY in text]
    assert len(caplog.records) > 0


async def _error(backend: TinyBackend) -> MelleaError:
    with pytest.raises(BackendError) as caught:
        await _use(backend)
    return caught.value


def _shown(error: BaseException | None) -> list[str]:
    """Everything that can be seen of an error, of its copy, and of what it came from."""
    texts: list[str] = []
    while error is not None:
        twins = (
            [error, copy.copy(error), pickle.loads(pickle.dumps(error))] if isinstance(error, MelleaError) else [error]
        )
        texts += [f"{twin} {twin!r} {vars(twin)!r} {twin.args!r}" for twin in twins]
        assert not hasattr(error, "request"), "a client's own error came out, and it holds the request"
        error = error.__cause__ or error.__context__
    return texts


# -- plain requests -------------------------------------------------------------------------------------


async def test_get_and_post(anyio_backend: str) -> None:
    with misbehaving(says([1, "é"])) as server:
        backend = TinyBackend("m", base_url=server.url, api_key=KEY, extra_body={"b": 2})
        assert await backend.get_json("things?x=1") == [1, "é"]
        assert await backend.post_json("things", MappingProxyType({"a": 1}), headers={"x-y": "z"}) == [1, "é"]
        await backend.aclose()
    (get, headers, body), (post, more, sent) = server.requests
    assert (get, body) == ("GET /v1/things?x=1 HTTP/1.1", b"")
    assert "content-type" not in headers
    assert (post, more["x-y"], json.loads(sent)) == ("POST /v1/things HTTP/1.1", "z", {"a": 1})
    assert headers["authorization"] == more["authorization"] == f"Bearer {KEY}"


def cut(connection: Connection) -> None:
    connection.send(answer(200, b'{"a": 1}')[:-3])
    connection.socket.close()


def silent(connection: Connection) -> None:
    connection.wait_for_close()


def dripping(connection: Connection) -> None:
    connection.send(OK)
    while True:
        connection.send(chunk(b" "))
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("behaviour", "kind", "says_", "is_retryable"),
    [
        (says({"error": "no"}, 401), AuthError, "status 401: no", False),
        (says({"error": "slow down"}, 429, retry_after="100"), RateLimitError, "slow down", True),
        (lambda c: c.send(answer(200, b"<html>hello")), WireError, "hello", False),
        (cut, InterruptedStreamError, "broke before", True),
        (silent, DeadlineError, "was silent", True),
        (dripping, DeadlineError, "longer than 0.5 s", True),
    ],
    ids=["401", "429", "HTML", "cut", "silent", "dripping"],
)
async def test_plain_requests_fail_alike(
    behaviour: Any, kind: type[BackendError], says_: str, is_retryable: bool, anyio_backend: str
) -> None:
    with misbehaving(behaviour) as server:
        backend = TinyBackend("m", base_url=server.url)
        with pytest.raises(kind, match=says_) as caught:
            # Short only where it has to pass: a busy machine mustn't be taken for a silent server.
            deadlines = Deadlines(first_byte=0.2, total=0.5) if kind is DeadlineError else Deadlines()
            await backend.post_json("x", {}, deadlines=deadlines)
        assert await anyio.to_thread.run_sync(server.wait_until_idle, 0.3) in (0, 1)
        await backend.aclose()
        assert await anyio.to_thread.run_sync(server.wait_until_idle) == 0
    assert (caught.value.backend, caught.value.model, caught.value.is_retryable) == ("tiny", "m", is_retryable)
    assert len(server.requests) == 1


async def test_plain_requests_are_tried_again(anyio_backend: str) -> None:
    with misbehaving(says({}, 503, retry_after="0.05"), lambda c: c.reset(), says({"a": 1})) as server:
        backend = TinyBackend("m", base_url=server.url)
        assert await backend.get_json("x") == {"a": 1}
        await backend.aclose()
    assert len(server.requests) == 3
    assert server.times[1] - server.times[0] >= 0.05


# -- models ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "model", "expected"),
    [
        (says({"data": [{"id": "m"}, {"id": "n"}]}), "m", Probe(True)),
        (
            says({"data": [{"id": "llama3.2"}, {"id": "n"}]}), "llama3", Probe(
                False, "the server has no model 'llama3'; did you mean 'llama3.2'? it has 'llama3.2', 'n'"
            ),
        ),
        (says({"data": []}), "m", Probe(False, "the server has no model 'm'; it has none at all")),
    ],
    ids=["there", "nearly there", "none"],
)  # fmt: skip
async def test_probe(behaviour: Any, model: str, expected: Probe, anyio_backend: str) -> None:
    with misbehaving(behaviour) as server:
        backend = TinyBackend(model, base_url=server.url)
        assert await backend.probe() == expected
        await backend.aclose()


def answer_briefly(connection: Connection) -> None:
    connection.send(OK, chunk(text("x")), chunk(END), LAST)


async def test_a_server_without_a_list_of_models_is_probed_by_a_short_request(anyio_backend: str) -> None:
    with misbehaving(says({}, 404), answer_briefly) as server:
        backend = TinyBackend("m", base_url=server.url)
        assert await backend.probe() == Probe(True, "the server doesn't list its models, but the model answers")
        await backend.aclose()
    assert len(server.requests) == 2
    # A wrong address has no list either, and nothing else: it is tried once.
    with misbehaving(says({}, 404), says({}, 404)) as server:
        backend = TinyBackend("m", base_url=server.url, retries=5)
        found = await backend.probe()
        assert not found and "base_url" in found.reason
        await backend.aclose()
    with misbehaving(says({}, 404), says({}, 503)) as server:
        backend = TinyBackend("m", base_url=server.url, retries=5)
        assert "503" in (await backend.probe()).reason
        await backend.aclose()
    assert len(server.requests) == 2


async def test_probe_says_why_not(anyio_backend: str) -> None:
    probe = await TinyBackend("m", base_url=f"http://127.0.0.1:{unused_port()}").probe()
    assert not probe
    assert "is the server running?" in probe.reason
    with misbehaving(says({"error": "bad key"}, 401), says({"models": 1})) as server:
        backend = TinyBackend("m", base_url=server.url)
        assert "bad key" in (await backend.probe()).reason
        assert "unknown form" in (await backend.probe()).reason
        await backend.aclose()


async def test_a_refused_connection_is_tried_again(anyio_backend: str) -> None:
    backend = TinyBackend("m", base_url=f"http://127.0.0.1:{unused_port()}", retries=1)
    began = time.monotonic()
    with pytest.raises(ConnectError):
        await backend.list_models()
    assert 0.2 < time.monotonic() - began < 20


# -- hooks of a provider --------------------------------------------------------------------------------


class Refining(TinyBackend):
    models_path: ClassVar[str] = "api/tags"

    def encode(self, request: Request) -> Outgoing:
        return Outgoing("chat?alt=sse", {}, {"X-Api-Key": "mine", "beta": "b"})

    def make_headers(self) -> dict[str, str]:
        return {"X-API-Key": "theirs", "version": "1"}

    def explain_error(self, error: BackendError, body: bytes) -> BackendError:
        return RateLimitError("wait", status=error.status, is_retryable=True, retry_after=0.05)

    def read_models(self, listing: Any) -> list[str]:
        return [str(name) for name in listing]


async def test_hooks(anyio_backend: str) -> None:
    def good(connection: Connection) -> None:
        connection.send(OK, chunk(text("x")), chunk(END), LAST)

    with misbehaving(says({}, 400), good, says(["m"])) as server:
        backend = Refining("m", base_url=server.url + "?v=2")
        await _use(backend)
        assert await backend.list_models() == ["m"]
        await backend.aclose()
    (first, headers, _), _, (tags, _, _) = server.requests
    assert first == "POST /v1/chat?alt=sse&v=2 HTTP/1.1"
    assert (headers["x-api-key"], headers["version"], headers["beta"]) == ("mine", "1", "b")
    assert tags == "GET /v1/api/tags?v=2 HTTP/1.1"
