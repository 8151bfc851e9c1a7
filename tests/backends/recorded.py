"""Recorded traffic of real providers, and what has to hold for every decoder of it.

    from tests.backends.recorded import check_cuts, check_splits, exchanges

    @pytest.mark.parametrize("exchange", exchanges("anthropic"))
    def test_it_decodes_however_it_is_split(exchange): check_splits(Decoder, exchange)

    @pytest.mark.parametrize("exchange", exchanges("anthropic"))
    def test_a_cut_is_noticed(exchange): check_cuts(Decoder, exchange, end=rb'"type": ?"message_stop"')

The recordings lie outside the project (`MELLEA_FIXTURES`, by default `../shared/fixtures`); without them
the tests skip. `check_splits` and `check_cuts` also take an `Exchange` made from bytes of the project's own.

What a decoder has to keep to, so that nothing depends on where the reads end: the events that come before
an error in one read are returned, and the error is raised by the next call, `feed(b"")` and `close()` too.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mellea.backends.http.codec import Decoder
from mellea.core.accumulator import Accumulator, Generation
from mellea.core.events import Event, StreamEnd, TextDelta, ToolDelta, ToolEnd, ToolStart, UsageEvent
from mellea.errors import BackendError, InterruptedStreamError
from mellea.testing.replay import replay

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = Path(os.environ.get("MELLEA_FIXTURES") or ROOT.parent / "shared" / "fixtures")

CUTS = 200
"""How many places of a long body are cut."""

TALLY: Counter[str] = Counter()
"""What has been tried, for the line at the end of the test run."""


@dataclass(frozen=True)
class Exchange:
    """One request and its answer."""

    name: str
    body: bytes = field(repr=False)
    dialect: str = "own"
    provider: str = ""
    path: str | None = None
    request: Any = field(default=None, repr=False)
    status: int = 200
    content_type: str = "text/event-stream"


@dataclass
class Outcome:
    """What came of feeding a decoder: the events, and the error that ended it."""

    events: list[Event]
    error: BackendError | None = None

    @property
    def text(self) -> str:
        return "".join(event.chunk for event in self.events if isinstance(event, TextDelta))

    @property
    def generation(self) -> Generation:
        accumulator = Accumulator()
        accumulator.feed(self.events)
        return accumulator.generation()

    def key(self) -> object:
        error = self.error
        return self.events, error and (type(error), str(error), error.partial)


def exchanges(dialect: str, *, streams_only: bool = True) -> list[Any]:
    """Every recorded exchange of a folder, as parameters of a test; one that skips where there is no such folder."""
    files = sorted((FIXTURES / dialect).glob("*.json"))
    if not files:
        reason = f"no recordings in {FIXTURES / dialect}; MELLEA_FIXTURES says where they are"
        return [pytest.param(None, id=f"no-{dialect}", marks=pytest.mark.skip(reason=reason))]
    found = [exchange for file in files for exchange in _read(file)]
    wanted = [each for each in found if not streams_only or "json" not in (each.content_type or "")]
    return [pytest.param(each, id=each.name) for each in wanted]


def own(bodies: Mapping[str, bytes], **fields: Any) -> list[Any]:
    """Return bodies of the project's own as parameters of a test, so that it runs without the recordings too."""
    return [pytest.param(Exchange(name, body, **fields), id=name) for name, body in bodies.items()]


def _read(file: Path) -> Iterator[Exchange]:
    case = json.loads(file.read_text("utf-8"))
    for number, each in enumerate(case["exchanges"], 1):
        yield Exchange(
            name=file.stem if len(case["exchanges"]) == 1 else f"{file.stem}#{number}",
            body=each["body"].encode(),
            dialect=case["dialect"],
            provider=case["provider"],
            path=each["path"],
            request=each["request"],
            status=each["status"],
            content_type=each["content_type"] or "",
        )


def outcome(decoder: Decoder, body: bytes, splits: Iterable[int] = ()) -> Outcome:
    """Feed a decoder and close it; what it raises is part of the outcome."""
    result = Outcome([])
    try:
        for event in replay(decoder, body, splits):
            result.events.append(event)
    except BackendError as error:
        result.error = error
    return result


