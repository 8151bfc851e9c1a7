"""The base of all HTTP backends: sends a `Request` and decodes the response into events.

    class AcmeBackend(HttpBackend):
        name = "acme"
        default_url = "https://api.acme.example/v1"
        key_variables = ("ACME_API_KEY",)

        def encode(self, request):
            return Outgoing("chat", encode(request, self.model_id))

        def make_decoder(self, request):
            return Decoder(self.model_id, backend=self.name)

The shared part checks what is supported, merges `extra_body` and `extra_headers`, holds the key, retries, turns
statuses into errors, handles cut connections, closes, and fills in an error's backend, model and request id. The
decoder interprets the bytes. The run enforces all deadlines but the connection's.
"""

from __future__ import annotations

import os
import sys
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypedDict

import anyio
import anyio.to_thread

from mellea.backends.http.address import Address, find_way
from mellea.backends.http.codec import Decoder
from mellea.backends.http.exchange import Connector, Exchange, read_last_events, read_late_events
from mellea.backends.http.fields import encode_json
from mellea.backends.http.httpx_clients import write_form
from mellea.backends.http.job_answer import read_answer
from mellea.backends.http.outgoing import HTTP_OPTIONS, FormFile, HttpRequest, JobCall, Outgoing
from mellea.backends.http.probe import PROBE_DEADLINES, Probe, probe
from mellea.backends.http.rate_limits import LimitHeaders, LimitNotes
from mellea.backends.http.secret import Headers, KeySource, Secret, find_key, make_missing_key_error, strip_secrets
from mellea.core.backend import Backend, Batches, Request, check_supported, make_unsupported_error
from mellea.core.entrance import short_errors
from mellea.core.events import Event, KeepAlive, StreamEnd
from mellea.core.masking import hide_keys
from mellea.core.numbers import check_whole
from mellea.core.options import Deadlines, ModelOption
from mellea.core.results import RateLimitState
from mellea.errors import (
    BackendError,
    ConfigurationError,
    DeadlineError,
    MelleaError,
    UsageError,
    WireError,
)

if TYPE_CHECKING:
    from mellea.backends.http.batches import BatchCodec
    from mellea.backends.http.videos import VideoCodec
    from mellea.core.videos import VideoRequest, VideoResult

__all__ = ["HTTP_OPTIONS", "MAX_ANSWER_BYTES", "HttpBackend", "Outgoing", "Probe"]

_ALIVE = KeepAlive()
_AGAIN = KeepAlive(is_restart=True)

_SLOW = Deadlines(first_byte=300.0)
"""For files of many requests, and for their results."""

_PLAIN: Mapping[str, Any] = {ModelOption.STREAM: False}
_PLAIN_CALL = JobCall("GET", "")

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The default limit of an answer's size, decompressed."""

_END_SECONDS = 0.25
"""How long to wait for the end of the response after the provider's end mark, to keep the connection."""

_LATE_SECONDS = 5.0
"""How long to wait after the provider's end mark for what isn't essential, such as the usage."""

_MOST_PATHS = 256
"""How many complete URLs are cached."""

_SHARE = 0.8
"""The share of a deadline's remaining time to wait for such things, so that it doesn't pass."""


class HttpArguments(TypedDict, total=False):
    """The keyword arguments of `HttpBackend`, for backends that forward them."""

    base_url: str | None
    api_key: str | None
    headers: Mapping[str, str] | None
    extra_body: Mapping[str, Any] | None
    client: Any
    retries: int
    max_answer_bytes: int | None
    model_options: Mapping[str, Any] | None


