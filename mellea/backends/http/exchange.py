"""One request: its attempts, its connection, its response, and the end of its answer.

Rules:

- A request is only retried before its first byte, after a pause that the provider may choose.
- A caller's own client may come from httpx, httpx2, or have the same interface. It is never closed here, and belongs to
  the event loop that uses it first.
- A redirect is only followed to the same scheme, host and port, with method and body unchanged.
- Nothing that a client raises leaves this file: it holds the request, and the request holds the key.
- An answer is complete with its end mark: nothing that happens after it fails it.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import anyio
import anyio.lowlevel

from mellea.backends.http.address import Address
from mellea.backends.http.clients import SharedClient, clients_by_loop, find_client, find_clients, open_client
from mellea.backends.http.codec import Decoder
from mellea.backends.http.failure import find_root, make_failure_error
from mellea.backends.http.httpx_clients import CallersClient
from mellea.backends.http.inflate import ASKED, Inflated, list_codings
from mellea.backends.http.outgoing import HttpRequest
from mellea.backends.http.rate_limits import LimitNotes
from mellea.backends.http.report import is_used_up
from mellea.backends.http.secret import Headers, KeySource, scrub_error
from mellea.backends.http.status import (
    add_advice,
    find_advice,
    make_message,
    make_redirect_message,
    make_status_error,
    request_id,
)
from mellea.core.events import Event, StreamEnd
from mellea.core.options import Deadlines
from mellea.core.runtime.loop import get_current_loop
from mellea.errors import (
    BackendError,
    DeadlineError,
    ErrorFields,
    InterruptedStreamError,
    MelleaError,
    RateLimitError,
    StatusError,
    UsageError,
    WireError,
)

__all__ = [
    "LONGEST_PAUSE",
    "Attempts",
    "Connector",
    "Exchange",
    "Response",
    "find_nap",
    "parse_retry_after",
    "read_last_events",
    "read_late_events",
]

_log = logging.getLogger("mellea")

_ERROR_BYTES = 256 * 1024
_ERROR_SECONDS = 5.0

_SHOULD_RETRY = {"true": True, "false": False}


@dataclass(slots=True)
class Exchange:
    """One request of a backend.

    Args:
        connector: the connector to the server.
        request: the request to send.
        retries: how many attempts may follow the first one.
        deadlines: those of the waiting run, which needs signs of life; `None` without one.
        backend: name of the backend, for errors.
        model: id of the model, for errors.
        refine: improves an error derived from a status, given the body.
        notes: records the responses' rate limits.
    """

    connector: Connector
    request: HttpRequest
    retries: int
    deadlines: Deadlines | None
    backend: str
    model: str
    refine: Callable[[BackendError, bytes], BackendError]
    notes: LimitNotes
    _headers: Mapping[str, str] = field(default_factory=dict, init=False)  # of the last response
    _attempts: Attempts | None = field(default=None, init=False)  # set by the first failure
    _resumes: float | None = field(default=None, init=False)  # when the pause before the next attempt is over

    @property
    def location(self) -> str:
        """The target of the last response's redirect, `""` if there is none."""
        return self._headers.get("location", "").strip()

    async def open(self) -> Response | None:
        """Return the open response; `None` means that an attempt failed, and the next call makes another.

        Raises:
            BackendError: there is no next attempt.
        """
        while True:
            if self._resumes is not None:
                await self._pause(self._resumes)
                if self.deadlines is not None:
                    return None
                continue
            asked = None
            try:
                response = await self.connector.send(self.request)
            except BackendError as error:
                failure = error
            else:
                self._headers = self.notes.headers = response.headers
                if 200 <= response.status < 300:
                    return response
                failure, asked = await self._make_refusal(response)
            try:
                self._plan_next(failure, asked)
            finally:
                del failure  # it holds this frame by its traceback

    def _plan_next(self, failure: BackendError, asked: float | None) -> None:
        """Schedule the next attempt, or raise the failure if there is none."""
        if self._attempts is None:
            self._attempts = Attempts(self.retries)
        pause = self._attempts.pause(failure, asked)
        if pause is None:
            raise failure
        _log.info("%s %s failed, next attempt in %.1f s", self.request.method, self.request.origin, pause)
        self._resumes = time.monotonic() + pause

    async def _pause(self, until: float) -> None:
        left = until - time.monotonic()
        nap = left if self.deadlines is None else min(left, find_nap(self.deadlines))
        if nap > 0:
            await anyio.sleep(nap)
        if nap >= left:
            self._resumes = None

    def describe(self, error: MelleaError) -> None:
        """Fill in the missing fields of a request's error, and remove keys from it."""
        if isinstance(error, BackendError):
            error.backend = error.backend or self.backend
            error.model = error.model or self.model
            error.request_id = error.request_id or request_id(self._headers)
        scrub_error(error, self.request.headers.secrets() | self.connector.secrets())

    async def _make_refusal(self, response: Response) -> tuple[BackendError, float | None]:
        status, headers = response.status, response.headers
        body = b""
        try:
            if not 300 <= status < 400:  # the body of a redirect only repeats its header
                body, _ = await response.read(_ERROR_BYTES, _ERROR_SECONDS)
        finally:
            await response.aclose()
        asked = parse_retry_after(headers)
        self.notes.note_refusal(status, asked)
        fields: ErrorFields = {"request_id": request_id(headers)}
        if (should := _SHOULD_RETRY.get(headers.get("x-should-retry", ""))) is not None:
            fields["is_retryable"] = should
        advice = ""
        if 300 <= status < 400:
            message = make_redirect_message(self.request.origin, headers.get("location", ""))
        else:
            used_up = is_used_up(status, body)
            if used_up:
                fields["is_retryable"] = False
            advice = self._find_advice(status, body, asked, is_used_up=used_up)
            message = make_message(status, body, self.request.origin, advice=advice)
        error = self._refine(make_status_error(status, message, retry_after=asked, **fields), body, advice)
        if isinstance(error, RateLimitError) and error.retry_after is not None:
            asked = error.retry_after
        return error, asked

    def _find_advice(self, status: int, body: bytes, asked: float | None, *, is_used_up: bool) -> str:
        return find_advice(
            status,
            body,
            self.request.origin,
            endpoint=self.request.endpoint,
            path=urlsplit(self.request.url).path,
            is_used_up=is_used_up,
            key_advice=self.connector.key_source.advise(
                had_key=bool(self.request.headers.secrets() | self.connector.secrets())
            ),
            long_pause=asked if asked is not None and asked > LONGEST_PAUSE else None,
        )

    def _refine(self, error: StatusError, body: bytes, advice: str) -> BackendError:
        """Return the error as the backend explains it; a new text for it keeps the advice."""
        before = str(error)
        refined: object
        try:
            refined = self.refine(error, body)
        except BackendError as raised:
            refined = raised.with_traceback(None)  # it was meant to be returned
        except Exception as failure:  # noqa: BLE001 - a provider's code; its failure must not hide the error
            _log.warning("explain_error of the backend %r raised a %s", self.backend, type(failure).__name__)
            refined = error
        if not isinstance(refined, BackendError):
            _log.warning("explain_error of the backend %r returned no error, but %s", self.backend, type(refined))
            return error
        if refined is error and str(error) != before and advice not in str(error):
            error.args = (add_advice(str(error), advice), *error.args[1:])
        return refined


