"""Every recorded stream, however it is split and wherever it is cut; and ours, for the same cases."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mellea.backends.gemini.decode import Decoder
from mellea.core.events import StreamEnd
from mellea.errors import InterruptedStreamError
from mellea.testing import replay
from tests.backends.gemini import answers
from tests.backends.recorded import Exchange, check_cuts, check_splits, exchanges, outcome, own

END = re.compile(rb'"finishReason": ?"')


def make() -> Decoder:
    return Decoder("gemini-test")


def plain() -> list[Any]:
    found = exchanges("gemini", streams_only=False)
    return [param for param in found if param.values[0] is None or "json" in param.values[0].content_type]


EVERY = [*exchanges("gemini"), *own(answers.ALL)]


@pytest.mark.parametrize("exchange", EVERY)
def test_the_events_are_the_same_however_it_is_split(exchange: Exchange) -> None:
    assert check_splits(make, exchange).error is None


@pytest.mark.parametrize("exchange", EVERY)
def test_a_cut_is_noticed(exchange: Exchange) -> None:
    check_cuts(make, exchange, end=END)


@pytest.mark.parametrize("exchange", EVERY)
def test_white_space_at_the_end_may_be_missing(exchange: Exchange) -> None:
    assert outcome(make(), exchange.body.rstrip()).key() == outcome(make(), exchange.body).key()


@pytest.mark.parametrize("exchange", plain())
def test_a_plain_answer_decodes(exchange: Exchange) -> None:
    assert isinstance(list(replay(Decoder("gemini-test"), exchange.body))[-1], StreamEnd)
    with pytest.raises(InterruptedStreamError, match="JSON"):
        list(replay(Decoder("gemini-test"), exchange.body[:-1]))
