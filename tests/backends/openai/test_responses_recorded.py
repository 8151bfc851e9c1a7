"""Responses of real services, and ours for the same cases, decoded however the bytes arrive."""

from __future__ import annotations

import re

import pytest

from mellea.backends.openai.responses.decode import Decoder
from tests.backends.openai import answers
from tests.backends.recorded import Exchange, check_cuts, check_splits, exchanges, own

EXCHANGES = [*exchanges("openai_responses"), *own(answers.RESPONSES)]

# One recording holds four responses in a row; the first one is the answer.
ENDED = re.compile(rb'\A(?s:.*?)"type": ?"response\.(completed|incomplete|failed)"')


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_the_events_dont_depend_on_the_reads(exchange: Exchange) -> None:
    whole = check_splits(Decoder, exchange)
    if whole.error is None:
        generation = whole.generation
        assert generation.message.blocks
        assert generation.usage is not None and generation.usage.output_tokens
        assert generation.response_id and generation.model


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_a_cut_is_noticed_anywhere(exchange: Exchange) -> None:
    check_cuts(Decoder, exchange, end=ENDED)