# -- when a request is retried ------------------------------------------------------------------------


LONGEST_PAUSE = 60.0
"""Seconds; a provider that asks for more gets no further attempt, and its error is raised at once."""

_FIRST_PAUSE = 0.5
_LONGEST_OWN_PAUSE = 8.0
_SHORTEST_NAP = 0.01


class Attempts:
    """Counts the attempts to send one request.

    Args:
        retries: how many may follow the first one.
    """

    def __init__(self, retries: int) -> None:
        self._left = retries
        self._failed = 0

    def pause(self, error: BackendError, asked: float | None = None) -> float | None:
        """Return how many seconds to wait before the next attempt, `None` if there is none.

        Args:
            error: the error of the last one.
            asked: the pause that the provider asks for.
        """
        is_over = isinstance(error, DeadlineError) or not error.is_retryable
        if is_over or self._left <= 0 or (asked or 0.0) > LONGEST_PAUSE:
            return None
        own = min(_FIRST_PAUSE * 2.0**self._failed, _LONGEST_OWN_PAUSE)
        self._left -= 1
        self._failed += 1
        # Jitter keeps many clients from returning at once; never earlier than the provider asks for.
        return own * random.uniform(0.5, 1.0) if asked is None else asked + own * random.uniform(0.0, 0.2)


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a provider asks to wait, `None` if it sends no valid value.

    RFC 9110, section 10.2.3: `Retry-After` holds seconds or a date. OpenAI and Azure send milliseconds too.
    """
    milliseconds = _parse_number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _parse_number(value)
    if seconds is not None or value is None:
        return seconds
    from email.utils import parsedate_to_datetime  # lazy: costs 30 ms, and dates are rare

    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:  # "-0000": it is UTC all the same
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _parse_number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def find_nap(deadlines: Deadlines) -> float:
    """Return how long a pause may last before the run needs a sign of life: well before its deadline."""
    return float("inf") if deadlines.first_byte is None else max(deadlines.first_byte / 2, _SHORTEST_NAP)


# -- a backend's connector -------------------------------------------------------------------------


_MAX_REDIRECTS = 3
_KEEPING = (307, 308)
"""Redirects that leave the method and the body as they are."""

_REDIRECTS = (301, 302, 303, *_KEEPING)


class Connector:
    """Connects a backend to its server, on any event loop.

    Args:
        client: the caller's own, or `None`.
        address: where the server is.

    Attributes:
        urls: the complete URLs of paths, which are the same for nearly all requests.
        headers: the provider's own headers, raw and checked: a key rarely changes.
        key_source: where the key is from, for errors.

    Raises:
        UsageError: the client hasn't the interface of `httpx.AsyncClient`.
    """

    def __init__(self, client: Any, address: Address) -> None:
        self.urls: dict[str, str] = {}
        self.headers = Headers(), Headers()
        self.key_source = KeySource()
        self._own = None if client is None else CallersClient(client)
        self._foreign = None if self._own is None else SharedClient(self._own)
        self._address = address

    @property
    def has_own_client(self) -> bool:
        """Whether the caller's client is used."""
        return self._foreign is not None

    async def send(self, request: HttpRequest) -> Response:
        """Send the request and return the response once its headers have arrived; it must be closed.

        Raises:
            ConnectError: no connection, or it broke before the response started.
            DeadlineError: the connection took too long.
            WireError: the server doesn't speak HTTP.
            UsageError: the request can't be sent at all, or the caller's client belongs to another event loop.
            ConfigurationError: the proxy that the environment names can't be used.
        """
        address = self._address
        one = (
            self._foreign
            or clients_by_loop.get((get_current_loop().native, address.origin))
            or await open_client(address)
        )
        is_ours = self._foreign is None
        if is_ours:
            one.users.add(self)
        elif one.loop is None:
            one.loop = get_current_loop()
        failure: BaseException
        one.active += 1
        try:
            response = await one.client.send(request, request.url)
            if response.status_code in _REDIRECTS:
                response = await _follow(one, request, response)
            return Response(response, one.client.errors, one.release, is_ours=is_ours)
        except BaseException as error:
            one.release()
            failure = self._make_failure(error, one, request)
            if failure is error:
                raise
        try:
            raise failure  # outside the handler, which would make the client's error its context
        finally:
            del failure  # it holds this frame by its traceback

    def _make_failure(self, error: BaseException, one: SharedClient, request: HttpRequest) -> BaseException:
        """Convert a client's exception."""
        is_known = isinstance(error, one.client.errors)
        is_elsewhere = self._foreign is not None and one.loop is not None and not one.loop.is_current()
        if is_elsewhere and (is_known or isinstance(error, Exception)) and not isinstance(error, MelleaError):
            return UsageError(
                f"the client that was given to the backend as client= belongs to another event loop ({error}); leave "
                "out client=, or make a client and a backend for each loop"
            )
        if not is_known:
            return error
        is_own = self._foreign is not None
        return make_failure_error(error, request.origin, request.connect, one.proxy, may_have_proxy=is_own)

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


