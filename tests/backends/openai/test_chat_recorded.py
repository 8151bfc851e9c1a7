"""Chat completions of real services, and ours for the same cases, decoded however the bytes arrive."""

from __future__ import annotations

import pytest

from mellea.backends.openai.chat.decode import Decoder
from tests.backends.openai import answers
from tests.backends.recorded import Exchange, check_cuts, check_splits, exchanges, own

EXCHANGES = [*exchanges("openai_chat"), *own(answers.CHAT)]

FINISHED = rb'"finish_reason": ?"'
ONLY_DONE = rb"data: \[DONE\]"  # Snowflake gives no finish reason


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_the_events_dont_depend_on_the_reads(exchange: Exchange) -> None:
    whole = check_splits(Decoder, exchange)
    assert whole.events
    if whole.error is None:
        generation = whole.generation
        assert generation.text or generation.tool_calls
        assert generation.usage is not None and generation.usage.output_tokens
        assert generation.finish_reason == ("other" if "snowflake" in exchange.name else generation.finish_reason)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_a_cut_is_noticed_anywhere(exchange: Exchange) -> None:
    check_cuts(Decoder, exchange, end=ONLY_DONE if "snowflake" in exchange.name else FINISHED)
