"""Single HTTP requests over a client: ours, or the caller's own.

Rules:

- A caller's own client may come from httpx, from httpx2, or be anything of the same shape. It is never closed here, and
  belongs to the event loop that uses it first.
- A redirect is followed to the same scheme, host and port alone, with the method and the body as they are.
- Nothing that a client raises leaves this file: it holds the request, and the request holds the key.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urljoin, urlsplit

from mellea.backends.http.address import Address
from mellea.backends.http.clients import Held, errors_of, held, hold, libraries
from mellea.backends.http.failure import failure_of
from mellea.backends.http.response import Response
from mellea.backends.http.secret import Headers
from mellea.core.runtime.loop import current_loop
from mellea.errors import MelleaError, UsageError

__all__ = ["Call", "Connector", "FormFile", "form_body"]

_MAX_REDIRECTS = 3
_KEEPING = (307, 308)
"""Redirects that leave the method and the body as they are."""

_REDIRECTS = (301, 302, 303, *_KEEPING)


@dataclass(slots=True)
class Call:
    """One HTTP request.

    Args:
        method: `"GET"` or `"POST"`.
        url: the whole address.
        origin: the address as errors show it, without anything secret.
        headers: all of them, the key included.
        body: the JSON body.
        connect: seconds until the connection has to stand.
        read: seconds between two reads; a run watches its own deadlines and needs none.
    """

    method: str
    url: str
    origin: str
    headers: Headers
    body: bytes | None = field(default=None, repr=False)
    connect: float | None = None
    read: float | None = None


FormFile = tuple[str, str, bytes, str]
"""A file in a form: the field's name, the file's, its bytes, its media type."""


def form_body(fields: Mapping[str, str], files: Sequence[FormFile]) -> tuple[bytes, str]:
    """Return a form's body and its content type, which names the boundary; blocks for as long as an import takes."""
    httpx = libraries()[0]
    parts = [(field, (name, data, media_type)) for field, name, data, media_type in files]
    request = httpx.Request("POST", "http://form", data=dict(fields), files=parts)
    return request.read(), request.headers["content-type"]


class Connector:
    """A backend's way to its server, on any event loop.

    Args:
        client: the caller's own, or `None`.
        address: where the server is.

    Raises:
        UsageError: the client has another shape than `httpx.AsyncClient`.
    """

    def __init__(self, client: Any, address: Address) -> None:
        if client is not None:
            _check_shape(client)
        self._foreign = None if client is None else Held(client, errors=errors_of(type(client)))
        self._address = address

    @property
    def has_own_client(self) -> bool:
        """Whether the caller's client is used."""
        return self._foreign is not None

    async def send(self, call: Call) -> Response:
        """Send the request and return the response once its head is there; it must be closed.

        Raises:
            ConnectError: no connection, or one that broke before the response began.
            DeadlineError: the connection took too long.
            WireError: what listens there doesn't speak HTTP.
            UsageError: the request can't be sent at all, or the caller's client belongs to another event loop.
            ConfigurationError: the proxy that the environment names can't be used.
        """
        one = self._foreign or held(self._address.origin) or await hold(self._address)
        is_ours = self._foreign is None
        if is_ours:
            one.users.add(self)
        elif one.loop is None:
            one.loop = current_loop()
        failure: BaseException
        one.active += 1
        try:
            return Response(await _send(one, call, is_ours=is_ours), one.errors, one.release, is_stock=is_ours)
        except BaseException as error:
            one.release()
            failure = self._failure(error, one, call)
            if failure is error:
                raise
        try:
            raise failure  # outside the handler, which would make the client's error its context
        finally:
            del failure  # it holds this frame by its traceback

    def _failure(self, error: BaseException, one: Held, call: Call) -> BaseException:
        """Return what to raise in place of what a client raised."""
        is_known = isinstance(error, one.errors)
        is_elsewhere = self._foreign is not None and one.loop is not None and not one.loop.is_current()
        if is_elsewhere and (is_known or isinstance(error, Exception)) and not isinstance(error, MelleaError):
            return UsageError(
                f"the client that was given to the backend as client= belongs to another event loop ({error}); leave "
                "out client=, or make a client and a backend for each loop"
            )
        return failure_of(error, call.origin, call.connect, one.proxy) if is_known else error

    async def aclose(self) -> None:
        """Close the running loop's client, unless another backend uses it; the caller's own stays open."""
        one = held(self._address.origin)
        if one is None or self._foreign is not None:
            return
        one.users.discard(self)
        if not one.users and not one.active and one.lifetime is not None:
            await one.lifetime.aclose()

    def secrets(self) -> set[str]:
        """Return the keys in the address, and those that the caller's own client, or a proxy, is given."""
        headers = getattr(self._foreign and self._foreign.client, "headers", None)
        found = self._address.secrets() | (Headers(headers.items()).secrets() if headers else set())
        one = None if self._foreign is not None else held(self._address.origin)
        return found if one is None or one.proxy is None else found | one.proxy.secrets()


