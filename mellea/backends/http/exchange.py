"""One request with its attempts, what every error of it says about it, and the end of its answer."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio

from mellea.backends.http.clients import Connector, Response
from mellea.backends.http.decoding import Decoder
from mellea.backends.http.failure import root_of
from mellea.backends.http.outgoing import HttpRequest
from mellea.backends.http.rate_limits import LimitNotes
from mellea.backends.http.report import is_used_up
from mellea.backends.http.secret import scrub_error
from mellea.backends.http.status import error_for_status, message_of, redirect_message, request_id
from mellea.core.events import Event, StreamEnd
from mellea.core.options import Deadlines
from mellea.errors import (
    BackendError,
    DeadlineError,
    ErrorFields,
    InterruptedStreamError,
    MelleaError,
    RateLimitError,
    WireError,
)

__all__ = [
    "LONGEST_PAUSE",
    "Attempts",
    "Exchange",
    "last_events",
    "late_events",
    "nap_of",
    "parse_retry_after",
]

_log = logging.getLogger("mellea")

_ERROR_BYTES = 256 * 1024
_ERROR_SECONDS = 5.0

_SHOULD_RETRY = {"true": True, "false": False}


@dataclass(slots=True)
class Exchange:
    """One request of a backend.

    Args:
        connector: the way to the server.
        request: what is sent.
        retries: how many attempts may follow the first one.
        deadlines: those of the run that waits for the answer and wants signs of life; `None` if none waits.
        backend: name of the backend, for errors.
        model: id of the model, for errors.
        refine: makes a better error of one that follows from a status, and the body.
        notes: keep what the responses say about limits.
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
    _attempts: Attempts | None = field(default=None, init=False)  # there are some with the first failure
    _resumes: float | None = field(default=None, init=False)  # when the pause before the next attempt is over

    @property
    def location(self) -> str:
        """Where the last response redirects to, `""` if it doesn't."""
        return self._headers.get("location", "").strip()

    async def open(self) -> Response | None:
        """Return the open response; `None` says that an attempt failed, and asks to be called again for the next.

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
                failure, asked = await self._refusal(response)
            try:
                self._plan_next(failure, asked)
            finally:
                del failure  # it holds this frame by its traceback

    def _plan_next(self, failure: BackendError, asked: float | None) -> None:
        """Set when the next attempt begins, or raise the failure if there is none."""
        if self._attempts is None:
            self._attempts = Attempts(self.retries)
        pause = self._attempts.pause(failure, asked)
        if pause is None:
            raise failure
        _log.info("%s %s failed, next attempt in %.1f s", self.request.method, self.request.origin, pause)
        self._resumes = time.monotonic() + pause

    async def _pause(self, until: float) -> None:
        left = until - time.monotonic()
        nap = left if self.deadlines is None else min(left, nap_of(self.deadlines))
        if nap > 0:
            await anyio.sleep(nap)
        if nap >= left:
            self._resumes = None

    def describe(self, error: MelleaError) -> None:
        """Fill in what an error of the request doesn't say itself, and take the keys out of it."""
        if isinstance(error, BackendError):
            error.backend = error.backend or self.backend
            error.model = error.model or self.model
            error.request_id = error.request_id or request_id(self._headers)
        scrub_error(error, self.request.headers.secrets() | self.connector.secrets())

    async def _refusal(self, response: Response) -> tuple[BackendError, float | None]:
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
        if 300 <= status < 400:
            message = redirect_message(self.request.origin, headers.get("location", ""))
        else:
            used_up = is_used_up(status, body)
            message = message_of(status, body, self.request.origin, is_used_up=used_up)
            if used_up:
                fields["is_retryable"] = False
        error = self.refine(error_for_status(status, message, retry_after=asked, **fields), body)
        if isinstance(error, RateLimitError) and error.retry_after is not None:
            asked = error.retry_after
        return error, asked


# -- when a request is tried again: before its first byte only, after a pause that the provider may choose -


LONGEST_PAUSE = 60.0
"""Seconds; a provider that asks for more gets no further attempt, and its error is raised at once."""

_FIRST_PAUSE = 0.5
_LONGEST_OWN_PAUSE = 8.0
_SHORTEST_NAP = 0.01


class Attempts:
    """Counts the attempts of one request.

    Args:
        retries: how many may follow the first one.
    """

    def __init__(self, retries: int) -> None:
        self._left = retries
        self._failed = 0

    def pause(self, error: BackendError, asked: float | None = None) -> float | None:
        """Return how many seconds to wait before the next attempt, `None` if there is none.

        Args:
            error: how the last one failed.
            asked: the pause that the provider asks for.
        """
        is_over = isinstance(error, DeadlineError) or not error.is_retryable
        if is_over or self._left <= 0 or (asked or 0.0) > LONGEST_PAUSE:
            return None
        own = min(_FIRST_PAUSE * 2.0**self._failed, _LONGEST_OWN_PAUSE)
        self._left -= 1
        self._failed += 1
        # Jitter keeps many clients from coming back at once; never earlier than the provider asks for.
        return own * random.uniform(0.5, 1.0) if asked is None else asked + own * random.uniform(0.0, 0.2)


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a provider asks to wait, `None` if it says nothing that can be read.

    RFC 9110, section 10.2.3: `Retry-After` holds seconds or a date. OpenAI and Azure send milliseconds too.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
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


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def nap_of(deadlines: Deadlines) -> float:
    """Return how long a pause may last before a run wants a sign of life: well before it gives up."""
    return float("inf") if deadlines.first_byte is None else max(deadlines.first_byte / 2, _SHORTEST_NAP)


# -- what is read behind an answer's end mark, and what it means when the connection breaks ------------------


async def late_events(response: Response, decoder: Decoder, seconds: float) -> list[Event]:
    """Read on behind the answer's end mark, for the usage and the like, and return the events that end the answer.

    The answer is complete: nothing that happens here fails it.

    Args:
        response: has been read up to the end mark.
        decoder: has been fed all that came.
        seconds: how long it may take.
    """
    events: list[Event] = []
    harmless: tuple[type[BaseException], ...] = (MelleaError, *response.errors)
    try:
        with anyio.move_on_after(seconds):
            async for data in response.reads:
                events += decoder.feed(data)
                if (events and type(events[-1]) is StreamEnd) or decoder.error is not None:
                    break
    except harmless as error:
        _log.info("an answer was complete when this came behind its end: %s", error)
    return events if events and type(events[-1]) is StreamEnd else events + decoder.close()


def last_events(decoder: Decoder, cut: BaseException | None) -> list[Event]:
    """Return the events that end an answer.

    Args:
        decoder: has been fed all that came.
        cut: what broke the connection, if anything did.

    Raises:
        InterruptedStreamError: the provider's own end hasn't come.
    """
    if cut is None:
        return decoder.close()
    with suppress(InterruptedStreamError, WireError):  # half a line is no fault of the provider's then
        return decoder.close()
    root = root_of(cut)
    raise InterruptedStreamError(
        f"the connection broke before the answer was complete ({str(root) or type(root).__name__}); "
        "what had arrived is in .partial",
        is_retryable=True,
    )