class HttpBackend(Backend):
    """A model behind a provider's HTTP interface.

    Args:
        model_id: the model, as the provider calls it.
        base_url: the base of the provider's paths; by default `url_variable` in the environment, else `default_url`.
        api_key: by default the first of `key_variables` that is set in the environment.
        headers: for every request; they take precedence over the provider's own.
        extra_body: merged into the JSON body of every generation.
        client: your own `httpx.AsyncClient`, or one of the same shape; it is never closed here. Without one,
            all backends on an event loop share a client, which is a faster one on asyncio where the extra
            `fast` is installed.
        retries: how often a request that fails before its first byte is retried.
        max_answer_bytes: the size of an answer, decompressed, from which on it fails; `None` is no limit.
        model_options: defaults for every request.

    Pickling drops all keys; unpickling takes the key from the environment. A copy keeps them.

    Attributes:
        default_url: the base of the provider's paths; `""` if each account has its own.
        url_variable: the environment variable that replaces it.
        key_variables: the environment variables that may hold the key, the first one that is set.
        key_header: the header for the key; `authorization` sends it as a bearer token.
        requires_key: whether the provider at `default_url` rejects requests without a key.
        models_path: the path of the provider's list of models.
        limit_headers: the names of its rate limit headers.

    Raises:
        UsageError: an argument has a bad value.
        ConfigurationError: the provider's address is not known.
    """

    default_url: ClassVar[str] = ""
    url_variable: ClassVar[str] = ""
    key_variables: tuple[str, ...] = ()
    key_header: str = "authorization"
    requires_key: ClassVar[bool] = False
    models_path: ClassVar[str] = "models"
    limit_headers: ClassVar[LimitHeaders] = LimitHeaders()

    @short_errors
    def __init__(
        self,
        model_id: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        client: Any = None,
        retries: int = 2,
        max_answer_bytes: int | None = MAX_ANSWER_BYTES,
        model_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(model_options=model_options)
        if not isinstance(model_id, str) or not model_id:
            raise UsageError(f"model_id takes the name of a model, not {model_id!r}")
        check_whole("retries", retries, 0)
        check_whole("max_answer_bytes", max_answer_bytes, or_none=True)
        if api_key is not None and not isinstance(api_key, str):
            raise UsageError(f"api_key takes a string, not {type(api_key).__name__}")
        self.model_id = model_id
        self.retries = retries
        self.max_answer_bytes = max_answer_bytes
        self._address = Address.parse(self.find_url(base_url))
        self._server = self._address.host, self._address.port or (443 if self._address.is_tls else 80)
        self._key = Secret(api_key if api_key is not None else find_key(self.key_variables))
        self._extra_headers = Headers.check(headers)
        self._extra_body = dict(extra_body or {})
        self._connector = Connector(client, self._address)
        self._connector.key_source = KeySource.find(api_key, self.key_variables)
        self._limits = LimitNotes(self.limit_headers)
        self._missing: tuple[str, ...] = ()  # what was dropped when this was pickled

    # -- what a provider fills in: `encode` and `make_decoder` always, the others where the defaults don't fit ---

    @abstractmethod
    def encode(self, request: Request) -> Outgoing:
        """Return the path, the JSON body and the headers to send; called for each request, and does no I/O.

        Raises:
            UnsupportedError: the provider doesn't support it; nothing has been sent yet.
        """

    @abstractmethod
    def make_decoder(self, request: Request) -> Decoder:
        """Return a new decoder for the answer to a request, which may be a stream or one JSON body."""

    def make_headers(self) -> dict[str, str]:
        """Return the provider's own headers: the key, where there is one.

        Raises:
            AuthError: the key is missing, and the provider needs one (`is_key_needed`).
        """
        key = self._key.revealed
        if key is not None:
            return {self.key_header: f"Bearer {key}" if self.key_header.lower() == "authorization" else key}
        if self.is_key_needed():
            raise make_missing_key_error(self.name, self.model_id, self.key_variables, self.advise_on_key())
        return {}

    def is_key_needed(self) -> bool:
        """Return whether a request fails without a key: at the provider's own address, unless a header brings one."""
        is_there = self.base_url.startswith(self.default_url)
        return (
            self.requires_key
            and is_there
            and not {self.key_header.lower(), "authorization"} & self._extra_headers.keys()
        )

    def advise_on_key(self) -> str:
        """Return another way to reach the model without a key, or `""`."""
        return ""

    def find_url(self, base_url: str | None) -> str:
        """Return the base URL: the argument, else the environment's, else `default_url`.

        Raises:
            ConfigurationError: there is none, though a variable could set it.
        """
        if base_url is not None:
            return base_url
        variable = self.url_variable
        url = (os.environ.get(variable, "").strip() if variable else "") or self.default_url
        if not url and variable:
            raise ConfigurationError(
                f"{self.name!r} has a different address for each account: pass base_url=, or set {variable}"
            )
        return url

    def explain_error(self, error: BackendError, body: bytes) -> BackendError:
        """Return the error of a rejected request, with more detail than the status if the body has some.

        Args:
            error: derived from the status, with the server's message.
            body: what the server sent; often not JSON.
        """
        return error

    def read_models(self, listing: Any) -> list[str]:
        """Return the names in the response of `models_path`.

        A `KeyError`, `TypeError`, `IndexError` or `AttributeError` says that it has another form.
        """
        models = listing if isinstance(listing, list) else listing["data"]  # some servers omit the object
        return [str(model["id"]) for model in models]

    # -- for users, and for the other parts of a provider -------------------------------------------------

    @property
    def api_key(self) -> str | None:
        """The key as a text, `None` if there is none."""
        return self._key.revealed

    @property
    def base_url(self) -> str:
        """The base URL of the provider's paths."""
        return self._address.base

    @property
    def origin(self) -> str:
        """Scheme, host and port of the server that requests go to: what errors show."""
        return self._address.origin

    @property
    def server(self) -> tuple[str, int | None]:
        """Host and port of the server that requests go to."""
        return self._server

    @property
    def rate_limits(self) -> RateLimitState | None:
        """The rate limits from the headers of the last response."""
        return self._limits.read()

    def run(self, request: Request) -> AsyncIterator[Event]:
        """Send the request and yield the model's events; closing the iterator closes the connection.

        Raises:
            UnsupportedError: the request asks for what this backend can't do; nothing was sent.
            BackendError: the provider rejects the request, can't be reached, or sends an invalid response.
            InterruptedStreamError: the connection broke before the provider's own end.
        """
        return Batches(self._read_batches(request))

    async def _read_batches(self, request: Request) -> AsyncGenerator[list[Event], None]:
        check_supported(self, request)
        exchange = self._make_exchange("POST", self._make_outgoing(request), request.options, request.deadlines)
        try:
            while (response := await exchange.open()) is None:
                yield [_AGAIN]
            cut, has_ended, size, began = None, False, 0, time.monotonic()
            limit = sys.maxsize if self.max_answer_bytes is None else self.max_answer_bytes
            try:
                decoder = self.make_decoder(request)
                decoder.media_type = response.media_type
                feed = decoder.feed
                try:
                    async for data in response.reads:
                        size += len(data)
                        if size > limit:
                            raise _make_too_large_error(limit)
                        events = feed(data)
                        yield events or [_ALIVE]  # nothing: a comment, or part of an event
                        has_ended = bool(events) and type(events[-1]) is StreamEnd
                        # After an error or the end mark the connection may stay open without data.
                        if has_ended or decoder.error is not None or decoder.is_complete:
                            break
                except MelleaError:
                    raise
                except response.errors as error:
                    cut = error
                if not has_ended:
                    is_complete = cut is None and decoder.is_complete
                    late = _find_patience(request.deadlines, began, _LATE_SECONDS)
                    last = [await read_late_events(response, decoder, late)] if is_complete else None
                    for events in last or read_last_events(decoder, cut):
                        yield events
                    has_ended = is_complete
            finally:
                await response.aclose(_find_patience(request.deadlines, began, _END_SECONDS) if has_ended else 0.0)
        except MelleaError as error:
            exchange.describe(error)
            raise

    async def get_json(self, path: str, *, deadlines: Deadlines | None = None) -> Any:
        """Fetch the JSON value at a path relative to the base URL.

        Raises:
            BackendError: as for `run`.
        """
        return await self._fetch("GET", Outgoing(path, {}), deadlines or Deadlines(), self.retries)

    async def post_json(
        self,
        path: str,
        payload: Mapping[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
        deadlines: Deadlines | None = None,
    ) -> Any:
        """Post a JSON body and return the JSON value that comes back, with the same retries and errors as `run`.

        Raises:
            BackendError: as for `run`.
        """
        outgoing = Outgoing(path, payload, headers or {})
        return await self._fetch("POST", outgoing, deadlines or Deadlines(), self.retries)

    async def post_form(
        self, path: str, fields: Mapping[str, str], files: Sequence[FormFile], *, deadlines: Deadlines | None = None
    ) -> Any:
        """Post a form with files and return the JSON value that comes back, as `post_json` does.

        Raises:
            BackendError: as for `run`.
        """
        return await self.make_call(JobCall("POST", path, fields, tuple(files)), deadlines=deadlines or Deadlines())

    # -- videos ---------------------------------------------------------------------------------------------

    async def generate_video(self, request: VideoRequest) -> VideoResult:
        """Start a video job, wait for it, and download the result.

        Raises:
            UnsupportedError: the backend makes no videos, or can't do what is asked for.
            BackendError: as for `run`; or the job failed, was blocked, or took too long.
        """
        codec = self.find_video_codec()
        if codec is None:
            raise make_unsupported_error(self, "video generation")
        from mellea.backends.http.video_jobs import make_video  # lazy: few programs make videos

        return await make_video(self, codec, request)

    def find_video_codec(self) -> VideoCodec | None:
        """Return the codec of the provider's video jobs; `None` if the model makes none."""
        return None

    def open_file(self, place: str, headers: Mapping[str, str]) -> Exchange:
        """Return the exchange that downloads a file, without the key if it is on another server.

        Args:
            place: a path relative to the base URL, or a whole address.
            headers: for this request.

        Raises:
            WireError: the URL isn't one that a provider may redirect to.
        """
        if "://" not in place:
            return self._make_exchange("GET", Outgoing(place, {}, headers), {}, _SLOW)
        way, url = find_way(place, self._address)
        if way is None:
            exchange = self._make_exchange("GET", Outgoing("", {}, headers), {}, _SLOW)
            exchange.request.url = url
            return exchange
        ours = {"accept": "*/*", "accept-encoding": "identity", "user-agent": _make_user_agent(), **headers}
        sent = HttpRequest("GET", url, way.origin, Headers(ours), None, _SLOW.connect)
        there = Connector(None, way)
        return Exchange(there, sent, self.retries, None, self.name, self.model_id, self.explain_error, self._limits)

    # -- batches --------------------------------------------------------------------------------------------

    @property
    def batches(self) -> BatchCodec | None:
        """The codec of the provider's batches; `None` if it has none."""
        return None

    def encode_for_batch(self, key: str, request: Request) -> bytes | None:
        """Return a request in the form of a batch item with a key; `None` if a batch can't have it.

        Raises:
            UnsupportedError: the request asks for what this backend can't do.
        """
        check_supported(self, request)
        options = {**request.options, ModelOption.STREAM: False}
        outgoing = self._make_outgoing(replace(request, options=options))
        if self.batches is None or outgoing.headers or options.get(ModelOption.EXTRA_HEADERS):
            return None
        return self.batches.encode_item(key, outgoing.payload)

    def decode_from_batch(self, request: Request, body: bytes) -> list[Event]:
        """Return the events of an answer from a batch, which is one JSON body.

        Raises:
            BackendError: the answer is invalid.
        """
        decoder = self.make_decoder(request)
        decoder.media_type = "application/json"
        events = decoder.feed(body) + decoder.close()
        if decoder.error is not None:
            raise decoder.error
        return events

    async def make_call(self, call: JobCall, *, retries: int | None = None, deadlines: Deadlines = _SLOW) -> Any:
        """Make a call about a job, and return what it requests: a JSON value, bytes, or headers.

        Raises:
            BackendError: as for `run`.
        """
        headers, body = dict(call.headers), call.body
        if call.files is not None:
            body, headers["content-type"] = await anyio.to_thread.run_sync(write_form, call.payload, call.files)
        outgoing = Outgoing(call.path, call.payload, headers, body)
        tries = self.retries if retries is None else retries
        return await self._fetch(call.method, outgoing, deadlines, tries, call)

    async def list_models(self) -> list[str]:
        """Return the names of the models that the provider offers.

        Raises:
            BackendError: as for `run`.
        """
        return await self._list_models(Deadlines(), self.retries)

    async def probe(self) -> Probe:
        """Return whether the model can be reached, and why not; takes 30 s at most, and raises nothing.

        A server without a list of models is asked for an answer of a few tokens.
        """
        once = self.__copy__()
        once.retries = 0
        return await probe(self.model_id, lambda: self._list_models(PROBE_DEADLINES, 0), once.run)

    async def aclose(self) -> None:
        """Close the connections of the running loop, unless another backend uses them."""
        await self._connector.aclose()

    def check_access(self) -> None:
        """Check whether requests can be sent at all; without any I/O.

        Raises:
            AuthError: a key is missing.
            ConfigurationError: a key can't be sent, or was left out when this backend was pickled.
        """
        if self._missing:
            raise ConfigurationError(
                f"this backend was pickled, which drops {', '.join(self._missing)}; create it again in this process"
                + (f", or set {' or '.join(names)}" if (names := self.key_variables) else "")
            )
        Headers.check(self.make_headers())

    def wire_payload(self, request: Request) -> Mapping[str, Any]:
        """Return the JSON body that `run` sends for a request, without keys."""
        secrets = self._extra_headers.secrets() | self._connector.secrets() | self._key.secrets()
        shown: Mapping[str, Any] = hide_keys(self._make_outgoing(request).payload, secrets)
        return shown

    def __copy__(self) -> Self:
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()  # nothing in it changes

    def __getstate__(self) -> dict[str, Any]:
        state = strip_secrets(self.__dict__)
        del state["_limits"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._connector = Connector(None, self._address)
        self._connector.key_source = KeySource.find(None, self.key_variables)
        self._limits = LimitNotes(self.limit_headers)
        if state["_missing"][:1] == ("api_key=",) and (key := find_key(self.key_variables)):
            self._key, self._missing = Secret(key), state["_missing"][1:]

    # -- inside -----------------------------------------------------------------------------------------

    def _make_outgoing(self, request: Request) -> Outgoing:
        outgoing, extra = self.encode(request), request.options.get(ModelOption.EXTRA_BODY)
        return outgoing.merge_extras(self._extra_body, extra or {}) if self._extra_body or extra else outgoing

    def _make_exchange(
        self,
        method: str,
        outgoing: Outgoing,
        options: Mapping[str, Any],
        deadlines: Deadlines,
        retries: int | None = None,
    ) -> Exchange:
        if self._missing:
            self.check_access()
        body = None
        # A compressing proxy would hold small events back.
        encoding = "identity" if options.get(ModelOption.STREAM, True) else "gzip, deflate"
        headers = {"accept": "*/*", "accept-encoding": encoding, "user-agent": _make_user_agent()}
        if method == "POST":
            body = encode_json(outgoing.payload) if outgoing.body is None else outgoing.body
            headers["content-type"] = "application/json"
        if self._address.authorization is not None:
            headers["authorization"] = self._address.authorization
        way, own = self._connector, self.make_headers()
        if own != way.headers[0]:
            way.headers = Headers(own), Headers.check(own)
        headers |= way.headers[1] | self._extra_headers
        for more in (outgoing.headers, options.get(ModelOption.EXTRA_HEADERS)):
            if more:
                headers |= Headers.check(more)
        url = way.urls.get(outgoing.path)
        if url is None:
            if len(way.urls) >= _MOST_PATHS:
                way.urls.clear()
            url = way.urls[outgoing.path] = self._address.join(outgoing.path)
        # An absolute URL may be a secret that allows uploads.
        endpoint = "" if "://" in outgoing.path else outgoing.path
        sent = HttpRequest(
            method, url, self._address.origin, Headers(headers), body, deadlines.connect, endpoint=endpoint
        )
        retries = self.retries if retries is None else retries
        return Exchange(way, sent, retries, deadlines, self.name, self.model_id, self.explain_error, self._limits)

    async def _fetch(
        self, method: str, outgoing: Outgoing, deadlines: Deadlines, retries: int, call: JobCall = _PLAIN_CALL
    ) -> Any:
        exchange = self._make_exchange(method, outgoing, _PLAIN, deadlines, retries)
        exchange.request.read, exchange.deadlines = deadlines.first_byte, None  # no run watches this one
        try:
            with anyio.move_on_after(deadlines.total):
                while (response := await exchange.open()) is None:
                    continue
                return await read_answer(response, call, self._address.origin)
            raise DeadlineError(f"{self._address.origin} took longer than {deadlines.total:g} s", is_retryable=True)
        except MelleaError as error:
            exchange.describe(error)
            raise

    async def _list_models(self, deadlines: Deadlines, retries: int) -> list[str]:
        listing = await self._fetch("GET", Outgoing(self.models_path, {}), deadlines, retries)
        try:
            return self.read_models(listing)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise WireError(
                f"{self._address.origin} listed its models in an unknown form: {error!r}", backend=self.name
            ) from None


def _find_patience(deadlines: Deadlines, began: float, most: float) -> float:
    """Return how many seconds to wait after the end mark without missing a deadline."""
    left = most if deadlines.total is None else deadlines.total - (time.monotonic() - began)
    return max(0.0, min(most, _SHARE * min(left, deadlines.between_bytes or most)))


def _make_too_large_error(limit: int) -> WireError:
    return WireError(f"the answer is larger than {limit} bytes; if it may be, raise max_answer_bytes= of the backend")


@cache
def _make_user_agent() -> str:
    # The front door is in a higher layer, so it isn't imported here, but looked up.
    return f"mellea/{getattr(sys.modules.get('mellea'), '__version__', '0')}"