async def _send(one: Held, call: Call, *, is_ours: bool) -> Any:
    request = _request(call, call.url) if is_ours else _foreign_request(one.client, call, call.url)
    for _ in range(_MAX_REDIRECTS):
        response = await one.client.send(request, stream=True, follow_redirects=False)
        further = _further(response, call.method, str(request.url)) if response.status_code in _REDIRECTS else None
        if further is None:
            return response
        await response.aclose()
        request = _request(call, further) if is_ours else _foreign_request(one.client, call, further)
    return await one.client.send(request, stream=True, follow_redirects=False)


def _further(response: Any, method: str, url: str) -> str | None:
    """Return the address that a redirect leads to, if it may be followed: the same server gets the same request."""
    location = response.headers.get("location", "").strip()
    if not location or (method != "GET" and response.status_code not in _KEEPING):
        return None
    try:
        target = urljoin(url, location).partition("#")[0]
        return target if target.isprintable() and " " not in target and _place(target) == _place(url) else None
    except ValueError:
        return None


def _place(url: str) -> tuple[str, str | None, int | None, str | None]:
    parts = urlsplit(url)
    port = parts.port if parts.port is not None else {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port, parts.username


def _request(call: Call, url: str) -> Any:
    """Make the request without `build_request`, which merges what our clients don't have."""
    httpx = libraries()[0]
    timeout = {"connect": call.connect, "read": call.read, "write": None, "pool": None}
    try:
        target = _url(url)
    except httpx.InvalidURL as error:
        raise UsageError(f"{call.origin} is not a valid address: {error}; check base_url") from None
    made = httpx.Request(call.method, target, headers=call.headers, content=call.body, extensions={"timeout": timeout})
    return _in_one_piece(made, call.body)


@lru_cache(maxsize=256)
def _url(url: str) -> Any:
    httpx = libraries()[0]
    return httpx.URL(url)


def _foreign_request(client: Any, call: Call, url: str) -> Any:
    if getattr(client, "is_closed", False):
        raise UsageError("the client that was given to the backend has been closed; keep it open, or leave out client=")
    timeout = (call.connect, call.read, None, None)
    made = client.build_request(call.method, url, headers=call.headers, content=call.body, timeout=timeout)
    return _in_one_piece(made, call.body)


def _in_one_piece(request: Any, body: bytes | None) -> Any:
    """Have the body sent by an iterator that nobody has to close.

    httpx's own is an async generator. A request that is cancelled while it sends leaves that unfinished, and trio
    warns of it.
    """
    stream: Any = getattr(request, "stream", None)
    if body and hasattr(stream, "__aiter__"):
        kind: Any = type(stream)
        request.stream = _whole_body(kind)(body)
    return request


@lru_cache(maxsize=8)
def _whole_body(base: Any) -> type:
    class WholeBody(base):  # type: ignore[misc]
        def __init__(self, body: bytes) -> None:
            super().__init__(body)
            self._body = body

        def __aiter__(self) -> AsyncIterator[bytes]:
            return _Once(self._body)

    return WholeBody


class _Once(AsyncIterator[bytes]):
    def __init__(self, body: bytes) -> None:
        self._left = [body]

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


def _check_shape(client: Any) -> None:
    if not inspect.iscoroutinefunction(getattr(client, "send", None)) or not hasattr(client, "build_request"):
        raise UsageError(f"client takes an httpx.AsyncClient, or one of its shape, not {type(client).__name__}")
