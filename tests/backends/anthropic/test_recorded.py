"""Every recorded stream, however it is split and wherever it is cut; and ours, for the same cases."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from mellea.backends.anthropic.decode import Decoder
from mellea.core.events import StreamEnd
from mellea.errors import InterruptedStreamError, WireError
from mellea.testing import replay
from tests.backends.anthropic import answers
from tests.backends.recorded import Exchange, check_cuts, check_splits, exchanges, outcome, own

END = re.compile(rb'"type": ?"message_stop"')

_START = re.compile(rb"event: message_start\ndata: ")

OURS = {
    "hello": answers.HELLO,
    "hello-crlf": answers.HELLO.replace(b"\n", b"\r\n"),
    "everything": answers.EVERYTHING,
    "interleaved": answers.INTERLEAVED,
    "no-empty-line-at-the-end": answers.HELLO.rstrip(),
}


def make() -> Decoder:
    return Decoder("claude-test")


def _apart(exchange: Exchange) -> list[Exchange]:
    """Take the answers of several requests apart that one recording has put behind one another."""
    if len(END.findall(exchange.body)) < 2:
        return [exchange]
    starts = [match.start() for match in _START.finditer(exchange.body)]
    pieces = [exchange.body[a:b] for a, b in zip(starts, [*starts[1:], len(exchange.body)], strict=True)]
    return [replace(exchange, name=f"{exchange.name}@{n}", body=body) for n, body in enumerate(pieces, 1)]


def _streams() -> list[Any]:
    found = exchanges("anthropic")
    if found[0].values[0] is None:
        return found
    return [pytest.param(each, id=each.name) for param in found for each in _apart(param.values[0])]


def _plain() -> list[Any]:
    found = exchanges("anthropic", streams_only=False)
    return [param for param in found if param.values[0] is None or "json" in param.values[0].content_type]


def _ours() -> list[Any]:
    return own(OURS)


@pytest.mark.parametrize("exchange", [*_streams(), *_ours()])
def test_the_events_are_the_same_however_it_is_split(exchange: Exchange) -> None:
    whole = check_splits(make, exchange)
    if "spliced" in exchange.name:
        assert isinstance(whole.error, WireError) and whole.error.is_retryable
    else:
        assert whole.error is None


@pytest.mark.parametrize("exchange", [*_streams(), *_ours()])
def test_a_cut_is_noticed(exchange: Exchange) -> None:
    # Some recordings lack the empty line behind the last event.
    check_cuts(make, replace(exchange, body=exchange.body.rstrip() + b"\n\n"), end=END)


@pytest.mark.parametrize("exchange", [*_streams(), *_ours()])
def test_white_space_at_the_end_may_be_missing(exchange: Exchange) -> None:
    assert outcome(make(), exchange.body.rstrip()).key() == outcome(make(), exchange.body).key()


@pytest.mark.parametrize("exchange", _streams())
def test_nothing_is_told_after_the_end(exchange: Exchange) -> None:
    once, twice = outcome(make(), exchange.body), outcome(make(), exchange.body + b"\n\n" + exchange.body)
    assert twice.key() == once.key() or once.error is not None


@pytest.mark.parametrize("exchange", _plain())
def test_a_plain_answer_decodes(exchange: Exchange) -> None:
    events = list(replay(Decoder("claude-test"), exchange.body))
    assert isinstance(events[-1], StreamEnd)
    with pytest.raises(InterruptedStreamError, match="JSON"):
        list(replay(Decoder("claude-test"), exchange.body[:-1]))