def check_splits(make: Callable[[], Decoder], exchange: Exchange, *, times: int = 5) -> Outcome:
    """Fail unless the events are the same whole, byte by byte, and split at random places."""
    body = exchange.body
    whole = outcome(make(), body)
    check_order(whole)
    rng = random.Random(exchange.name)
    ways = [("byte by byte", range(1, len(body)))]
    for _ in range(times):
        count = rng.randint(1, max(1, len(body) // 10))
        ways.append((f"in {count} pieces", [rng.randint(0, len(body)) for _ in range(count)]))
    for how, splits in ways:
        assert outcome(make(), body, splits).key() == whole.key(), f"{exchange.name} differs when read {how}"
    TALLY[f"{exchange.dialect} bodies"] += 1
    TALLY[f"{exchange.dialect} splittings"] += len(ways)
    return whole


def check_order(whole: Outcome) -> None:
    """Fail unless the events make sense: one end, last; each call begun, written, and ended once."""
    events = whole.events
    ends = [index for index, event in enumerate(events) if isinstance(event, StreamEnd)]
    assert ends == ([] if whole.error else [len(events) - 1]), f"StreamEnd stands at {ends} of {len(events)}"
    open_calls: dict[str, str] = {}
    for event in events:
        if isinstance(event, ToolStart):
            assert event.tool_call_id not in open_calls, f"{event} comes twice"
            open_calls[event.tool_call_id] = ""
        elif isinstance(event, ToolDelta):
            open_calls[event.tool_call_id] += event.chunk
        elif isinstance(event, ToolEnd):
            written = open_calls.pop(event.tool_call.tool_call_id)
            assert written == event.tool_call.raw_args, f"{written!r} became {event}"
    assert whole.error or not open_calls, f"calls that never ended: {open_calls}"


def check_cuts(
    make: Callable[[], Decoder], exchange: Exchange, *, end: bytes | re.Pattern[bytes], places: int = CUTS
) -> None:
    """Fail unless a cut anywhere is noticed, with the text so far and no call half made.

    Args:
        make: makes a decoder.
        exchange: what to cut.
        end: finds the provider's own end mark. Until the event of its last match has come the stream is
            interrupted; once that event has been ended by an empty line it is complete, except for what
            may still be said about usage. A cut among the line ends between the two may be either.
        places: how many, if there are more.
    """
    body, whole = exchange.body, outcome(make(), exchange.body)
    early, late = _zones(body, end)
    cuts: Iterable[int] = range(len(body))
    if len(body) > places:  # the last ones, and those around the end mark, are the delicate ones
        edges = range(max(0, early - 5), min(late + 5, len(body)))
        cuts = sorted({*random.Random(exchange.name).sample(cuts, places), *range(len(body))[-20:], *edges})
    for cut in cuts:
        _check_cut(whole, outcome(make(), body[:cut]), f"{exchange.name} cut at {cut}", cut < early, cut >= late)
        TALLY[f"{exchange.dialect} cuts"] += 1


def _zones(body: bytes, end: bytes | re.Pattern[bytes]) -> tuple[int, int]:
    """Where the data with the end mark end: their last byte that counts, and the empty line behind their event."""
    marks = [match.end() for match in re.finditer(end, body)]
    line = re.compile(rb"\r\n|\n|\r").search(body, marks[-1]) if marks else None
    # Atomic: a single CRLF isn't two line ends.
    blank = re.compile(rb"(?>\r\n|\n|\r){2}").search(body, marks[-1]) if marks else None
    return (line.start(), blank.end()) if line and blank else (len(body) + 1, len(body) + 1)


def _check_cut(whole: Outcome, part: Outcome, where: str, is_early: bool, is_late: bool) -> None:
    said, all_said = _without_usage(part), _without_usage(whole)
    assert said == all_said[: len(said)], f"{where}: what came before the cut differs"
    if isinstance(part.error, InterruptedStreamError):
        is_whole_cut = isinstance(whole.error, InterruptedStreamError)
        assert is_whole_cut or not is_late, f"{where}: it is complete, yet {part.error!r}"
    elif part.error is not None:
        assert part.key() == whole.key(), f"{where}: {part.error!r}"
    else:
        assert not is_early, f"{where}: the cut wasn't noticed"
        assert len(said) == len(all_said), f"{where}: {all_said[len(said) :]} are missing"
    if part.error is not None:
        assert part.error.partial == part.text, f"{where}: the error's partial is {part.error.partial!r}"


def _without_usage(result: Outcome) -> list[Event]:
    return [event for event in result.events if not isinstance(event, UsageEvent)]


@contextmanager
def replay_server(exchange: Exchange) -> Iterator[str]:
    """Answer every POST on loopback with a recorded response; yields the address, for a provider's own SDK."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(exchange.status)
            self.send_header("content-type", exchange.content_type or "text/event-stream")
            self.send_header("content-length", str(len(exchange.body)))
            self.end_headers()
            self.wfile.write(exchange.body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def summary() -> str | None:
    """One line that says what has been tried: how many files, at how many places, and how many of each provider."""
    if not TALLY:
        return None
    bodies, cuts, splittings, compared = (
        sum(n for what, n in TALLY.items() if what.endswith(kind))
        for kind in ("bodies", "cuts", "splittings", "compared with the provider's client")
    )
    total = (
        f"{bodies} files cut at {cuts} places and split in {splittings} ways, {compared} compared with the provider's "
        "client"
    )
    return f"recorded traffic: {total} ({', '.join(f'{n} {what}' for what, n in sorted(TALLY.items()))})"