async def _follow(one: SharedClient, request: HttpRequest, response: Any) -> Any:
    """Follow a redirect, or return it unchanged if it may not be followed."""
    for _ in range(_MAX_REDIRECTS):
        if response.status_code not in _REDIRECTS or (url := _find_next_url(response, request.method)) is None:
            break
        await response.aclose()
        response = await one.client.send(request, url)
    return response


def _find_next_url(response: Any, method: str) -> str | None:
    """Return a redirect's target, if it may be followed: the same server gets the same request."""
    url = str(response.url)
    location = response.headers.get("location", "").strip()
    if not location or (method != "GET" and response.status_code not in _KEEPING):
        return None
    try:
        target = urljoin(url, location).partition("#")[0]
        return (
            target if target.isprintable() and " " not in target and _find_server(target) == _find_server(url) else None
        )
    except ValueError:
        return None


def _find_server(url: str) -> tuple[str, str | None, int | None, str | None]:
    parts = urlsplit(url)
    port = parts.port if parts.port is not None else {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port, parts.username


# -- an open response: reading it, and closing it in any state of the task ------------------------------------

_CLOSE_SECONDS = 2.0

_MOST_CODINGS = 3
_STREAMS = frozenset({"text/event-stream", "application/x-ndjson"})


class Response:
    """An open response; it must be closed.

    Args:
        response: the client's own.
        errors: the exceptions of its client.
        release: called once, when the response has been closed.
        is_ours: whether it comes from our own client, whose body is read without a copy.

    Attributes:
        status: the HTTP status.
        headers: a case-insensitive mapping.
        errors: what reading may raise; the reader converts it.
        media_type: the content type without its parameters, in lower case.
        reads: iterates over the decompressed bytes as they arrive; once.
    """

    __slots__ = ("_inflated", "_raw", "_release", "_response", "errors", "headers", "media_type", "reads", "status")

    def __init__(
        self,
        response: Any,
        errors: tuple[type[BaseException], ...],
        release: Callable[[], None],
        *,
        is_ours: bool = False,
    ) -> None:
        self._response = response
        self._release: Callable[[], None] | None = release
        encoding = response.headers.get("content-encoding", "")
        codings = list_codings(encoding) if encoding else []
        self.errors = errors
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self._raw: AsyncIterator[bytes]
        # A response that already has its body, as from a mock, has no raw bytes; the client handles other codings.
        if response.is_stream_consumed or not (is_ours or ASKED.issuperset(codings)):
            self._raw = response.aiter_bytes()
            codings = [] if response.is_stream_consumed else codings[:1]
        elif is_ours and self.media_type in _STREAMS:
            self._raw = aiter(response.stream)  # the source of `aiter_raw`, which costs 400 ns a piece
        else:
            self._raw = response.aiter_raw()
        self._inflated: Inflated | None = None
        self.reads = self._raw
        for coding in codings[:_MOST_CODINGS]:
            self.reads = self._inflated = Inflated(self.reads, coding)

    async def read(self, limit: int, seconds: float | None = None) -> tuple[bytes, bool]:
        """Return the body, and whether it is complete: not cut by `limit`, by `seconds` or by the network."""
        body = bytearray()
        try:
            with anyio.move_on_after(seconds):
                async for data in self.reads:
                    body += data
                    if len(body) > limit:
                        return bytes(body[:limit]), False
                return bytes(body), self._inflated is None or self._inflated.is_whole
        except self.errors:
            _log.debug("a response was cut after %d bytes", len(body))
        return bytes(body), False

    async def aclose(self, grace: float = 0.0) -> None:
        """Close the response, in any state of the task; wait at most `grace` seconds for its proper end.

        A proper end keeps the connection for the next request, anything else closes it.
        """
        if self._release is None:
            return
        release, self._release = self._release, None
        try:
            await self._end(grace)
        except self.errors:
            _log.debug("a response failed to close", exc_info=True)
        finally:
            release()

    async def _end(self, grace: float) -> None:
        try:
            if (
                not grace
            ):  # a loop at its shutdown is about to close the iterator, too, and complains if it is being read
                await anyio.lowlevel.cancel_shielded_checkpoint()
            # Read to its end, or cancelled, the iterator has no frame. A loop at its shutdown closes all generators
            # at once, this one as well as those that read it.
            if getattr(self._raw, "ag_frame", self) is not None and not getattr(self._raw, "ag_running", False):
                with anyio.move_on_after(grace, shield=True):
                    # A client's iterator is a chain of generators. An exception from the innermost one, which the scope
                    # raises, ends all of them; closing the outermost would leave the others to the garbage collector.
                    async for _ in self._raw:
                        pass
                    if grace:  # after a proper end there is nothing to wait for
                        await self._response.aclose()
        finally:
            if not self._response.is_closed:
                with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                    await self._response.aclose()


# -- what is read after an answer's end mark, and what it means when the connection breaks ------------------


async def read_late_events(response: Response, decoder: Decoder, seconds: float) -> list[Event]:
    """Read on after the answer's end mark, for the usage for example, and return the events that end the answer.

    The answer is complete: nothing here can fail it.

    Args:
        response: read up to the end mark.
        decoder: fed with everything so far.
        seconds: how long it may take.
    """
    events, size = list[Event](), 0
    harmless: tuple[type[BaseException], ...] = (MelleaError, *response.errors)
    try:
        with anyio.move_on_after(seconds):
            async for data in response.reads:
                events += decoder.feed(data)
                size += len(data)
                is_over = bool(events) and type(events[-1]) is StreamEnd
                # The usage is small, and more could only make the decoder fail.
                if is_over or decoder.error is not None or size > 1024 * 1024:
                    break
    except harmless as error:
        _log.info("ignored after the end of a complete answer: %s", error)
    return events if events and type(events[-1]) is StreamEnd else events + decoder.close()


def read_last_events(decoder: Decoder, cut: BaseException | None) -> Iterator[list[Event]]:
    """Yield the events that end an answer.

    Args:
        decoder: fed with everything so far.
        cut: the error that broke the connection, if any.

    Raises:
        InterruptedStreamError: the provider's end mark is missing.
    """
    try:
        yield decoder.close()
        if decoder.error is None:
            return
        raise decoder.error
    except (InterruptedStreamError, WireError):
        if cut is None:
            raise
    # Half a line is not the provider's fault.
    root = find_root(cut)
    raise InterruptedStreamError(
        f"the connection broke before the answer was complete ({str(root) or type(root).__name__}); "
        "what had arrived is in .partial",
        is_retryable=True,
    )
