"""The codec of a provider's batches, without I/O: the usual requests, many at once, at half the price.

Each exchange with the provider is a generator: it yields the calls to make, is sent their results, and returns its own.
Its driver decides how to make them, and with which retries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote

from pydantic_core import from_json

from mellea.backends.http.fields import encode_json
from mellea.backends.http.outgoing import JobCall
from mellea.errors import BackendError, WireError

__all__ = [
    "MOST_RESULT_BYTES",
    "BatchCodec",
    "BatchOutcome",
    "BatchStatus",
    "Calls",
    "list_pages",
    "read_lines",
    "render_item",
]

T = TypeVar("T")


MOST_RESULT_BYTES = 8 * 1024**3
"""The largest file of results: a batch has up to 2 GB, and answers may be longer than requests."""

Calls = Generator[JobCall, Any, T]


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """The state of a batch.

    Attributes:
        id: the provider's name of it.
        is_over: whether there will be no more answers, so that they can be fetched.
        state: the provider's name for it.
        total: how many requests it has, if the provider reports it.
        intent: its name from its creation, if the provider reports it.
        made: when it was created, in seconds since 1970, if the provider reports it.
        places: where its results are.
    """

    id: str
    is_over: bool
    state: str
    total: int | None = None
    intent: str | None = None
    made: float | None = None
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """The outcome of one request of a batch.

    Attributes:
        key: the request's own.
        body: the answer, as one JSON body.
        error: why there is none.
    """

    key: str
    body: bytes | None = field(default=None, repr=False)
    error: BackendError | None = None


class BatchCodec(ABC):
    """A provider's batches.

    Attributes:
        most_requests: in one batch.
        most_bytes: of one batch, its items together.
    """

    most_requests: ClassVar[int]
    most_bytes: ClassVar[int]

    @abstractmethod
    def encode_item(self, key: str, payload: Mapping[str, Any]) -> bytes:
        """Return one request as JSON for a batch; its key has up to 64 letters, digits, `-` and `_`."""

    @abstractmethod
    def create(self, intent: str, items: Sequence[bytes]) -> Calls[BatchStatus]:
        """Create a batch that can be found again by its intent."""

    @abstractmethod
    def look(self, id: str) -> Calls[BatchStatus]:
        """Ask for the state of a batch."""

    @abstractmethod
    def list_recent(self, since: float) -> Calls[list[BatchStatus]]:
        """List the batches created since then, in seconds since 1970, and perhaps some older ones."""

    @abstractmethod
    def fetch(self, status: BatchStatus) -> Calls[list[BatchOutcome]]:
        """Fetch the outcomes of a finished batch's requests; those without an outcome weren't answered."""

    def fetch_name(self, status: BatchStatus) -> Calls[str | None]:
        """Fetch the key of one request of a finished batch, by which its creator recognises it."""
        outcomes = yield from self.fetch(status)
        return next((outcome.key for outcome in outcomes), None)

    @abstractmethod
    def cancel(self, id: str) -> Calls[BatchStatus]:
        """Cancel a batch; existing answers can still be fetched."""


def list_pages(
    path: str, cursor: str, read: Callable[[Mapping[str, Any]], BatchStatus], since: float
) -> Calls[list[BatchStatus]]:
    """List batches, the latest first, page by page until one is older than `since`.

    Args:
        path: the path of the list, whose pages have `data` and `has_more`.
        cursor: the parameter that takes the id of the last batch of the page before.
        read: returns the state of one batch.
        since: in seconds since 1970.
    """
    found: list[BatchStatus] = []
    after = ""
    while True:
        page = yield JobCall("GET", f"{path}?limit=100{after}")
        found += map(read, page["data"])
        if not page.get("has_more") or not found or (found[-1].made or since) < since:
            return found
        after = f"&{cursor}={quote(found[-1].id, safe='')}"


def read_lines(data: bytes) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a file of JSON lines.

    Raises:
        WireError: a line isn't an object.
    """
    # By `\n` alone: `splitlines` also breaks at characters that may be inside a JSON text.
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        try:
            found = from_json(line)
        except ValueError as error:
            raise WireError(f"a line of the batch's results is not JSON: {error}") from None
        # Other values belong to no request; a later version of the API may add them.
        if isinstance(found, dict):
            yield found


def render_item(item: Mapping[str, Any]) -> bytes:
    """Return a request of a batch as JSON."""
    return encode_json(item)
