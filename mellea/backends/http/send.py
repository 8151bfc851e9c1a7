"""Single HTTP requests over a client: ours, or the caller's own.

Rules:

- A caller's own client may come from httpx, from httpx2, or be anything of the same shape. It is never closed here, and
  belongs to the event loop that uses it first.
- A redirect is followed to the same scheme, host and port alone, with the method and the body as they are.
- Nothing that a client raises leaves this file: it holds the request, and the request holds the key.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin, urlsplit

from mellea.backends.http.address import Address
from mellea.backends.http.clients import SharedClient, find_client, find_clients, open_client
from mellea.backends.http.failure import failure_of
from mellea.backends.http.httpx_clients import CallersClient
from mellea.backends.http.outgoing import HttpRequest
from mellea.backends.http.response import Response
from mellea.backends.http.secret import Headers
from mellea.core.runtime.loop import current_loop
from mellea.errors import MelleaError, UsageError

__all__ = ["Connector"]

_MAX_REDIRECTS = 3
_KEEPING = (307, 308)
"""Redirects that leave the method and the body as they are."""

_REDIRECTS = (301, 302, 303, *_KEEPING)


class Connector:
    """A backend's way to its server, on any event loop.

    Args:
        client: the caller's own, or `None`.
        address: where the server is.

    Raises:
        UsageError: the client has another shape than `httpx.AsyncClient`.
    """

    def __init__(self, client: Any, address: Address) -> None:
        self._own = None if client is None else CallersClient(client)
        self._foreign = None if self._own is None else SharedClient(self._own)
        self._address = address

    @property
    def has_own_client(self) -> bool:
        """Whether the caller's client is used."""
        return self._foreign is not None

    async def send(self, request: HttpRequest) -> Response:
        """Send the request and return the response once its head is there; it must be closed.

        Raises:
            ConnectError: no connection, or one that broke before the response began.
            DeadlineError: the connection took too long.
            WireError: what listens there doesn't speak HTTP.
            UsageError: the request can't be sent at all, or the caller's client belongs to another event loop.
            ConfigurationError: the proxy that the environment names can't be used.
        """
        one = self._foreign or find_client(self._address.origin) or await open_client(self._address)
        is_ours = self._foreign is None
        if is_ours:
            one.users.add(self)
        elif one.loop is None:
            one.loop = current_loop()
        failure: BaseException
        one.active += 1
        try:
            return Response(await _send(one, request), one.client.errors, one.release, is_ours=is_ours)
        except BaseException as error:
            one.release()
            failure = self._failure(error, one, request)
            if failure is error:
                raise
        try:
            raise failure  # outside the handler, which would make the client's error its context
        finally:
            del failure  # it holds this frame by its traceback

    def _failure(self, error: BaseException, one: SharedClient, request: HttpRequest) -> BaseException:
        """Return what to raise in place of what a client raised."""
        is_known = isinstance(error, one.client.errors)
        is_elsewhere = self._foreign is not None and one.loop is not None and not one.loop.is_current()
        if is_elsewhere and (is_known or isinstance(error, Exception)) and not isinstance(error, MelleaError):
            return UsageError(
                f"the client that was given to the backend as client= belongs to another event loop ({error}); leave "
                "out client=, or make a client and a backend for each loop"
            )
        return failure_of(error, request.origin, request.connect, one.proxy) if is_known else error

    async def aclose(self) -> None:
        """Close the running loop's client, unless another backend uses it; the caller's own stays open."""
        one = find_client(self._address.origin)
        if one is None or self._foreign is not None:
            return
        one.users.discard(self)
        if not one.users and not one.active and one.lifetime is not None:
            await one.lifetime.aclose()

    def secrets(self) -> set[str]:
        """Return the keys in the address, and those that the caller's own client, or a proxy, is given."""
        headers = {} if self._own is None else self._own.headers
        found = self._address.secrets() | Headers(headers.items()).secrets()
        clients = [] if self._foreign is not None else find_clients(self._address.origin)
        return found.union(*[client.proxy.secrets() for client in clients if client.proxy is not None])


async def _send(one: SharedClient, request: HttpRequest) -> Any:
    url = request.url
    for _ in range(_MAX_REDIRECTS):
        response = await one.client.send(request, url)
        if response.status_code not in _REDIRECTS:
            return response
        url_there = _next_url(response, request.method)
        if url_there is None:
            return response
        await response.aclose()
        url = url_there
    return await one.client.send(request, url)


def _next_url(response: Any, method: str) -> str | None:
    """Return the address that a redirect leads to, if it may be followed: the same server gets the same request."""
    url = str(response.url)
    location = response.headers.get("location", "").strip()
    if not location or (method != "GET" and response.status_code not in _KEEPING):
        return None
    try:
        target = urljoin(url, location).partition("#")[0]
        return target if target.isprintable() and " " not in target and _server_of(target) == _server_of(url) else None
    except ValueError:
        return None


def _server_of(url: str) -> tuple[str, str | None, int | None, str | None]:
    parts = urlsplit(url)
    port = parts.port if parts.port is not None else {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port, parts.username
